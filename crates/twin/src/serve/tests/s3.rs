//! The S3 endpoint before the AWS SDK, and before a client that signs wrongly.

use aws_credential_types::Credentials;
use aws_sdk_s3::config::{BehaviorVersion, Region, RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, Delete, ObjectIdentifier};
use aws_sdk_s3::{Client, Config};
use aws_smithy_http_client::Builder;

use super::stand_in::{BUCKET, Stage};
use crate::serve::Backend;

fn client(stage: &Stage, secret: &str, checksums: RequestChecksumCalculation) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("fsn1"))
        .endpoint_url(&stage.running.cluster.s3.as_ref().unwrap().endpoint)
        .force_path_style(true)
        .credentials_provider(Credentials::from_keys("STANDIN", secret, None))
        .http_client(Builder::new().build_http())
        .retry_config(aws_sdk_s3::config::retry::RetryConfig::disabled())
        .request_checksum_calculation(checksums)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .build();
    Client::from_conf(config)
}

fn usual(stage: &Stage) -> Client {
    client(stage, &stage.stand_in.credentials().secret_key, RequestChecksumCalculation::WhenRequired)
}

fn code<E: ProvideErrorMetadata + std::fmt::Debug, T: std::fmt::Debug>(refused: Result<T, SdkError<E>>) -> String {
    let error = refused.expect_err("the store refuses");
    error.code().map(str::to_owned).unwrap_or_else(|| format!("{error:?}"))
}

#[tokio::test]
async fn an_object_comes_back_with_its_metadata_whole_and_in_part() {
    let stage = Stage::of(1, 0).await;
    let s3 = usual(&stage);
    for key in ["plain", "folder/a b+c=d&e%41é~()*'!", "empty"] {
        let body = if key == "empty" { Vec::new() } else { b"0123456789".to_vec() };
        let put = s3.put_object().bucket(BUCKET).key(key).metadata("Sha256", "ab c").body(body.clone().into());
        put.send().await.unwrap();
        let head = s3.head_object().bucket(BUCKET).key(key).send().await.unwrap();
        assert_eq!(head.content_length(), Some(body.len() as i64), "{key}");
        assert_eq!(head.metadata().unwrap().get("sha256").map(String::as_str), Some("ab c"));
        assert!(head.last_modified().is_some() && head.e_tag().is_some());
        let got = s3.get_object().bucket(BUCKET).key(key).send().await.unwrap();
        assert_eq!(got.body.collect().await.unwrap().to_vec(), body);
    }
    let part = s3.get_object().bucket(BUCKET).key("plain").range("bytes=2-4").send().await.unwrap();
    assert_eq!(part.content_range(), Some("bytes 2-4/10"));
    assert_eq!(part.body.collect().await.unwrap().to_vec(), b"234");
    assert_eq!(code(s3.get_object().bucket(BUCKET).key("plain").range("bytes=10-").send().await), "InvalidRange");
    stage.stop().await;
}

