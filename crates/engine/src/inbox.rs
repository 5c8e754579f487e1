//! The inbox of a run: how another process pauses, aborts, approves, skips, retries. One file per command, renamed
//! into place, so that a command is either there whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::record::Command;

/// How many commands are taken at once; the rest waits for the next look.
const COMMANDS_MAX: usize = 64;

/// The longest command, in bytes.
const COMMAND_BYTES_MAX: u64 = 16 * 1024;

/// The directory `inbox/` of a run.
#[derive(Debug, Clone)]
pub struct Inbox(PathBuf);

/// A command that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// The file's name.
    pub id: String,
    /// What is asked, or why it cannot be read.
    pub command: Result<Command, String>,
}

impl Inbox {
    /// The inbox in this directory, which is created when something is sent.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self(directory.into())
    }

    /// Puts a command into the inbox. It is durable when this returns; returns its id.
    pub fn send(&self, command: &Command, now: jiff::Timestamp) -> io::Result<String> {
        fs::create_dir_all(&self.0)?;
        let id = format!("{}-{}.json", now.as_microsecond(), std::process::id());
        let path = self.0.join(&id);
        let unfinished = path.with_extension("unfinished");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        serde_json::to_writer(&mut file, command)?;
        file.flush()?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)?;
        sync_directory(&self.0)?;
        Ok(id)
    }

    /// What is in the inbox, oldest first.
    pub fn look(&self) -> Vec<Received> {
        let Ok(entries) = fs::read_dir(&self.0) else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(".json")).collect();
        names.sort();
        names.truncate(COMMANDS_MAX);
        names.into_iter().map(|id| Received { command: self.read(&id), id }).collect()
    }

    /// Takes a command out: it has been journaled, or cannot be read.
    pub fn remove(&self, id: &str) {
        // If it cannot be removed, it is found again and ignored by its id.
        let _ = fs::remove_file(self.0.join(id));
    }

    fn read(&self, id: &str) -> Result<Command, String> {
        let mut text = String::new();
        let file = File::open(self.0.join(id)).map_err(|error| error.to_string())?;
        file.take(COMMAND_BYTES_MAX).read_to_string(&mut text).map_err(|error| error.to_string())?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_in_the_order_in_which_they_were_sent_until_they_are_taken_out() {
        let directory = tempfile::tempdir().unwrap();
        let inbox = Inbox::at(directory.path().join("inbox"));
        let (first, second) =
            (Command::Continue { who: "a".into() }, Command::Retry { step: "x".into(), who: "b".into() });
        let early = jiff::Timestamp::from_second(1_800_000_000).unwrap();
        let id = inbox.send(&first, early).unwrap();
        inbox.send(&second, early + jiff::SignedDuration::from_secs(1)).unwrap();
        let found: Vec<_> = inbox.look().into_iter().map(|received| received.command.unwrap()).collect();
        assert_eq!(found, [first, second.clone()]);
        inbox.remove(&id);
        assert_eq!(inbox.look().len(), 1);
        assert_eq!(inbox.look()[0].command, Ok(second));
    }

    #[test]
    fn a_file_that_is_not_a_command_is_found_with_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("1-1.json"), "{\"Explode\":{}}").unwrap();
        fs::write(directory.path().join("2-1.unfinished"), "{").unwrap();
        let found = Inbox::at(directory.path()).look();
        assert_eq!(found.len(), 1);
        assert!(found[0].command.as_ref().unwrap_err().contains("Explode"));
    }
}
