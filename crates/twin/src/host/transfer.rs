//! Snapshots that move between a host and the bucket: RKE2's own uploads, and ours by presigned requests.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use rke2flow_engine::id::HostName;
use rke2flow_steps::command::KEPT_SNAPSHOTS;
use rke2flow_steps::token::token_hash;
use rke2flow_steps::transfer::Presigned;

use crate::host::look::hex;
use crate::host::stage::StageResult;
use crate::kube::store::has_trailer;
use crate::spec::Fault;
use crate::world::World;

const DONE: StageResult = Ok(String::new());
const METADATA: &str = "x-amz-meta-";

/// What became of an upload of RKE2's own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Upload {
    Whole,
    Truncated,
    Lost,
}

impl World {
    /// RKE2's own upload after a save: whatever becomes of it, the command ends well (k3s#13087). Returns how many bytes
    /// RKE2 believes to have uploaded; `None`: it has failed.
    pub(crate) fn upload(&mut self, name: &HostName, file: &str, bytes: &[u8]) -> Option<usize> {
        let sent = match self.fate_of_upload() {
            Upload::Lost => return None,
            Upload::Truncated => bytes[..bytes.len() / 2].to_vec(),
            Upload::Whole => bytes.to_vec(),
        };
        let marks = [
            ("cluster-id", self.cluster_id()),
            ("node-name", name.to_string()),
            ("token-hash", token_hash(&self.spec.token).unwrap_or_default()),
        ];
        let marks = marks.map(|(key, value)| (self.distribution().upload_mark(key), value)).into();
        let key = format!("{}/{file}", self.spec.folder);
        let stored = self.bucket.store(&self.spec.bucket, &key, sent, marks, "application/octet-stream");
        stored.ok().map(|_| bytes.len())
    }

    fn fate_of_upload(&mut self) -> Upload {
        if self.strikes(|fault| if let Fault::UploadFails(times) = fault { Some(times) } else { None }) {
            Upload::Lost
        } else if self.strikes(|fault| if let Fault::UploadTruncated(times) = fault { Some(times) } else { None }) {
            Upload::Truncated
        } else {
            Upload::Whole
        }
    }

    /// The UID of kube-system, by which RKE2 marks its uploads.
    fn cluster_id(&self) -> String {
        let store = self.reached().map(|plane| &self.planes[plane].store);
        let system = store.and_then(|store| {
            let mut all = store.all();
            all.find(|(key, _)| key.plural == "namespaces" && key.name == "kube-system")
                .map(|(_, object)| object.clone())
        });
        system.and_then(|object| object["metadata"]["uid"].as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// Our own upload, stage by stage.
    pub(crate) fn upload_snapshot(
        &mut self,
        name: &HostName,
        file: &str,
        sha256: &str,
        request: &Presigned,
        stage: &str,
    ) -> StageResult {
        let Some(found) = self.host(name).disk.files.get(file) else { return Err(format!("{file} does not exist")) };
        if hex(&found.bytes) != sha256 {
            return Err(format!("{file} does not have the digest {sha256}"));
        }
        if stage == "verify-source" {
            return DONE;
        }
        let bytes = found.bytes.to_vec();
        if self.strikes(|fault| if let Fault::BucketRefusesHosts(times) = fault { Some(times) } else { None }) {
            return Err("the bucket was not reached or refused: curl ended with 22, HTTP status 503".to_owned());
        }
        let (bucket, key) = place(request)?;
        let named = |(name, value): &(String, String)| Some((name.strip_prefix(METADATA)?.to_owned(), value.clone()));
        let marks: BTreeMap<String, String> = request.headers.iter().filter_map(named).collect();
        let put = self.bucket.put(&bucket, &key, bytes, marks, "application/octet-stream");
        put.map(|_| "the bucket answered 200".to_owned()).map_err(|error| error.to_string())
    }

    /// A snapshot comes from the bucket, stage by stage.
    pub(crate) fn fetch_snapshot(
        &mut self,
        name: &HostName,
        to: &str,
        expected: (u64, &str),
        request: &Presigned,
        stage: &str,
    ) -> StageResult {
        let part = format!("{to}.part");
        match stage {
            "fetch" if self.is_whole(name, to, to, expected) => Ok(format!("{to} is here already")),
            "fetch" => {
                let (bucket, key) = place(request)?;
                let found = self.bucket.get(&bucket, &key).map_err(|error| error.to_string())?;
                let object =
                    found.ok_or("the bucket was not reached or refused: curl ended with 22, HTTP status 404")?;
                self.write_file(name, part, object.bytes.to_vec());
                DONE
            }
            "verify-arrival" if self.host(name).disk.files.contains_key(&part) => {
                match self.is_whole(name, &part, to, expected) {
                    true => DONE,
                    false => {
                        self.host_mut(name).disk.files.remove(&part);
                        Err("what came is not the snapshot: its checksum does not fit".to_owned())
                    }
                }
            }
            "publish" => {
                let files = &mut self.host_mut(name).disk.files;
                if let Some(found) = files.remove(&part) {
                    files.insert(to.to_owned(), found);
                }
                DONE
            }
            "prune" => {
                self.prune(name, to);
                DONE
            }
            _ => DONE,
        }
    }

    fn is_whole(&self, name: &HostName, path: &str, to: &str, (size, sha256): (u64, &str)) -> bool {
        let Some(file) = self.host(name).disk.files.get(path) else { return false };
        let fits = match sha256 {
            "" => to.ends_with(".zip") || has_trailer(&file.bytes),
            sha256 => hex(&file.bytes) == sha256,
        };
        file.bytes.len() as u64 == size && fits
    }

    fn prune(&mut self, name: &HostName, newest: &str) {
        let below = format!("{}/", self.paths.kept_snapshots());
        let files = &mut self.host_mut(name).disk.files;
        let mut kept: Vec<_> =
            files.iter().filter(|(path, _)| path.starts_with(&below)).map(|(p, f)| (f.modified, p.clone())).collect();
        kept.sort();
        for (_, path) in kept.into_iter().rev().skip(KEPT_SNAPSHOTS as usize).filter(|(_, path)| path != newest) {
            files.remove(&path);
        }
    }
}

/// Bucket and key of a request, path style. One without a signature is nobody's.
fn place(request: &Presigned) -> Result<(String, String), String> {
    let refused = || "the bucket was not reached or refused: curl ended with 22, HTTP status 403".to_owned();
    request.signature().filter(|signature| !signature.is_empty()).ok_or_else(refused)?;
    let (_, rest) = request.url.split_once("://").ok_or_else(refused)?;
    let path = rest.split('?').next().and_then(|address| address.split_once('/')).map(|(_, path)| path);
    let (bucket, key) = path.and_then(|path| path.split_once('/')).ok_or_else(refused)?;
    Ok((bucket.to_owned(), percent_decode_str(key).decode_utf8_lossy().into_owned()))
}
