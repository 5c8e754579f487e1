//! Snapshots between a host and a bucket, by presigned requests and a real curl; and that the requests stay out of sight.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use rke2flow_steps::answer::ReceiptAnswer;
use rke2flow_steps::command::{Change, HandedToken, KEPT_SNAPSHOTS};
use rke2flow_steps::transfer::Presigned;

use super::bench::{Bench, claim, etcd_snapshot, order, sha256};

/// What makes a request a credential.
const SIGNATURE: &str = "5ec4e75ec4e75ec4e7";

/// What a store has: body and headers by path.
type Objects = Arc<Mutex<BTreeMap<String, (Vec<u8>, BTreeMap<String, String>)>>>;

/// A store on the loopback that takes signed PUTs and GETs, and answers a wrong one as S3 does: with the signature in it.
struct Store {
    port: u16,
    objects: Objects,
}

impl Store {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, objects) = (listener.local_addr().unwrap().port(), Objects::default());
        let shared = objects.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { break };
                serve(stream, &shared);
            }
        });
        Self { port, objects }
    }

    fn request(&self, signature: &str, headers: &[(&str, &str)]) -> Presigned {
        Presigned {
            url: format!("http://127.0.0.1:{}/b/prod/snap?X-Amz-Expires=900&X-Amz-Signature={signature}", self.port),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ca: String::new(),
        }
    }

    fn put(&self, bytes: Vec<u8>) {
        self.objects.lock().unwrap().insert("/b/prod/snap".to_owned(), (bytes, BTreeMap::new()));
    }
}

fn serve(mut stream: TcpStream, objects: &Objects) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let (method, target) = (line.split(' ').next().unwrap().to_owned(), line.split(' ').nth(1).unwrap().to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    if headers.contains_key("expect") {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
    }
    let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    let (path, query) = target.split_once('?').unwrap();
    let (status, answer) = match method.as_str() {
        _ if !query.ends_with(SIGNATURE) => ("403 Forbidden", format!("<SignatureProvided>{query}").into_bytes()),
        "PUT" => {
            objects.lock().unwrap().insert(path.to_owned(), (body, headers));
            ("200 OK", Vec::new())
        }
        _ => match objects.lock().unwrap().get(path) {
            Some((bytes, _)) => ("200 OK", bytes.clone()),
            None => ("404 Not Found", Vec::new()),
        },
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&answer).unwrap();
}

/// A host whose curl is real, and remembers the arguments that it was given.
fn host() -> Bench {
    let host = Bench::new();
    host.tool(
        "curl",
        "#!/bin/sh\nprintf '%s\\n' \"curl $*\" >>\"$WORLD/log\"\nenv >>\"$WORLD/log\"\nexec /usr/bin/curl \"$@\"\n",
    );
    host
}

fn upload(host: &Bench, request: Presigned) -> Change {
    let file = format!("{}/snap", host.paths.snapshots());
    host.write(&file, etcd_snapshot(1));
    Change::UploadSnapshot { file, sha256: sha256(&etcd_snapshot(1)), request }
}

fn fetch(host: &Bench, sha256: &str, request: Presigned) -> Change {
    let to = format!("{}/snap", host.paths.kept_snapshots());
    Change::FetchSnapshot { to, size: 4128, sha256: sha256.to_owned(), request }
}

/// No file of the host, no argument and no variable of a tool has the signature in it.
fn assert_out_of_sight(host: &Bench) {
    let grep = std::process::Command::new("grep").args(["-rl", "5ec4e7", &host.world("")]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&grep.stdout), "");
    assert!(!host.log().join("\n").contains("5ec4e7"));
}

#[test]
fn a_snapshot_is_uploaded_with_its_marks_and_the_request_is_seen_nowhere() {
    let (host, store) = (host(), Store::new());
    let request = store.request(SIGNATURE, &[("x-amz-meta-rke2-token-hash", "0123456789ab")]);
    host.apply(&upload(&host, request), 1);
    let (bytes, headers) = store.objects.lock().unwrap()["/b/prod/snap"].clone();
    assert_eq!(bytes, etcd_snapshot(1));
    assert_eq!(headers["x-amz-meta-rke2-token-hash"], "0123456789ab");
    assert_eq!(headers["content-length"], "4128");
    assert_out_of_sight(&host);
    assert!(std::fs::read_dir(&host.paths.runtime).unwrap().next().is_none(), "the request is still handed");
}

#[test]
fn what_a_store_answers_to_a_wrong_request_is_not_repeated() {
    let (host, store) = (host(), Store::new());
    let (exit, tail) = host.try_apply(&upload(&host, store.request("5ec4e7-wrong", &[])), 1);
    assert_eq!(exit, 1);
    assert!(tail.contains("HTTP status 403") && !tail.contains("5ec4e7"), "{tail}");
    assert_out_of_sight(&host);
    // The next attempt has another request.
    host.apply(&upload(&host, store.request(SIGNATURE, &[])), 2);
    assert_eq!(store.objects.lock().unwrap().len(), 1);
}