/// The status that the real curl is answered with.
async fn curl(arguments: &[&str], request: &PresignedRequest) -> String {
    let mut curl = std::process::Command::new("curl");
    curl.args(["--silent", "--show-error", "--noproxy", "*", "--output", "-", "--write-out", "%{http_code}"]);
    for (name, value) in request.headers() {
        curl.arg("--header").arg(format!("{name}: {value}"));
    }
    curl.args(arguments).arg(request.uri());
    let output = tokio::task::spawn_blocking(move || curl.output().unwrap()).await.unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn a_presigned_request_may_do_what_was_signed_and_nothing_else() {
    let stage = Stage::of(1, 0).await;
    let s3 = usual(&stage);
    let valid = || PresigningConfig::expires_in(std::time::Duration::from_secs(60)).unwrap();
    let put = s3.put_object().bucket(BUCKET).key("a b+c").metadata("sha256", "abc").presigned(valid()).await.unwrap();
    assert_eq!(curl(&["--request", "PUT", "--data-binary", "0123"], &put).await, "200");
    let head = s3.head_object().bucket(BUCKET).key("a b+c").send().await.unwrap();
    assert_eq!(head.metadata().unwrap().get("sha256").map(String::as_str), Some("abc"));
    let get = s3.get_object().bucket(BUCKET).key("a b+c").presigned(valid()).await.unwrap();
    assert_eq!(curl(&[], &get).await, "0123200");
    assert!(curl(&["--request", "DELETE"], &get).await.contains("SignatureDoesNotMatch"));

    let begun = std::time::SystemTime::now() - std::time::Duration::from_secs(120);
    let old = PresigningConfig::builder().start_time(begun).expires_in(std::time::Duration::from_secs(60));
    let expired = s3.get_object().bucket(BUCKET).key("a b+c").presigned(old.build().unwrap()).await.unwrap();
    assert!(curl(&[], &expired).await.contains("RequestTimeTooSkewed"));
    let another = client(&stage, "another", RequestChecksumCalculation::WhenRequired);
    let forged = another.get_object().bucket(BUCKET).key("a b+c").presigned(valid()).await.unwrap();
    assert!(curl(&[], &forged).await.contains("SignatureDoesNotMatch"));
    stage.stop().await;
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_missing() {
    let stage = Stage::of(1, 0).await;
    let s3 = usual(&stage);
    assert_eq!(code(s3.get_object().bucket(BUCKET).key("none").send().await), "NoSuchKey");
    let head = s3.head_object().bucket(BUCKET).key("none").send().await;
    assert!(head.unwrap_err().into_service_error().is_not_found());
    assert_eq!(code(s3.get_object().bucket("other").key("none").send().await), "NoSuchBucket");
    s3.delete_object().bucket(BUCKET).key("none").send().await.expect("deleting what is not there succeeds");
    stage.stop().await;
}

#[tokio::test]
async fn a_listing_comes_in_pages_by_prefix_and_by_folder() {
    let stage = Stage::of(1, 0).await;
    let s3 = usual(&stage);
    for index in 0..7 {
        let key = format!("velero/backups/b{index}/é & co.json");
        s3.put_object().bucket(BUCKET).key(key).body(ByteStream::from_static(b"{}")).send().await.unwrap();
    }
    s3.put_object().bucket(BUCKET).key("velero/a").body(ByteStream::from_static(b"a")).send().await.unwrap();
    s3.put_object().bucket(BUCKET).key("zz").body(ByteStream::from_static(b"z")).send().await.unwrap();

    let mut pages = s3.list_objects_v2().bucket(BUCKET).prefix("velero/backups/").max_keys(3).into_paginator().send();
    let mut sizes = Vec::new();
    let mut keys = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.unwrap();
        sizes.push(page.contents().len());
        keys.extend(page.contents().iter().map(|object| object.key().unwrap().to_owned()));
    }
    assert_eq!(sizes, [3, 3, 1]);
    assert_eq!(keys.len(), 7);
    assert_eq!(keys[6], "velero/backups/b6/é & co.json");

    let folders = s3.list_objects_v2().bucket(BUCKET).prefix("velero/").delimiter("/").send().await.unwrap();
    let names: Vec<_> = folders.common_prefixes().iter().map(|prefix| prefix.prefix().unwrap()).collect();
    assert_eq!(names, ["velero/backups/"]);
    assert_eq!(folders.contents().len(), 1);

    let gone = Delete::builder()
        .set_objects(Some(keys.iter().map(|key| ObjectIdentifier::builder().key(key).build().unwrap()).collect()));
    let gone = s3.delete_objects().bucket(BUCKET).delete(gone.build().unwrap()).send().await.unwrap();
    assert_eq!(gone.deleted().len(), 7);
    let left = s3.list_objects_v2().bucket(BUCKET).send().await.unwrap();
    assert_eq!(left.key_count(), Some(2));
    stage.stop().await;
}

#[tokio::test]
async fn parts_become_one_object_and_wrong_ones_do_not() {
    let stage = Stage::of(1, 0).await;
    let s3 = usual(&stage);
    let begun = s3.create_multipart_upload().bucket(BUCKET).key("big").metadata("kind", "x").send().await.unwrap();
    let id = begun.upload_id().unwrap();
    let mut parts = Vec::new();
    for (number, body) in [(1, vec![b'a'; 5 << 20]), (2, b"tail".to_vec())] {
        let part = s3.upload_part().bucket(BUCKET).key("big").upload_id(id).part_number(number).body(body.into());
        let etag = part.send().await.unwrap().e_tag().unwrap().to_owned();
        parts.push(CompletedPart::builder().part_number(number).e_tag(etag).build());
    }
    let complete = |parts: Vec<CompletedPart>| {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        s3.complete_multipart_upload().bucket(BUCKET).key("big").upload_id(id).multipart_upload(parts).send()
    };
    assert_eq!(code(complete(vec![parts[1].clone(), parts[0].clone()]).await), "InvalidPartOrder");
    let wrong = CompletedPart::builder().part_number(1).e_tag("\"00\"").build();
    assert_eq!(code(complete(vec![wrong]).await), "InvalidPart");
    complete(parts.clone()).await.unwrap();
    let head = s3.head_object().bucket(BUCKET).key("big").send().await.unwrap();
    assert_eq!(head.content_length(), Some((5 << 20) + 4));
    assert_eq!(head.metadata().unwrap()["kind"], "x");
    assert_eq!(code(complete(parts).await), "NoSuchUpload");
    stage.stop().await;
}

#[tokio::test]
async fn an_object_that_must_be_new_is_not_overwritten() {
    let stage = Stage::of(1, 0).await;
    let s3 = usual(&stage);
    let put =
        || s3.put_object().bucket(BUCKET).key("lock").if_none_match("*").body(ByteStream::from_static(b"1")).send();
    put().await.unwrap();
    assert_eq!(code(put().await), "PreconditionFailed");
    stage.stop().await;
}

#[tokio::test]
async fn a_wrong_secret_or_a_foreign_key_is_refused() {
    let stage = Stage::of(1, 0).await;
    let s3 = client(&stage, "another secret", RequestChecksumCalculation::WhenRequired);
    let put = s3.put_object().bucket(BUCKET).key("x").body(ByteStream::from_static(b"x")).send().await;
    assert_eq!(code(put), "SignatureDoesNotMatch");
    let config = s3.config().to_builder().credentials_provider(Credentials::from_keys("NOBODY", "x", None)).build();
    assert_eq!(code(Client::from_conf(config).list_objects_v2().bucket(BUCKET).send().await), "InvalidAccessKeyId");
    assert_eq!(stage.stand_in.bucket().keys(BUCKET, "").len(), 0);
    stage.stop().await;
}

#[tokio::test]
async fn a_body_in_signed_chunks_is_refused_as_ceph_does() {
    let stage = Stage::of(1, 0).await;
    let file = stage.dir().join("body");
    std::fs::write(&file, vec![7; 100_000]).unwrap();
    let secret = stage.stand_in.credentials().secret_key;
    let put = async |checksums| {
        let body = ByteStream::from_path(&file).await.unwrap();
        client(&stage, &secret, checksums).put_object().bucket(BUCKET).key("streamed").body(body).send().await
    };
    assert_eq!(code(put(RequestChecksumCalculation::WhenSupported).await), "XAmzContentSHA256Mismatch");
    assert_eq!(stage.stand_in.bucket().keys(BUCKET, "").len(), 0);
    put(RequestChecksumCalculation::WhenRequired).await.unwrap();
    assert_eq!(stage.stand_in.bucket().look(BUCKET, "streamed").unwrap().unwrap().bytes.len(), 100_000);
    stage.stop().await;
}
