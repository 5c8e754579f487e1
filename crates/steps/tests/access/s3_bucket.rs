//! A bucket, against a small store that behaves, and against stores that refuse or lie.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rke2flow_engine::cluster::Cluster;
use rke2flow_steps::access::s3::S3Bucket;
use rke2flow_steps::ports::{AccessError, Bucket};
use rke2flow_steps::secret::Secrets;
use rke2flow_steps::transfer::{Grant, Presigned};

use crate::web::{Answer, Answering, Asked, Authority, serve};

async fn bucket(endpoint: &str, ca: Option<&std::path::Path>) -> Result<S3Bucket, AccessError> {
    let secret = |value: &str| serde_json::json!({ "Command": ["echo", value] });
    let cluster: Cluster = serde_json::from_value(serde_json::json!({
        "format": 1, "name": "c", "hosts": [],
        "s3": { "endpoint": endpoint, "bucket": "b", "ca": ca,
                "access_key": secret("AKIATEST"), "secret_key": secret("hunter22hunter22") },
    }))
    .unwrap();
    let secrets = Secrets::resolve(&cluster).await.unwrap();
    S3Bucket::new(cluster.s3.as_ref().unwrap(), &secrets)
}

async fn plain(answering: Answering) -> S3Bucket {
    let port = serve(None, answering).await;
    bucket(&format!("http://127.0.0.1:{port}"), None).await.unwrap()
}

type Objects = Arc<Mutex<BTreeMap<String, (Vec<u8>, BTreeMap<String, String>)>>>;

/// Put, get, head and list of bucket `b`, two keys a page.
fn store(objects: Objects) -> Answering {
    Arc::new(move |asked| {
        assert!(asked.headers["authorization"].contains("AKIATEST"), "unsigned: {asked:?}");
        let mut objects = objects.lock().unwrap();
        let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
        let Some(key) = path.strip_prefix("/b/").filter(|key| !key.is_empty()) else { return list(&objects, query) };
        if asked.method == "PUT" {
            assert!(!asked.headers.contains_key("x-amz-trailer"), "a streamed checksum: {asked:?}");
            let meta =
                asked.headers.iter().filter_map(|(name, value)| Some((name.strip_prefix("x-amz-meta-")?, value)));
            let meta = meta.map(|(name, value)| (name.to_owned(), value.clone())).collect();
            objects.insert(key.to_owned(), (asked.body, meta));
            return (200, vec![], vec![]);
        }
        let Some((body, meta)) = objects.get(key) else { return refusal(404, "NoSuchKey") };
        let mut headers = vec![("content-length", body.len().to_string())];
        headers.extend(meta.get("sha256").map(|sha256| ("x-amz-meta-SHA256", sha256.clone())));
        (200, headers, if asked.method == "HEAD" { vec![] } else { body.clone() })
    })
}

fn list(objects: &BTreeMap<String, (Vec<u8>, BTreeMap<String, String>)>, query: &str) -> Answer {
    let value = |name: &str| {
        let found = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")));
        found.unwrap_or_default().replace("%2F", "/")
    };
    let (prefix, after) = (value("prefix"), value("continuation-token"));
    let mut keys = objects.iter().filter(|(key, _)| key.starts_with(&prefix) && **key > after);
    let most = value("max-keys").parse().unwrap_or(2).min(2);
    let page: Vec<_> = keys.by_ref().take(most).collect();
    let more = keys.next().is_some();
    let contents: String = page
        .iter()
        .map(|(key, (body, _))| format!("<Contents><Key>{key}</Key><Size>{}</Size></Contents>", body.len()))
        .collect();
    let token =
        page.last().filter(|_| more).map(|(key, _)| format!("<NextContinuationToken>{key}</NextContinuationToken>"));
    let xml = format!(
        "<ListBucketResult><IsTruncated>{more}</IsTruncated>{contents}{}</ListBucketResult>",
        token.unwrap_or_default()
    );
    (200, vec![("content-type", "application/xml".to_owned())], xml.into_bytes())
}

fn refusal(status: u16, code: &str) -> Answer {
    let xml = format!("<Error><Code>{code}</Code><Message>words of the store</Message></Error>");
    (status, vec![("content-type", "application/xml".to_owned())], xml.into_bytes())
}

#[tokio::test]
async fn what_is_put_can_be_looked_at_listed_by_pages_and_got_back() {
    let objects = Objects::default();
    let bucket = plain(store(objects.clone())).await;
    for key in ["p/one", "p/two", "p/three", "p/four", "q/other"] {
        let metadata = BTreeMap::from([("run".to_owned(), "r1".to_owned())]);
        bucket.put(key, key.as_bytes().to_vec(), metadata).await.unwrap();
    }
    assert_eq!(objects.lock().unwrap()["p/one"].1["run"], "r1");
    let head = bucket.head("p/three").await.unwrap().unwrap();
    assert_eq!((head.size, head.metadata["sha256"].len()), (7, 64));
    assert_eq!(bucket.head("p/none").await.unwrap(), None);
    assert_eq!(bucket.get("p/two", 100).await.unwrap().unwrap(), b"p/two");
    assert_eq!(bucket.get("p/none", 100).await.unwrap(), None);
    let keys = |found: Vec<rke2flow_steps::ports::ObjectInfo>| found.into_iter().map(|one| one.key).collect::<Vec<_>>();
    assert_eq!(keys(bucket.list("p/", 100).await.unwrap()), ["p/four", "p/one", "p/three", "p/two"]);
    assert_eq!(keys(bucket.list("p/", 3).await.unwrap()), ["p/four", "p/one", "p/three"]);
}

