//! What a script printed, as a type of [`crate::answer`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;

use crate::ports::Output;

/// Characters of a strange output that an error shows.
const SHOWN: usize = 400;

/// Why an output is not an answer.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The script failed before it could answer.
    #[error("the script ended with status {exit}: {stderr}")]
    Failed {
        /// Exit status.
        exit: i32,
        /// The end of its standard error.
        stderr: String,
    },
    /// The output is not the JSON that was asked for.
    #[error("expected {expected}, got `{found}`: {why}")]
    Strange {
        /// The type that was expected.
        expected: &'static str,
        /// The beginning of what came.
        found: String,
        /// What the reader of JSON says.
        why: serde_json::Error,
    },
    /// A text that is not base64.
    #[error("text that is not base64: {0}")]
    Base64(#[from] base64::DecodeError),
}

/// Reads an answer from the last line of an output that is not empty: a login shell may print a greeting before it.
pub fn answer<T: DeserializeOwned>(output: &Output) -> Result<T, AnswerError> {
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
    match line {
        Some(line) if output.exit == 0 => serde_json::from_str(line).map_err(|why| AnswerError::Strange {
            expected: std::any::type_name::<T>(),
            found: line.chars().take(SHOWN).collect(),
            why,
        }),
        _ => Err(AnswerError::Failed {
            exit: output.exit,
            stderr: String::from_utf8_lossy(&output.stderr).trim().chars().take(SHOWN).collect(),
        }),
    }
}

/// Free text of an answer, such as [`crate::answer::Tail::text`].
pub fn decode_text(base64: &str) -> Result<Vec<u8>, AnswerError> {
    Ok(STANDARD.decode(base64.trim())?)
}

/// Free text as an answer carries it.
pub fn encode_text(text: &[u8]) -> String {
    STANDARD.encode(text)
}
