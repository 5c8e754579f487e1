//! An S3 endpoint, path style, over the twin's [`S3Store`]: what RKE2, Velero and our own access need of one.
//!
//! It takes signatures seriously, and is as strict as Ceph's gateway where public clouds are lenient.

mod multipart;
mod object;
mod signature;
mod xml;

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use jiff::Timestamp;
use rke2flow_engine::clock::Clock;
use tokio::net::{TcpListener, TcpStream};

use self::multipart::Uploads;
use self::signature::{Query, Refusal};
use super::net::{Answer, Tasks, accept, answer, read_body, serve_http};
use crate::s3::store::{S3Error as StoreError, S3Store};
use crate::world::log::Recorder;

/// The largest body of one request.
const BODY_BYTES: usize = 64 << 20;

/// An account of the endpoint.
#[derive(Clone)]
pub struct Credentials {
    /// Access key id.
    pub access_key: String,
    /// Secret access key.
    pub secret_key: String,
}

/// The endpoint.
pub struct S3Server {
    store: Arc<S3Store>,
    credentials: Credentials,
    reader: Option<Credentials>,
    uploads: Uploads,
}

impl S3Server {
    /// An endpoint for this store, that this account may use.
    pub fn new(store: Arc<S3Store>, credentials: Credentials) -> Self {
        Self { store, credentials, reader: None, uploads: Uploads::default() }
    }

    /// An endpoint without a twin around it, with one empty bucket.
    pub fn alone(bucket: &str, credentials: Credentials) -> Self {
        let recorder = Arc::new(Recorder::new(Clock::real()));
        Self::new(Arc::new(S3Store::new(bucket, recorder)), credentials)
    }

    /// A second account, that may read and change nothing.
    pub fn with_reader(self, reader: Credentials) -> Self {
        Self { reader: Some(reader), ..self }
    }

    /// Serves every connection of a listener for as long as this is awaited.
    pub async fn listen(self, listener: TcpListener) {
        let (server, tasks) = (Arc::new(self), Tasks::default());
        let connections = tasks.clone();
        accept(&tasks, listener, move |stream| server.clone().serve(connections.clone(), stream));
        tasks.stopped().await;
    }

    /// Serves one connection.
    pub async fn serve(self: Arc<Self>, tasks: Tasks, stream: TcpStream) {
        serve_http(&tasks, stream, move |request| self.clone().handle(request).map(Some)).await;
    }

    async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        let answered = match read_body(body, BODY_BYTES).await {
            Ok(body) => self.respond(&head, body),
            Err(StatusCode::PAYLOAD_TOO_LARGE) => Err(S3Error::EntityTooLarge),
            Err(_) => Err(S3Error::IncompleteBody),
        };
        answered.unwrap_or_else(|error| error.answer(head.uri.path(), &head.method))
    }

    fn respond(&self, head: &http::request::Parts, body: Bytes) -> Result<Answer, S3Error> {
        self.check(head, &body)?;
        let path = signature::decode(head.uri.path());
        let query = Query::parse(head.uri.query().unwrap_or_default());
        let (bucket, key) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
        if bucket.is_empty() {
            return Err(S3Error::NotImplemented);
        }
        if !self.store.has_bucket(bucket) {
            // Whoever may not create buckets learns that this one is not there.
            return Err(S3Error::NoSuchBucket);
        }
        if key.is_empty() {
            return self.bucket(&head.method, bucket, &query, &body);
        }
        if query.has("uploadId") || query.has("uploads") {
            return self.uploads.respond(&self.store, head, (bucket, key), &query, body);
        }
        object::respond(&self.store, head, (bucket, key), body)
    }

    /// Whether one of the accounts has signed the request, and may do this.
    fn check(&self, head: &http::request::Parts, body: &Bytes) -> Result<(), S3Error> {
        let now = Timestamp::now();
        match (signature::verify(head, body, &self.credentials, now), &self.reader) {
            (Err(Refusal::UnknownKey), Some(reader)) => signature::verify(head, body, reader, now)?,
            (verified, _) => return Ok(verified?),
        }
        let reads = matches!(head.method, Method::GET | Method::HEAD);
        if reads { Ok(()) } else { Err(S3Error::AccessDenied) }
    }

    fn bucket(&self, method: &Method, bucket: &str, query: &Query, body: &[u8]) -> Result<Answer, S3Error> {
        match *method {
            Method::HEAD => Ok(answer(StatusCode::OK, "application/xml", "")),
            Method::PUT => Err(S3Error::BucketAlreadyOwnedByYou),
            Method::GET if query.has("location") => Ok(ok_xml(xml::location())),
            Method::GET if query.get("list-type") == Some("2") => self.list(bucket, query),
            Method::POST if query.has("delete") => {
                let keys = xml::keys_to_delete(body)?;
                for key in &keys {
                    self.store.delete(bucket, key)?;
                }
                Ok(ok_xml(xml::deleted(&keys)))
            }
            _ => Err(S3Error::NotImplemented),
        }
    }

    fn list(&self, bucket: &str, query: &Query) -> Result<Answer, S3Error> {
        /// A page of S3.
        const PAGE: usize = 1000;
        let limit = match query.get("max-keys").map(str::parse::<usize>) {
            Some(Err(_)) => return Err(S3Error::InvalidArgument("max-keys")),
            Some(Ok(limit)) => limit.min(PAGE),
            None => PAGE,
        };
        let prefix = query.get("prefix").unwrap_or_default();
        let token = query.get("continuation-token");
        let after = match token {
            Some(token) => multipart::from_token(token).ok_or(S3Error::InvalidArgument("continuation-token"))?,
            None => query.get("start-after").unwrap_or_default().to_owned(),
        };
        let listing =
            xml::Listing { bucket, prefix, delimiter: query.get("delimiter").unwrap_or_default(), limit, token };
        Ok(ok_xml(listing.render(&self.store, after)?))
    }
}