#[tokio::test]
async fn an_object_that_is_too_large_or_damaged_is_not_returned() {
    let objects = Objects::default();
    let bucket = plain(store(objects.clone())).await;
    bucket.put("one", b"0123456789".to_vec(), BTreeMap::new()).await.unwrap();
    let error = bucket.get("one", 9).await.unwrap_err().to_string();
    assert!(error.ends_with("`one` has 10 bytes, at most 9 are read"), "{error}");
    objects.lock().unwrap().get_mut("one").unwrap().0 = b"0123456780".to_vec();
    let error = bucket.get("one", 10).await.unwrap_err().to_string();
    assert!(error.contains("`one` is damaged"), "{error}");
}

#[tokio::test]
async fn a_store_that_keeps_something_else_than_was_sent_is_found_out() {
    let objects = Objects::default();
    let honest = store(objects);
    let bucket = plain(Arc::new(move |mut asked: Asked| {
        if asked.method == "PUT" {
            asked.body.extend_from_slice(b"chunk header");
        }
        honest(asked)
    }))
    .await;
    let error = bucket.put("one", b"0123456789".to_vec(), BTreeMap::new()).await.unwrap_err();
    assert!(
        matches!(&error, AccessError::Nonsense { why, .. } if why == "`one` was sent with 10 bytes, and has 22"),
        "{error}"
    );
}

#[tokio::test]
async fn every_refusal_says_what_to_do_even_to_a_head_which_has_no_body() {
    let cases = [
        (403, "InvalidAccessKeyId", "does not know `s3.access_key`"),
        (403, "SignatureDoesNotMatch", "`s3.secret_key` does not belong"),
        (403, "RequestTimeTooSkewed", "`timedatectl`"),
        (403, "AccessDenied", "check its policy"),
        (404, "NoSuchBucket", "there is no such bucket"),
        (301, "PermanentRedirect", "another region"),
        (400, "AuthorizationHeaderMalformed", "another region"),
    ];
    for (status, code, advice) in cases {
        let bucket = plain(Arc::new(move |asked| {
            let (status, headers, body) = refusal(status, code);
            (status, headers, if asked.method == "HEAD" { vec![] } else { body })
        }))
        .await;
        let errors = [
            bucket.head("one").await.unwrap_err(),
            bucket.get("one", 10).await.unwrap_err(),
            bucket.put("one", vec![1], BTreeMap::new()).await.unwrap_err(),
            bucket.list("", 10).await.unwrap_err(),
        ];
        for error in errors {
            let AccessError::Refused { why, .. } = &error else { panic!("{code}: {error}") };
            assert!(why.contains(advice) && why.contains("words of the store"), "{code}: {why}");
            assert!(!why.contains("hunter22"), "{why}");
        }
    }
}

#[tokio::test]
async fn a_private_authority_is_trusted_only_when_it_is_named() {
    let authority = Authority::new();
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    authority.write(&ca);
    let port = serve(Some(&authority), store(Objects::default())).await;
    let endpoint = format!("https://127.0.0.1:{port}");
    assert_eq!(bucket(&endpoint, Some(&ca)).await.unwrap().head("one").await.unwrap(), None);
    let error = bucket(&endpoint, None).await.unwrap().head("one").await.unwrap_err();
    assert!(matches!(&error, AccessError::Unreachable { why, .. } if why.contains("certificate")), "{error}");
}

#[tokio::test]
async fn an_endpoint_that_is_no_web_address_is_refused_before_anything_is_sent() {
    for endpoint in ["fsn1.example.com", "ftp://fsn1.example.com", "https://"] {
        let error = bucket(endpoint, None).await.err().unwrap();
        assert!(matches!(&error, AccessError::Refused { why, .. } if why.contains("`s3.endpoint`")), "{error}");
    }
}

/// The real curl, with the request in a file, as a host has it.
fn curl(request: &Presigned, arguments: &[&str]) -> std::process::Output {
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(config.path(), request.curl_config()).unwrap();
    let mut curl = std::process::Command::new("curl");
    curl.args(["--fail", "--silent", "--show-error", "--noproxy", "*", "--config"]).arg(config.path()).args(arguments);
    curl.output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_with_a_presigned_request_and_curl_needs_no_key() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let bucket = plain(Arc::new(move |asked: Asked| {
        seen.lock().unwrap().push(asked);
        (200, vec![], b"the snapshot".to_vec())
    }))
    .await;
    let marks = vec![("rke2-token-hash".to_owned(), "0123456789ab".to_owned())];
    let put = bucket.presign("prod/a b+c", &Grant::Put(marks)).await.unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"0123456789").unwrap();
    let done = curl(&put, &["--upload-file", file.path().to_str().unwrap()]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let get = bucket.presign("prod/a b+c", &Grant::Get).await.unwrap();
    assert_eq!(curl(&get, &[]).stdout, b"the snapshot");
    let asked = asked.lock().unwrap();
    assert_eq!((asked[0].method.as_str(), asked[0].body.as_slice()), ("PUT", b"0123456789".as_slice()));
    assert_eq!(asked[0].headers["x-amz-meta-rke2-token-hash"], "0123456789ab");
    for asked in asked.iter() {
        // Path style, a quarter of an hour, this account; no header carries a key.
        assert!(asked.path.starts_with("/b/prod/a%20b%2Bc?") && asked.path.contains("X-Amz-Expires=900"), "{asked:?}");
        assert!(asked.path.contains("AKIATEST") && !asked.headers.contains_key("authorization"), "{asked:?}");
    }
    // What is signed are the headers that are sent, so that nobody else's marks can be sent with it.
    assert!(asked[0].path.contains("x-amz-meta-rke2-token-hash"), "{:?}", asked[0]);
    assert!(put.signature().is_some_and(|signature| signature.len() == 64) && put.signature() != get.signature());
    assert!(!format!("{put:?}").contains(put.signature().unwrap()));
}
