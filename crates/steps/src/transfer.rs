//! A presigned request: what a host needs to move one object of the bucket, and a credential as long as it is valid.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a presigned request may be begun: longer than a slow link needs for [`PUT_BYTES_MAX`] is of no use, since
/// stores look at the time when a request arrives.
pub const VALID: Duration = Duration::from_secs(15 * 60);
/// The largest object of one PUT (S3's own limit); etcd itself supports databases of up to 8 GiB.
pub const PUT_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;
/// The parameter of a presigned URL that makes it a credential.
const SIGNATURE: &str = "X-Amz-Signature=";

/// A request that whoever has it may send, until it expires. It travels to one host and stays in memory there.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presigned {
    /// The URL, signed.
    pub url: String,
    /// Headers that are signed too, and must be sent as they are.
    pub headers: Vec<(String, String)>,
    /// Certificates to trust, PEM; empty: the host's own.
    #[serde(default)]
    pub ca: String,
}

/// What a presigned request may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// Read the object.
    Get,
    /// Write the object, with this user metadata.
    Put(Vec<(String, String)>),
}

impl Presigned {
    /// The part of the URL that no text may show.
    pub fn signature(&self) -> Option<&str> {
        let (_, rest) = self.url.split_once(SIGNATURE)?;
        Some(rest.split('&').next().unwrap_or(rest))
    }

    /// The request as `curl --config` reads it. Nothing in it can end a line or a quoted text early.
    pub fn curl_config(&self) -> String {
        let quoted = |text: &str| {
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
            escaped.chars().filter(|c| !c.is_control()).collect::<String>()
        };
        let mut config = format!("url = \"{}\"\n", quoted(&self.url));
        for (name, value) in &self.headers {
            config.push_str(&format!("header = \"{}\"\n", quoted(&format!("{name}: {value}"))));
        }
        config
    }
}

impl fmt::Debug for Presigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.url.split('?').next().unwrap_or_default();
        write!(f, "Presigned({shown}?[redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presigned() -> Presigned {
        Presigned {
            url: "https://s3.test/b/k?X-Amz-Expires=900&X-Amz-Signature=5ec4e7&x-id=PutObject".to_owned(),
            headers: vec![("x-amz-meta-a".to_owned(), "say \"hi\"\\\nurl = \"https://evil\"".to_owned())],
            ca: String::new(),
        }
    }

    #[test]
    fn the_signature_is_never_shown() {
        assert_eq!(presigned().signature(), Some("5ec4e7"));
        assert_eq!(format!("{:?}", presigned()), "Presigned(https://s3.test/b/k?[redacted])");
    }

    #[test]
    fn a_value_cannot_add_a_line_to_the_configuration() {
        let config = presigned().curl_config();
        assert_eq!(config.lines().count(), 2, "{config}");
        assert!(
            config.ends_with("header = \"x-amz-meta-a: say \\\"hi\\\"\\\\url = \\\"https://evil\\\"\"\n"),
            "{config}"
        );
    }
}
