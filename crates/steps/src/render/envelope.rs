//! The first line of every script: the envelope as a comment.

use crate::command::{ENVELOPE_MARK, ENVELOPE_VERSION, Envelope};

/// Why a script's first line is not an envelope that this program understands.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// The script does not begin with [`ENVELOPE_MARK`].
    #[error("the first line does not begin with `{ENVELOPE_MARK}`")]
    NoMark,
    /// Another version.
    #[error("envelope version {found}, expected {ENVELOPE_VERSION}: written by another version of rke2flow")]
    Version {
        /// What the script says.
        found: u64,
    },
    /// Not the JSON of an envelope.
    #[error("the envelope is not readable: {0}")]
    Json(#[from] serde_json::Error),
}

/// Reads the typed command back from a script. The rest of the script is not looked at.
pub fn parse_envelope(script: &str) -> Result<Envelope, EnvelopeError> {
    let line = script.lines().next().unwrap_or_default();
    let json = line.strip_prefix(ENVELOPE_MARK).ok_or(EnvelopeError::NoMark)?;
    let value: serde_json::Value = serde_json::from_str(json)?;
    let found = value.get("v").and_then(serde_json::Value::as_u64).unwrap_or_default();
    if found != u64::from(ENVELOPE_VERSION) {
        return Err(EnvelopeError::Version { found });
    }
    Ok(serde_json::from_value(value)?)
}

/// What a script hands to its unit apart from it; empty: nothing. For who interprets scripts instead of running them.
pub fn handed_text(script: &str) -> String {
    let line = script.lines().find_map(|line| line.strip_prefix("handed_text="));
    line.and_then(shlex::split).and_then(|words| words.into_iter().next()).unwrap_or_default()
}

/// The first line of a script, without its end.
pub(super) fn first_line(envelope: &Envelope) -> String {
    let json = serde_json::to_string(envelope).expect("an envelope has text keys only and cannot fail to be JSON");
    format!("{ENVELOPE_MARK}{json}")
}
