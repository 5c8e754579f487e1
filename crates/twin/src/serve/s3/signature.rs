//! Signature version 4 as a server checks it (AWS General Reference, "Signature Version 4 signing process").

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use http::request::Parts;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest, Sha256};

use super::Credentials;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SIGNATURE: &str = "X-Amz-Signature";
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// How far the client's clock may be off.
const SKEW_SECONDS: i64 = 900;

/// What stays as it is in a canonical request: RFC 3986's unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const ENCODED_PATH: &AsciiSet = &ENCODED.remove(b'/');

/// Why a request is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No signature, or one of another kind.
    Anonymous,
    /// A header that cannot be understood.
    Malformed,
    /// Nobody has this access key.
    UnknownKey,
    /// Another secret, or another request than the one that was signed.
    Mismatch,
    /// The clocks differ too much.
    Skewed,
    /// The body is not the one that was signed, or is sent in signed chunks, which Ceph 16 does not take.
    Payload,
}

impl Refusal {
    /// Status, code and message.
    pub fn describe(self) -> (u16, &'static str, String) {
        let (status, code, message) = match self {
            Refusal::Anonymous => (403, "AccessDenied", "the request is not signed with AWS4-HMAC-SHA256"),
            Refusal::Malformed => {
                (400, "AuthorizationHeaderMalformed", "the Authorization header cannot be understood")
            }
            Refusal::UnknownKey => (403, "InvalidAccessKeyId", "nobody has this access key"),
            Refusal::Mismatch => (403, "SignatureDoesNotMatch", "the signature is another one: check the secret key"),
            Refusal::Skewed => {
                (403, "RequestTimeTooSkewed", "the clocks differ by more than 15 minutes, or the request has expired")
            }
            Refusal::Payload => (400, "XAmzContentSHA256Mismatch", "x-amz-content-sha256 does not match the body"),
        };
        (status, code, message.to_owned())
    }
}

/// Checks a request's signature, its time, and the digest of its body.
pub fn verify(head: &Parts, body: &Bytes, account: &Credentials, now: Timestamp) -> Result<(), Refusal> {
    let query = Query::parse(head.uri.query().unwrap_or_default());
    let signed = match text(&head.headers, "authorization") {
        Some(authorization) => Signed::in_header(authorization, &head.headers)?,
        None => Signed::in_query(&query)?,
    };
    let (access_key, scope) = signed.credential.split_once('/').ok_or(Refusal::Malformed)?;
    if access_key != account.access_key {
        return Err(Refusal::UnknownKey);
    }
    let sent = DateTime::strptime("%Y%m%dT%H%M%SZ", signed.time).map_err(|_| Refusal::Malformed)?;
    let sent = sent.to_zoned(TimeZone::UTC).map_err(|_| Refusal::Malformed)?.timestamp();
    let age_seconds = now.as_second() - sent.as_second();
    if age_seconds < -SKEW_SECONDS || age_seconds > signed.valid_seconds {
        return Err(Refusal::Skewed);
    }
    let canonical = canonical_request(head, &query, signed.headers, signed.payload).ok_or(Refusal::Malformed)?;
    let digest = hex(&Sha256::digest(canonical.as_bytes()));
    let to_sign = format!("{ALGORITHM}\n{}\n{scope}\n{digest}", signed.time);
    let key = signing_key(&account.secret_key, scope, signed.time).ok_or(Refusal::Malformed)?;
    if hex(&sign(&key, &to_sign)) != signed.signature {
        return Err(Refusal::Mismatch);
    }
    match signed.payload {
        UNSIGNED => Ok(()),
        digest if digest == hex(&Sha256::digest(body)) => Ok(()),
        _ => Err(Refusal::Payload),
    }
}

/// What a request says of its signature.
struct Signed<'a> {
    credential: &'a str,
    headers: &'a str,
    signature: &'a str,
    time: &'a str,
    payload: &'a str,
    valid_seconds: i64,
}

