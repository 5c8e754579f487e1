//! The bucket that RKE2 keeps snapshots in, as `etcd-s3-*` names it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Builder, Region, RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::log;
use super::node::Server;
use super::settings::Settings;

/// How long one operation may take unless `etcd-s3-timeout` says more.
const OPERATION: Duration = Duration::from_secs(300);
/// Objects that one look at a bucket reads.
const LIMIT: i32 = 1000;

/// What RKE2 is told of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct S3 {
    /// Host, and port when it is not the usual one; no scheme.
    endpoint: String,
    /// A file with the endpoint's authority.
    #[serde(rename = "endpointCA", default)]
    authority: String,
    region: String,
    bucket: String,
    folder: String,
    access_key: String,
    secret_key: String,
    /// Plain HTTP.
    insecure: bool,
    /// How many objects of one name are kept.
    retention: u32,
}

impl S3 {
    /// What the settings say; `None` when `etcd-s3` is off.
    pub fn configured(settings: &Settings) -> Option<Self> {
        let text = |name: &str| settings.text(&format!("etcd-s3-{name}"));
        let secret =
            |name: &str, variable: &str| text(name).or_else(|| std::env::var(variable).ok()).unwrap_or_default();
        settings.is_on("etcd-s3").then(|| Self {
            endpoint: text("endpoint").unwrap_or_else(|| "s3.amazonaws.com".to_owned()),
            authority: text("endpoint-ca").unwrap_or_default(),
            region: text("region").unwrap_or_else(|| "us-east-1".to_owned()),
            bucket: text("bucket").unwrap_or_default(),
            folder: text("folder").unwrap_or_default(),
            access_key: secret("access-key", "AWS_ACCESS_KEY_ID"),
            secret_key: secret("secret-key", "AWS_SECRET_ACCESS_KEY"),
            insecure: settings.is_on("etcd-s3-insecure"),
            retention: settings.number("etcd-s3-retention", 5),
        })
    }
}

/// A bucket that has answered.
pub struct Bucket {
    client: Client,
    s3: S3,
}

impl Bucket {
    /// A client for a bucket, once the bucket is known to exist (K3S `pkg/etcd/s3/s3.go` GetClient).
    pub async fn open(s3: &S3) -> Result<Self, String> {
        if s3.bucket.is_empty() {
            return Err("s3 bucket name was not set".to_owned());
        }
        let bucket = Self { client: Client::from_conf(config(s3)?), s3: s3.clone() };
        log::info(format!("Checking if S3 bucket {} exists", s3.bucket));
        match bucket.client.head_bucket().bucket(&s3.bucket).send().await {
            Ok(_) => Ok(bucket),
            Err(error) if error.raw_response().is_some_and(|answer| answer.status().as_u16() == 404) => {
                Err(format!("bucket {} does not exist", s3.bucket))
            }
            Err(error) => {
                Err(format!("failed to test for existence of bucket {}: {}", s3.bucket, DisplayErrorContext(&error)))
            }
        }
    }

    /// `s3://bucket/folder/file`
    pub fn location(&self, file: &str) -> String {
        format!("s3://{}/{}", self.s3.bucket, self.key(file))
    }

    /// What a record says of the bucket: no secret.
    pub fn description(&self) -> Value {
        json!({
            "endpoint": self.s3.endpoint, "bucket": self.s3.bucket, "region": self.s3.region,
            "prefix": self.s3.folder, "insecure": self.s3.insecure,
        })
    }

    /// Uploads a file.
    pub async fn put(&self, file: &str, bytes: Vec<u8>, metadata: BTreeMap<String, String>) -> Result<(), String> {
        let request =
            self.client.put_object().bucket(&self.s3.bucket).key(self.key(file)).body(ByteStream::from(bytes));
        let request = metadata.into_iter().fold(request, |request, (name, value)| request.metadata(name, value));
        request.send().await.map(drop).map_err(|error| refusal(&error))
    }

    /// Snapshots with their sizes. The folder is a bare prefix: `prod` also finds `prod-eu/…`.
    pub async fn list(&self) -> Result<Vec<(String, u64)>, String> {
        let objects = self.objects(&self.s3.folder).await?;
        Ok(objects.into_iter().map(|(key, size, _)| (base_name(&key), size)).collect())
    }

    /// Deletes a snapshot; whether there was one does not matter.
    pub async fn delete(&self, file: &str) -> Result<(), String> {
        self.client
            .delete_object()
            .bucket(&self.s3.bucket)
            .key(self.key(file))
            .send()
            .await
            .map(drop)
            .map_err(|error| refusal(&error))
    }

