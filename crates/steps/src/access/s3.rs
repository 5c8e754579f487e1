//! A bucket of any S3-compatible store: path style, checksums only when required, and a look after every write.

mod explain;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Builder, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use rke2flow_engine::cluster::{S3, Secret};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use self::explain::Explained;
use crate::ports::{AccessError, Bucket, ObjectInfo};
use crate::secret::Secrets;
use crate::transfer::{Grant, Presigned, VALID};

/// User metadata with the object's SHA-256 in hex: what we trust instead of the store's checksums, which differ.
pub const SHA256_KEY: &str = "sha256";

const CONNECT: Duration = Duration::from_secs(5);
const READ: Duration = Duration::from_secs(30);
const ATTEMPT: Duration = Duration::from_secs(120);
const OPERATION: Duration = Duration::from_secs(600);
const STALLED: Duration = Duration::from_secs(20);
/// Attempts of one request: the SDK repeats what is safe to repeat.
const ATTEMPTS: u32 = 3;
/// Objects of one page of a list: S3's own maximum.
const PAGE: usize = 1000;

/// A bucket.
pub struct S3Bucket {
    client: Client,
    bucket: String,
    whom: String,
    /// What a host needs to trust the endpoint; empty: its own certificates do.
    ca: String,
    /// Set once the bucket itself has answered: a HEAD says 404 for a missing bucket just as for a missing object.
    exists: OnceCell<()>,
}

impl S3Bucket {
    /// The bucket that the cluster file names.
    pub fn new(s3: &S3, secrets: &Secrets) -> Result<Self, AccessError> {
        let whom = format!("bucket `{}` at {}", s3.bucket, s3.endpoint);
        let refused = |why: String| AccessError::Refused { whom: whom.clone(), why };
        check_endpoint(&s3.endpoint).map_err(refused)?;
        let value = |field: &str, secret: &Secret| match secrets.value(secret) {
            Some(value) => Ok(value.expose_secret().to_owned()),
            None => Err(refused(format!("`s3.{field}` was not resolved"))),
        };
        let credentials = Credentials::new(
            value("access_key", &s3.access_key)?,
            value("secret_key", &s3.secret_key)?,
            None,
            None,
            "cluster file",
        );
        let config = Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http_client(s3)?)
            .endpoint_url(&s3.endpoint)
            .region(Region::new(s3.region.clone()))
            .credentials_provider(credentials)
            .force_path_style(true)
            // The SDK's default checksums make radosgw and garage refuse, and s3rver store wrong bytes.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(timeouts())
            .stalled_stream_protection(StalledStreamProtectionConfig::enabled().grace_period(STALLED).build())
            .build();
        let ca = s3.ca.as_deref().map(std::fs::read_to_string).transpose();
        let ca = ca.map_err(|error| refused(format!("`s3.ca` cannot be read: {error}")))?.unwrap_or_default();
        let (client, bucket) = (Client::from_conf(config), s3.bucket.clone());
        Ok(Self { client, bucket, whom, ca, exists: OnceCell::new() })
    }

    async fn info(&self, key: &str) -> Result<Option<ObjectInfo>, AccessError> {
        let head = self.client.head_object().bucket(&self.bucket).key(key).send().await;
        match head {
            Ok(found) => Ok(Some(ObjectInfo {
                key: key.to_owned(),
                size: size(&self.whom, key, found.content_length)?,
                metadata: lower_case(found.metadata),
            })),
            Err(error) => match Explained::of(&error) {
                Explained { status: Some(404), .. } => self.bucket_exists().await.map(|()| None),
                // A HEAD has no body, so the reason is only known from a request that has one.
                Explained { status: Some(400 | 301 | 403), .. } => {
                    self.ask().await?;
                    Err(Explained::of(&error).error(&self.whom, key))
                }
                explained => Err(explained.error(&self.whom, key)),
            },
        }
    }

    async fn bucket_exists(&self) -> Result<(), AccessError> {
        self.exists.get_or_try_init(|| self.ask()).await.copied()
    }

    async fn ask(&self) -> Result<(), AccessError> {
        let list = self.client.list_objects_v2().bucket(&self.bucket).max_keys(1).send().await;
        list.map(|_| ()).map_err(|error| Explained::of(&error).error(&self.whom, "the bucket"))
    }
}

