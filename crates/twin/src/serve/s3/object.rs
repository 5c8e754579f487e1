//! One object: put, get, head, delete, with user metadata, ranges and the conditions that locks are built on.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LAST_MODIFIED, RANGE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::S3Error;
use crate::s3::store::{S3Object, S3Store};
use crate::serve::net::{Answer, answer};

const METADATA: &str = "x-amz-meta-";

/// S3's limit for user metadata.
const METADATA_BYTES: usize = 2048;

/// Answers a request for one object.
pub fn respond(store: &S3Store, head: &Parts, at: (&str, &str), body: Bytes) -> Result<Answer, S3Error> {
    let (bucket, key) = at;
    match head.method {
        Method::PUT if head.headers.contains_key("x-amz-copy-source") => Err(S3Error::NotImplemented),
        Method::PUT => {
            let new_only = head.headers.get(IF_NONE_MATCH).is_some_and(|value| value == "*");
            if new_only && store.look(bucket, key)?.is_some() {
                return Err(S3Error::PreconditionFailed);
            }
            let Described { metadata, content_type } = described(&head.headers)?;
            let object = store.put(bucket, key, body.into(), metadata, &content_type)?;
            Ok(tagged(&object.etag))
        }
        Method::GET | Method::HEAD => read(&store.get(bucket, key)?.ok_or(S3Error::NoSuchKey)?, head),
        Method::DELETE => {
            store.delete(bucket, key)?;
            Ok(answer(StatusCode::NO_CONTENT, "application/xml", ""))
        }
        _ => Err(S3Error::NotImplemented),
    }
}

/// What a request's headers say of an object.
pub struct Described {
    /// User metadata, keys in lower case without `x-amz-meta-`.
    pub metadata: BTreeMap<String, String>,
    /// `Content-Type`; empty for none.
    pub content_type: String,
}

/// Reads [`Described`] from headers.
pub fn described(headers: &HeaderMap) -> Result<Described, S3Error> {
    let mut metadata = BTreeMap::new();
    for (name, value) in headers {
        if let Some(name) = name.as_str().strip_prefix(METADATA) {
            let value = value.to_str().map_err(|_| S3Error::InvalidArgument("x-amz-meta-*"))?;
            metadata.insert(name.to_owned(), value.to_owned());
        }
    }
    if metadata.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > METADATA_BYTES {
        return Err(S3Error::InvalidArgument("x-amz-meta-* (more than 2 KiB)"));
    }
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    Ok(Described { metadata, content_type })
}

/// An empty answer with an ETag.
pub fn tagged(etag: &str) -> Answer {
    let mut answer = answer(StatusCode::OK, "application/xml", "");
    answer.headers_mut().insert(ETAG, entity_tag(etag));
    answer
}

fn entity_tag(etag: &str) -> HeaderValue {
    HeaderValue::try_from(etag).expect("an ETag is made of quotes, hexadecimal digits and `-`")
}

fn read(object: &S3Object, head: &Parts) -> Result<Answer, S3Error> {
    let size = object.bytes.len();
    let asked = head.headers.get(RANGE).and_then(|value| value.to_str().ok());
    let range = asked.and_then(|asked| range(asked, size).transpose()).transpose()?;
    let part = range.clone().unwrap_or(0..size);
    let content_type = if object.content_type.is_empty() { "application/octet-stream" } else { &object.content_type };
    let body =
        if head.method == Method::HEAD { Bytes::new() } else { Bytes::copy_from_slice(&object.bytes[part.clone()]) };
    let mut answer = answer(StatusCode::OK, content_type, body);
    let headers = answer.headers_mut();
    headers.insert(ETAG, entity_tag(&object.etag));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(part.len()));
    let modified = object.modified.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    headers.insert(LAST_MODIFIED, HeaderValue::try_from(modified).expect("a date is plain text"));
    for (name, value) in &object.metadata {
        let name = HeaderName::try_from(format!("{METADATA}{name}"));
        if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    if let Some(range) = range {
        let text = format!("bytes {}-{}/{size}", range.start, range.end - 1);
        headers.insert(CONTENT_RANGE, HeaderValue::try_from(text).expect("numbers are plain text"));
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(answer)
}

/// `bytes=a-b`, `bytes=a-`, `bytes=-n`; a header that is none of them is ignored, as RFC 9110 has it.
fn range(asked: &str, size: usize) -> Result<Option<Range<usize>>, S3Error> {
    let Some((first, last)) = asked.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Ok(None);
    };
    let range = match (first.parse::<usize>(), last.parse::<usize>()) {
        (Ok(first), Ok(last)) if first <= last => first..size.min(last.saturating_add(1)),
        (Ok(first), Err(_)) if last.is_empty() => first..size,
        (Err(_), Ok(count)) if first.is_empty() => size.saturating_sub(count)..size,
        _ => return Ok(None),
    };
    if range.is_empty() { Err(S3Error::InvalidRange) } else { Ok(Some(range)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_the_object_and_refused_beyond_it() {
        assert_eq!(range("bytes=0-0", 10), Ok(Some(0..1)));
        assert_eq!(range("bytes=3-99", 10), Ok(Some(3..10)));
        assert_eq!(range("bytes=7-", 10), Ok(Some(7..10)));
        assert_eq!(range("bytes=-4", 10), Ok(Some(6..10)));
        assert_eq!(range("bytes=-40", 10), Ok(Some(0..10)));
        assert_eq!(range("bytes=10-", 10), Err(S3Error::InvalidRange));
        assert_eq!(range("bytes=-0", 10), Err(S3Error::InvalidRange));
        assert_eq!(range("lines=1-2", 10), Ok(None));
        assert_eq!(range("bytes=5-3", 10), Ok(None));
    }
}