#[test]
fn another_file_than_was_meant_is_not_uploaded() {
    let (host, store) = (host(), Store::new());
    let change = upload(&host, store.request(SIGNATURE, &[]));
    host.write(&format!("{}/snap", host.paths.snapshots()), etcd_snapshot(2));
    assert_eq!(host.try_apply(&change, 1).0, 65);
    assert!(store.objects.lock().unwrap().is_empty());
}

#[test]
fn a_snapshot_is_fetched_once_and_checked() {
    let (host, store) = (host(), Store::new());
    store.put(etcd_snapshot(1));
    for known in [sha256(&etcd_snapshot(1)), String::new()] {
        host.apply(&fetch(&host, &known, store.request(SIGNATURE, &[])), if known.is_empty() { 2 } else { 1 });
    }
    let kept = format!("{}/snap", host.paths.kept_snapshots());
    assert_eq!(std::fs::read(&kept).unwrap(), etcd_snapshot(1));
    assert_eq!(host.log().iter().filter(|line| line.starts_with("curl")).count(), 1);
    assert_out_of_sight(&host);
}

#[test]
fn what_arrives_damaged_short_or_as_another_file_is_not_kept() {
    let (host, store) = (host(), Store::new());
    let mut damaged = etcd_snapshot(1);
    damaged[7] ^= 1;
    let mut attempt = 0;
    for (bytes, known) in [
        (damaged.clone(), sha256(&etcd_snapshot(1))),
        (damaged, String::new()),
        (etcd_snapshot(1)[..2048].to_vec(), String::new()),
        (etcd_snapshot(2), sha256(&etcd_snapshot(1))),
        (Vec::new(), String::new()),
    ] {
        store.put(bytes);
        attempt += 1;
        let (exit, tail) = host.try_apply(&fetch(&host, &known, store.request(SIGNATURE, &[])), attempt);
        assert!(exit == 1 && tail.contains("is not the snapshot"), "{exit} {tail}");
        assert!(std::fs::read_dir(host.paths.kept_snapshots()).unwrap().next().is_none());
    }
}

#[test]
fn a_transfer_that_was_cut_off_is_begun_again_with_another_request() {
    for index in 0..4 {
        let (host, store) = (host(), Store::new());
        store.put(etcd_snapshot(1));
        host.write(&host.world("cut"), (index + 1).to_string());
        host.take(claim(7));
        let first = fetch(&host, &sha256(&etcd_snapshot(1)), store.request(SIGNATURE, &[]));
        let cut = host.place(&order(first.clone(), 1));
        assert!(matches!(cut, ReceiptAnswer::Interrupted { .. }), "{index}: {cut:?}");
        std::fs::remove_file(host.world("cut")).unwrap();
        host.apply(&first, 2);
        assert!(host.exists(&format!("{}/snap", host.paths.kept_snapshots())));
        assert_out_of_sight(&host);
    }
}

#[test]
fn only_the_newest_copies_are_kept() {
    let (host, store) = (host(), Store::new());
    store.put(etcd_snapshot(1));
    for number in 0..KEPT_SNAPSHOTS + 3 {
        let old = format!("{}/old-{number}", host.paths.kept_snapshots());
        host.write(&old, "old");
        let when = std::time::SystemTime::now() - std::time::Duration::from_secs(1000 - u64::from(number));
        std::fs::File::options().append(true).open(&old).unwrap().set_modified(when).unwrap();
    }
    host.apply(&fetch(&host, "", store.request(SIGNATURE, &[])), 1);
    let left = std::fs::read_dir(host.paths.kept_snapshots()).unwrap();
    let mut left: Vec<String> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["old-4", "old-5", "old-6", "old-7", "snap"]);
}

#[test]
fn the_server_token_is_in_its_drop_in_alone_and_goes_with_the_clean_up() {
    use std::os::unix::fs::PermissionsExt as _;
    let host = Bench::new();
    let token = HandedToken::new("K10ca::server:5ec4e7'\"$(id)\\\n");
    let drop_in = host.paths.token_drop_in();
    host.apply(&Change::WriteToken { token: token.clone() }, 1);
    assert_eq!(host.read(&drop_in), "token: \"K10ca::server:5ec4e7'\\\"$(id)\\\\\"\n");
    assert_eq!(sha256(host.read(&drop_in).as_bytes()), token.sha256());
    assert_eq!(std::fs::metadata(&drop_in).unwrap().permissions().mode() & 0o777, 0o600);
    // Again, by the next attempt: the same.
    host.apply(&Change::WriteToken { token: token.clone() }, 2);
    assert_eq!(sha256(host.read(&drop_in).as_bytes()), token.sha256());
    host.apply(&Change::CleanUp, 3);
    assert!(!host.exists(&drop_in));
    assert_out_of_sight(&host);
}

#[test]
fn a_unit_is_enabled() {
    let host = Bench::new();
    host.apply(&Change::EnableUnit, 1);
    assert!(host.log().iter().any(|line| line == "systemctl enable rke2-server.service"), "{:?}", host.log());
}