#[async_trait]
impl Bucket for S3Bucket {
    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, AccessError> {
        Box::pin(self.info(key)).await
    }

    async fn get(&self, key: &str, limit: usize) -> Result<Option<Vec<u8>>, AccessError> {
        let got = Box::pin(self.client.get_object().bucket(&self.bucket).key(key).send()).await;
        let mut object = match got {
            Ok(object) => object,
            Err(error) => {
                let explained = Explained::of(&error);
                return if explained.code == "NoSuchKey" { Ok(None) } else { Err(explained.error(&self.whom, key)) };
            }
        };
        let promised = size(&self.whom, key, object.content_length)?;
        let nonsense = |why: String| AccessError::Nonsense { whom: self.whom.clone(), why };
        if promised > limit as u64 {
            return Err(nonsense(format!("`{key}` has {promised} bytes, at most {limit} are read")));
        }
        let mut bytes = Vec::new();
        while let Some(part) = object.body.next().await {
            let part = part.map_err(|error| AccessError::Unreachable {
                whom: self.whom.clone(),
                why: format!("`{key}` broke off: {}", super::http::chain(&error)),
            })?;
            bytes.extend_from_slice(&part);
            if bytes.len() > limit {
                return Err(nonsense(format!("`{key}` has more than the {promised} bytes that were promised")));
            }
        }
        let expected = object.metadata.as_ref().and_then(|metadata| metadata.get(SHA256_KEY));
        match expected {
            Some(expected) if *expected != hex(&bytes) => {
                Err(nonsense(format!("`{key}` is damaged: its SHA-256 is not the one it was written with")))
            }
            _ => Ok(Some(bytes)),
        }
    }

    async fn put(&self, key: &str, bytes: Vec<u8>, metadata: BTreeMap<String, String>) -> Result<(), AccessError> {
        let (length, sha256) = (bytes.len() as u64, hex(&bytes));
        let put = self.client.put_object().bucket(&self.bucket).key(key).body(ByteStream::from(bytes));
        let put = metadata.into_iter().fold(put, |put, (name, value)| put.metadata(name, value));
        let sent = Box::pin(put.metadata(SHA256_KEY, &sha256).send()).await;
        sent.map_err(|error| Explained::of(&error).error(&self.whom, key))?;
        // 200 alone proves little: some stores keep something else than what was sent.
        let nonsense = |why: String| AccessError::Nonsense { whom: self.whom.clone(), why };
        match Box::pin(self.info(key)).await? {
            None => Err(nonsense(format!("`{key}` was accepted, and is not there"))),
            Some(found) if found.size != length => {
                Err(nonsense(format!("`{key}` was sent with {length} bytes, and has {}", found.size)))
            }
            Some(found) if found.metadata.get(SHA256_KEY).is_some_and(|kept| *kept != sha256) => {
                Err(nonsense(format!("`{key}` was written by somebody else at the same time")))
            }
            Some(_) => Ok(()),
        }
    }

