//! What a store's refusal means, and what to do about it.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::access::http::chain;
use crate::ports::AccessError;

/// An error of the SDK, taken apart.
pub(super) struct Explained {
    pub status: Option<u16>,
    pub code: String,
    words: String,
    /// Whether the request may have been carried out.
    unknown: bool,
}

impl Explained {
    pub(super) fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let code = error.code().unwrap_or_default().to_owned();
        let words = match error.message() {
            Some(message) => message.to_owned(),
            None => chain(error),
        };
        let unknown = matches!(error, SdkError::TimeoutError(_) | SdkError::ResponseError(_));
        Self { status, code, words, unknown }
    }

    /// The error that people see; `about` is the key or what else was asked for.
    pub(super) fn error(self, whom: &str, about: &str) -> AccessError {
        let whom = whom.to_owned();
        let Some(status) = self.status else {
            let why = format!("{about}: {}", self.words);
            return if self.unknown {
                AccessError::Unknown { whom, why }
            } else {
                AccessError::Unreachable { whom, why }
            };
        };
        let said = format!("{about}: {status} {}: {}", self.code, self.words);
        match self.advice(status) {
            Some(advice) => AccessError::Refused { whom, why: format!("{said} ({advice})") },
            None if status >= 500 || status == 429 => AccessError::Unreachable { whom, why: said },
            None => AccessError::Refused { whom, why: said },
        }
    }

    fn advice(&self, status: u16) -> Option<&'static str> {
        Some(match (self.code.as_str(), status) {
            ("RequestTimeTooSkewed", _) => "the clock of this machine is wrong: check `timedatectl`",
            ("InvalidAccessKeyId", _) => "the store does not know `s3.access_key`",
            ("SignatureDoesNotMatch", _) => "`s3.secret_key` does not belong to `s3.access_key`",
            ("NoSuchBucket", _) => "there is no such bucket: check `s3.bucket` and `s3.endpoint`",
            ("AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException", _)
            | (_, 301 | 307 | 308) => "the bucket is in another region: check `s3.region` and `s3.endpoint`",
            ("AccessDenied", _) | (_, 401 | 403) => {
                "the key may not do this: check its policy, `s3.bucket` and `s3.access_key`"
            }
            _ => return None,
        })
    }
}
