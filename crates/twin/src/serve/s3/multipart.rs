//! Uploads in parts: begun, filled, then completed or aborted. And the tokens that name a place in something longer.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::request::Parts;
use http::{Method, StatusCode};
use sha2::{Digest, Sha256};

use super::object::{Described, described, tagged};
use super::signature::{Query, hex};
use super::{S3Error, ok_xml, xml};
use crate::s3::store::S3Store;
use crate::serve::net::{Answer, answer};

/// Uploads that may be open at a time.
const OPEN: usize = 64;

/// Bytes that all open uploads may hold together.
const HELD_BYTES: usize = 512 << 20;

/// The highest part number (S3's limit).
const PARTS: u32 = 10_000;

/// The least size of every part but the last (S3's limit).
const PART_BYTES: usize = 5 << 20;

/// The uploads that are open.
#[derive(Default)]
pub struct Uploads {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    begun: u64,
    open: BTreeMap<String, Upload>,
}

struct Upload {
    bucket: String,
    key: String,
    described: Described,
    parts: BTreeMap<u32, Part>,
}

struct Part {
    bytes: Bytes,
    etag: String,
}

impl Uploads {
    /// Answers a request about an upload.
    pub fn respond(
        &self,
        store: &S3Store,
        head: &Parts,
        at: (&str, &str),
        query: &Query,
        body: Bytes,
    ) -> Result<Answer, S3Error> {
        match (&head.method, query.get("uploadId")) {
            (&Method::POST, None) => self.begin(at, described(&head.headers)?),
            (&Method::PUT, Some(id)) => {
                let number = query.get("partNumber").and_then(|number| number.parse().ok());
                let number = number.filter(|number| (1..=PARTS).contains(number));
                self.part(at, id, number.ok_or(S3Error::InvalidArgument("partNumber"))?, body)
            }
            (&Method::POST, Some(id)) => self.complete(store, at, id, &xml::parts_to_complete(&body)?),
            (&Method::DELETE, Some(id)) => {
                let mut state = self.state();
                upload(&mut state, at, id)?;
                state.open.remove(id);
                Ok(answer(StatusCode::NO_CONTENT, "application/xml", ""))
            }
            _ => Err(S3Error::NotImplemented),
        }
    }

    fn begin(&self, (bucket, key): (&str, &str), described: Described) -> Result<Answer, S3Error> {
        let mut state = self.state();
        if state.open.len() >= OPEN {
            return Err(S3Error::TooManyUploads);
        }
        state.begun += 1;
        let id = to_token(&format!("{}/{key}", state.begun));
        let upload = Upload { bucket: bucket.to_owned(), key: key.to_owned(), described, parts: BTreeMap::new() };
        state.open.insert(id.clone(), upload);
        Ok(ok_xml(xml::upload_begun(bucket, key, &id)))
    }

    fn part(&self, at: (&str, &str), id: &str, number: u32, bytes: Bytes) -> Result<Answer, S3Error> {
        let mut state = self.state();
        let held: usize =
            state.open.values().flat_map(|upload| upload.parts.values()).map(|part| part.bytes.len()).sum();
        if held + bytes.len() > HELD_BYTES {
            return Err(S3Error::TooManyUploads);
        }
        let etag = format!("\"{}\"", hex(&Sha256::digest(&bytes)[..16]));
        let answer = tagged(&etag);
        upload(&mut state, at, id)?.parts.insert(number, Part { bytes, etag });
        Ok(answer)
    }

    fn complete(
        &self,
        store: &S3Store,
        at: (&str, &str),
        id: &str,
        listed: &[(u32, String)],
    ) -> Result<Answer, S3Error> {
        let mut state = self.state();
        let upload = upload(&mut state, at, id)?;
        if listed.is_empty() {
            return Err(S3Error::MalformedXml);
        }
        if !listed.is_sorted_by(|(one, _), (next, _)| one < next) {
            return Err(S3Error::InvalidPartOrder);
        }
        let mut bytes = Vec::new();
        for (index, (number, etag)) in listed.iter().enumerate() {
            let part = upload
                .parts
                .get(number)
                .filter(|part| part.etag.trim_matches('"') == etag)
                .ok_or(S3Error::InvalidPart)?;
            if index + 1 < listed.len() && part.bytes.len() < PART_BYTES {
                return Err(S3Error::EntityTooSmall);
            }
            bytes.extend_from_slice(&part.bytes);
        }
        let Described { metadata, content_type } = &upload.described;
        let object = store.put(at.0, at.1, bytes, metadata.clone(), content_type)?;
        state.open.remove(id);
        Ok(ok_xml(xml::upload_completed(at.0, at.1, &object.etag)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it was held left whole parts only: each change is one insert or remove.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn upload<'a>(state: &'a mut State, (bucket, key): (&str, &str), id: &str) -> Result<&'a mut Upload, S3Error> {
    state.open.get_mut(id).filter(|upload| upload.bucket == bucket && upload.key == key).ok_or(S3Error::NoSuchUpload)
}

/// A text as an opaque token.
pub fn to_token(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// The text of a token; `None`: not one of ours.
pub fn from_token(token: &str) -> Option<String> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()
}