    /// Keeps the newest objects whose key begins with the folder and the name: those of all nodes, and of longer names.
    pub async fn retain(&self, name: &str) -> Result<Vec<String>, String> {
        if self.s3.retention < 1 {
            return Ok(Vec::new());
        }
        let mut objects = self.objects(&self.key(name)).await?;
        objects.sort_by_key(|(_, _, seconds)| std::cmp::Reverse(*seconds));
        let mut deleted = Vec::new();
        for (key, ..) in objects.into_iter().skip(self.s3.retention as usize) {
            log::info(format!("Removing S3 snapshot: s3://{}/{key}", self.s3.bucket));
            let file = base_name(&key);
            self.delete(&file).await?;
            deleted.push(file);
        }
        Ok(deleted)
    }

    async fn get(&self, file: &str) -> Result<Vec<u8>, String> {
        let object = self
            .client
            .get_object()
            .bucket(&self.s3.bucket)
            .key(self.key(file))
            .send()
            .await
            .map_err(|error| refusal(&error))?;
        object.body.collect().await.map(|bytes| bytes.to_vec()).map_err(|error| error.to_string())
    }

    async fn objects(&self, prefix: &str) -> Result<Vec<(String, u64, i64)>, String> {
        let request = self.client.list_objects_v2().bucket(&self.s3.bucket).prefix(prefix).max_keys(LIMIT);
        let page = request.send().await.map_err(|error| refusal(&error))?;
        let objects = page.contents().iter().filter_map(|object| {
            let key = object.key()?.to_owned();
            let size = u64::try_from(object.size().unwrap_or(0)).unwrap_or(0);
            Some((key, size, object.last_modified().map_or(0, |at| at.secs())))
        });
        Ok(objects.filter(|(key, ..)| !key.contains("/.metadata/")).collect())
    }

    fn key(&self, file: &str) -> String {
        let folder = self.s3.folder.trim_matches('/');
        if folder.is_empty() { file.to_owned() } else { format!("{folder}/{file}") }
    }
}

/// Fetches an object of the configured bucket into the directory of snapshots, where a reset expects it.
pub async fn download(server: &Server, file: &str) -> Result<PathBuf, String> {
    let s3 = S3::configured(&server.settings).ok_or("s3 configuration was not set")?;
    let bucket = Bucket::open(&s3).await.map_err(|error| format!("failed to initialize S3 client: {error}"))?;
    let failed = |error: String| format!("failed to download snapshot from S3: {error}");
    let bytes = bucket.get(file).await.map_err(failed)?;
    let directory = server.layout.snapshots();
    std::fs::create_dir_all(&directory).map_err(|error| failed(error.to_string()))?;
    let path = directory.join(base_name(file));
    std::fs::write(&path, bytes).map_err(|error| failed(error.to_string()))?;
    Ok(path)
}

/// The seconds at the end of a snapshot's name.
pub fn seconds_in(file: &str) -> i64 {
    let name = file.strip_suffix(".zip").unwrap_or(file);
    name.rsplit('-').next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0)
}

fn config(s3: &S3) -> Result<aws_sdk_s3::Config, String> {
    let builder = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring));
    let http = if s3.authority.is_empty() {
        builder.build_https()
    } else {
        let pem = std::fs::read(&s3.authority).map_err(|error| format!("{}: {error}", s3.authority))?;
        let trust = TrustStore::empty().with_pem_certificate(pem);
        builder
            .tls_context(TlsContext::builder().with_trust_store(trust).build().map_err(|error| error.to_string())?)
            .build_https()
    };
    let scheme = if s3.insecure { "http" } else { "https" };
    Ok(Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .endpoint_url(format!("{scheme}://{}", s3.endpoint))
        .region(Region::new(s3.region.clone()))
        .credentials_provider(Credentials::new(&s3.access_key, &s3.secret_key, None, None, "config.yaml"))
        .force_path_style(true)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .timeout_config(aws_sdk_s3::config::timeout::TimeoutConfig::builder().operation_timeout(OPERATION).build())
        .build())
}

fn refusal<E: ProvideErrorMetadata + std::error::Error + 'static>(error: &E) -> String {
    match (error.code(), error.message()) {
        (_, Some(message)) => message.to_owned(),
        (Some(code), None) => code.to_owned(),
        (None, None) => DisplayErrorContext(error).to_string(),
    }
}

fn base_name(key: &str) -> String {
    key.rsplit('/').next().unwrap_or(key).to_owned()
}