impl<'a> Signed<'a> {
    fn in_header(authorization: &'a str, headers: &'a HeaderMap) -> Result<Self, Refusal> {
        let fields = authorization.strip_prefix(ALGORITHM).ok_or(Refusal::Anonymous)?;
        let field = |name: &str| {
            let field = fields.split(',').find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='));
            field.ok_or(Refusal::Malformed)
        };
        Ok(Self {
            credential: field("Credential")?,
            headers: field("SignedHeaders")?,
            signature: field("Signature")?,
            time: text(headers, "x-amz-date").ok_or(Refusal::Malformed)?,
            payload: text(headers, "x-amz-content-sha256").ok_or(Refusal::Payload)?,
            valid_seconds: SKEW_SECONDS,
        })
    }

    /// A presigned URL: whoever has it may make this one request until it expires.
    fn in_query(query: &'a Query) -> Result<Self, Refusal> {
        if query.get("X-Amz-Algorithm") != Some(ALGORITHM) {
            return Err(Refusal::Anonymous);
        }
        let field = |name: &str| query.get(name).ok_or(Refusal::Malformed);
        let valid_seconds = field("X-Amz-Expires")?.parse().map_err(|_| Refusal::Malformed)?;
        Ok(Self {
            credential: field("X-Amz-Credential")?,
            headers: field("X-Amz-SignedHeaders")?,
            signature: field(SIGNATURE)?,
            time: field("X-Amz-Date")?,
            payload: query.get("X-Amz-Content-Sha256").unwrap_or(UNSIGNED),
            valid_seconds,
        })
    }
}

/// `None` when the scope is not `<date of the request>/<region>/s3/aws4_request`.
fn signing_key(secret: &str, scope: &str, time: &str) -> Option<Vec<u8>> {
    let mut parts = scope.split('/');
    let (date, region, service, end) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if !time.starts_with(date) || date.len() != 8 || service != "s3" || end != "aws4_request" || parts.next().is_some()
    {
        return None;
    }
    let start = format!("AWS4{secret}").into_bytes();
    Some([date, region, service, end].into_iter().fold(start, |key, part| sign(&key, part)))
}

/// `None` when a header that must be signed is not, or a signed one is missing.
fn canonical_request(head: &Parts, query: &Query, signed_headers: &str, payload: &str) -> Option<String> {
    let signed: Vec<&str> = signed_headers.split(';').collect();
    let amz = head.headers.keys().filter(|name| name.as_str().starts_with("x-amz-"));
    if !signed.contains(&"host") || amz.into_iter().any(|name| !signed.contains(&name.as_str())) {
        return None;
    }
    let mut headers = String::new();
    for name in &signed {
        let mut values = head.headers.get_all(*name).iter().map(|value| value.to_str().ok()).peekable();
        values.peek()?;
        let values: Vec<String> = values.map(|value| value.map(one_spaced)).collect::<Option<_>>()?;
        headers.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    let path = utf8_percent_encode(&decode(head.uri.path()), ENCODED_PATH).to_string();
    let query = query.canonical();
    Some(format!("{}\n{path}\n{query}\n{headers}\n{signed_headers}\n{payload}", head.method))
}

fn one_spaced(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A request's query, decoded.
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Splits and decodes; `+` stands for itself, as S3 has it.
    pub fn parse(query: &str) -> Self {
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        };
        Self { pairs: query.split('&').filter(|part| !part.is_empty()).map(pair).collect() }
    }

    /// Whether there is such a parameter, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A parameter's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn canonical(&self) -> String {
        let encode = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
        // A signature does not sign itself.
        let signed = self.pairs.iter().filter(|(name, _)| name != SIGNATURE);
        let mut pairs: Vec<_> = signed.map(|(name, value)| (encode(name), encode(value))).collect();
        pairs.sort();
        pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
    }
}

/// Percent-decoded; what is not UTF-8 is replaced, and will not match a signature.
pub fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sign(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