    async fn list(&self, prefix: &str, limit: usize) -> Result<Vec<ObjectInfo>, AccessError> {
        let (mut found, mut token) = (Vec::new(), None);
        while found.len() < limit {
            let page = i32::try_from((limit - found.len()).min(PAGE)).expect("a page has at most a thousand objects");
            let list = self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix).max_keys(page);
            let answer = Box::pin(list.set_continuation_token(token.clone()).send()).await;
            let answer = answer.map_err(|error| Explained::of(&error).error(&self.whom, prefix))?;
            for object in answer.contents.unwrap_or_default().into_iter().take(limit - found.len()) {
                let key = object.key.unwrap_or_default();
                let size = size(&self.whom, &key, object.size)?;
                found.push(ObjectInfo { key, size, metadata: BTreeMap::new() });
            }
            // A store that gives the same token again would be asked forever.
            match answer.next_continuation_token {
                Some(next) if answer.is_truncated == Some(true) && token.as_ref() != Some(&next) => token = Some(next),
                _ => break,
            }
        }
        Ok(found)
    }

    async fn presign(&self, key: &str, grant: &Grant) -> Result<Presigned, AccessError> {
        let refused = |why: String| AccessError::Refused { whom: self.whom.clone(), why };
        let valid = PresigningConfig::expires_in(VALID).map_err(|error| refused(error.to_string()))?;
        let request = match grant {
            Grant::Get => {
                let get = self.client.get_object().bucket(&self.bucket).key(key);
                get.presigned(valid).await.map_err(|error| super::http::chain(&error))
            }
            Grant::Put(metadata) => {
                let put = self.client.put_object().bucket(&self.bucket).key(key);
                let put = metadata.iter().fold(put, |put, (name, value)| put.metadata(name, value));
                put.presigned(valid).await.map_err(|error| super::http::chain(&error))
            }
        };
        request.map(|request| self.handed_on(&request)).map_err(refused)
    }
}

impl S3Bucket {
    fn handed_on(&self, request: &PresignedRequest) -> Presigned {
        let header = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        // curl knows the length of what it sends.
        let headers = request.headers().filter(|(name, _)| !name.eq_ignore_ascii_case("content-length"));
        Presigned { url: request.uri().to_owned(), headers: headers.map(header).collect(), ca: self.ca.clone() }
    }
}

fn check_endpoint(endpoint: &str) -> Result<(), String> {
    let uri: http::Uri = endpoint.parse().map_err(|error| format!("`s3.endpoint` is not a URL: {error}"))?;
    match (uri.scheme_str(), uri.host()) {
        // Nothing leaves the machine: a twin, or a tunnel.
        (Some("https"), Some(_)) | (Some("http"), Some("127.0.0.1" | "localhost" | "[::1]")) => Ok(()),
        (Some("http"), Some(_)) => {
            tracing::warn!(endpoint, "the bucket is reached without TLS: snapshots hold every secret of the cluster");
            Ok(())
        }
        _ => Err(format!("`s3.endpoint` is `{endpoint}`: expected https://HOST or http://HOST")),
    }
}

fn http_client(s3: &S3) -> Result<aws_sdk_s3::config::SharedHttpClient, AccessError> {
    let builder = aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring));
    let Some(file) = &s3.ca else { return Ok(builder.build_https()) };
    super::http::certificates(file)?;
    let refused = |why: String| AccessError::Refused { whom: format!("certificate file `{}`", file.display()), why };
    let pem = std::fs::read(file).map_err(|error| refused(error.to_string()))?;
    let context = TlsContext::builder().with_trust_store(TrustStore::empty().with_pem_certificate(pem)).build();
    Ok(builder.tls_context(context.map_err(|error| refused(error.to_string()))?).build_https())
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .read_timeout(READ)
        .operation_attempt_timeout(ATTEMPT)
        .operation_timeout(OPERATION)
        .build()
}

fn size(whom: &str, key: &str, length: Option<i64>) -> Result<u64, AccessError> {
    length.and_then(|length| u64::try_from(length).ok()).ok_or_else(|| AccessError::Nonsense {
        whom: whom.to_owned(),
        why: format!("it does not say how large `{key}` is"),
    })
}

fn lower_case(metadata: Option<std::collections::HashMap<String, String>>) -> BTreeMap<String, String> {
    metadata.unwrap_or_default().into_iter().map(|(key, value)| (key.to_lowercase(), value)).collect()
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