/// What S3 answers when it does not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
enum S3Error {
    Signature(Refusal),
    AccessDenied,
    NoSuchBucket,
    NoSuchKey,
    NoSuchUpload,
    BucketAlreadyOwnedByYou,
    EntityTooLarge,
    EntityTooSmall,
    IncompleteBody,
    InvalidArgument(&'static str),
    InvalidPart,
    InvalidPartOrder,
    InvalidRange,
    MalformedXml,
    PreconditionFailed,
    TooManyUploads,
    NotImplemented,
}

impl S3Error {
    fn answer(&self, resource: &str, method: &Method) -> Answer {
        let (status, code, message) = self.describe();
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // An answer to HEAD has no body: the client knows the status only.
        let body = if *method == Method::HEAD { String::new() } else { xml::error(code, &message, resource) };
        answer(status, "application/xml", body)
    }

    fn describe(&self) -> (u16, &'static str, String) {
        let (status, code, message) = match self {
            S3Error::Signature(refusal) => return refusal.describe(),
            S3Error::InvalidArgument(what) => return (400, "InvalidArgument", format!("{what} is not valid")),
            S3Error::AccessDenied => (403, "AccessDenied", "Access Denied."),
            S3Error::NoSuchBucket => (404, "NoSuchBucket", "the bucket does not exist"),
            S3Error::NoSuchKey => (404, "NoSuchKey", "the key does not exist"),
            S3Error::NoSuchUpload => {
                (404, "NoSuchUpload", "the upload does not exist: completed, aborted, or never begun")
            }
            S3Error::BucketAlreadyOwnedByYou => (409, "BucketAlreadyOwnedByYou", "the bucket is yours already"),
            S3Error::EntityTooLarge => (400, "EntityTooLarge", "the body exceeds 64 MiB"),
            S3Error::EntityTooSmall => (400, "EntityTooSmall", "a part other than the last is smaller than 5 MiB"),
            S3Error::IncompleteBody => (400, "IncompleteBody", "the body did not arrive whole"),
            S3Error::InvalidPart => (400, "InvalidPart", "a part is missing, or has another ETag"),
            S3Error::InvalidPartOrder => (400, "InvalidPartOrder", "the parts are not in ascending order"),
            S3Error::InvalidRange => (416, "InvalidRange", "the range cannot be satisfied"),
            S3Error::MalformedXml => (400, "MalformedXML", "the XML cannot be understood"),
            S3Error::PreconditionFailed => (412, "PreconditionFailed", "a precondition does not hold"),
            S3Error::TooManyUploads => (503, "SlowDown", "too many uploads are open, or they hold too many bytes"),
            S3Error::NotImplemented => (501, "NotImplemented", "this store does not do that"),
        };
        (status, code, message.to_owned())
    }
}

impl From<StoreError> for S3Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSuchBucket(_) => S3Error::NoSuchBucket,
            StoreError::NoSuchUpload(_) => S3Error::NoSuchUpload,
            StoreError::InvalidPart(_) => S3Error::InvalidPart,
            StoreError::TooLarge => S3Error::EntityTooLarge,
        }
    }
}

impl From<Refusal> for S3Error {
    fn from(refusal: Refusal) -> Self {
        S3Error::Signature(refusal)
    }
}

fn ok_xml(xml: String) -> Answer {
    answer(StatusCode::OK, "application/xml", xml)
}
