//! How a typed command becomes one POSIX `sh` script, and how what the script printed is read.

mod answer;
mod envelope;

pub use answer::{AnswerError, answer, decode_text, encode_text};
pub use envelope::{EnvelopeError, parse_envelope};
