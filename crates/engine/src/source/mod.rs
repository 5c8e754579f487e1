//! A text that a person wrote: read with limits, and asked for the place of a piece of it.

mod mark;
mod parse;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use crate::diagnostic::Diagnostic;

pub use mark::{Mark, Marked};
pub(crate) use mark::{note_template, take};
pub(crate) use parse::{locate, parse, to_ron};

/// The largest file that is read: 1 MiB. A runbook of that size has some ten thousand steps.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A text with the name it is spoken of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceText {
    name: String,
    text: Arc<str>,
}

/// A piece of a line, counted from 1 in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The first character.
    pub column: usize,
    /// How many characters.
    pub width: usize,
}

impl SourceText {
    /// A text that is here already, such as an embedded runbook.
    pub fn new(name: impl Into<String>, text: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// Reads a file. Refuses what is no regular file, is larger than [`FILE_BYTES_MAX`], or is not UTF-8 text.
    pub fn read(path: &Path) -> Result<Self, Diagnostic> {
        let name = path.display().to_string();
        let refused = |message: String| Diagnostic::error(message).in_file(name.clone());
        let cannot = |error: std::io::Error| refused(format!("cannot read `{name}`: {}", reason(&error)));
        // The kind is looked at before opening: opening a FIFO would wait for a writer.
        let found = std::fs::metadata(path).map_err(cannot)?;
        if found.is_dir() {
            return Err(refused(format!("`{name}` is a directory")).help("name the file in it"));
        }
        if !found.is_file() {
            return Err(refused(format!("`{name}` is not a regular file")));
        }
        let too_large = |size: String| {
            refused(format!("`{name}` is larger than {} bytes ({size}); it was not read", FILE_BYTES_MAX))
        };
        if found.len() > FILE_BYTES_MAX {
            return Err(too_large(format!("{} bytes", found.len())));
        }
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(cannot)?;
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(too_large("it grew while it was read".to_owned()));
        }
        Self::from_bytes(name.clone(), bytes)
    }

    fn from_bytes(name: String, bytes: Vec<u8>) -> Result<Self, Diagnostic> {
        let refused = |message: String| Diagnostic::error(message).in_file(name.clone());
        let text = String::from_utf8(bytes).map_err(|error| {
            refused(format!("`{name}` is not text: byte {} is not UTF-8", error.utf8_error().valid_up_to()))
        })?;
        if let Some(at) = text.find('\0') {
            return Err(refused(format!("`{name}` is not text: byte {at} is zero")));
        }
        if text.trim().is_empty() {
            return Err(refused(format!("`{name}` is empty")));
        }
        Ok(Self::new(name, text))
    }

    /// The name it is spoken of: a path, or `embedded …`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// SHA-256 of the text, hex.
    pub fn digest(&self) -> String {
        use sha2::{Digest, Sha256};
        Sha256::digest(self.text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A line, counted from 1; empty beyond the end.
    pub(crate) fn line(&self, number: usize) -> &str {
        self.text.lines().nth(number.saturating_sub(1)).unwrap_or_default()
    }
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}
