//! Private keys in files: read, and unlocked with a passphrase that a person is asked for once per key.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::keys::{PrivateKey, PublicKey};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

/// A key file larger than this is none, in bytes.
const KEY_LIMIT_BYTES: u64 = 64 * 1024;
/// How often a passphrase may be wrong.
const PASSPHRASE_TRIES: usize = 3;

/// Asks a person for passphrases.
pub trait Passphrases: Send + Sync {
    /// Shows `question` and reads one line that is not echoed, for as long as the person needs; `None`: there is
    /// nobody to ask, or the person does not want to say.
    fn ask(&self, question: &str) -> Option<SecretString>;
}

/// What a key file holds.
pub(super) enum KeyFile {
    Missing,
    /// It can be used at once.
    Open(Arc<PrivateKey>),
    /// It has a passphrase; its public key is known when the file or the one beside it says so.
    Locked(Option<PublicKey>),
    /// Only the public key: an agent has the other half.
    Public(PublicKey),
}

/// Keys that were unlocked in this process, or that nobody could unlock.
#[derive(Default)]
pub(super) struct KeyRing {
    asking: Option<Arc<dyn Passphrases>>,
    /// Held while a person is asked: two hosts with one key ask once, and two keys one after the other.
    unlocked: Mutex<HashMap<PathBuf, Result<Arc<PrivateKey>, String>>>,
}

impl KeyFile {
    /// Reads a file; the error says what is wrong with it.
    pub(super) fn read(file: &Path) -> Result<Self, String> {
        let shown = file.display();
        let Some(text) = read_text(file)? else { return Ok(Self::Missing) };
        if let Ok(public) = PublicKey::from_openssh(text.expose_secret()) {
            return Ok(Self::Public(public));
        }
        match russh::keys::decode_secret_key(text.expose_secret(), None) {
            Ok(key) => Ok(Self::Open(Arc::new(key))),
            Err(russh::keys::Error::KeyIsEncrypted) => Ok(Self::Locked(public_of(file, text.expose_secret()))),
            Err(other) => Err(format!("key file `{shown}` is not a private key that can be used: {other}")),
        }
    }
}

impl KeyRing {
    pub(super) fn new(asking: Option<Arc<dyn Passphrases>>) -> Self {
        Self { asking, unlocked: Mutex::default() }
    }

    /// The key in a locked file; the error names it and the command that does without the question.
    pub(super) async fn unlock(&self, file: &Path) -> Result<Arc<PrivateKey>, String> {
        let mut unlocked = self.unlocked.lock().await;
        if let Some(known) = unlocked.get(file) {
            return known.clone();
        }
        let (path, asking) = (file.to_owned(), self.asking.clone());
        // Reading a terminal cannot be cut off, and must not stop other tasks.
        let result = tokio::task::spawn_blocking(move || ask(&path, asking.as_deref())).await;
        let result =
            result.unwrap_or_else(|_| Err(format!("asking for the passphrase of `{}` failed", file.display())));
        unlocked.insert(file.to_owned(), result.clone());
        result
    }
}

fn ask(file: &Path, asking: Option<&dyn Passphrases>) -> Result<Arc<PrivateKey>, String> {
    let shown = file.display();
    let instead = format!("run `ssh-add {shown}`, so that the agent has it");
    let Some(text) = read_text(file)? else { return Err(format!("key file `{shown}` has gone")) };
    for attempt in 0..PASSPHRASE_TRIES {
        let again = if attempt == 0 { "" } else { "That was not it. " };
        let answer = asking.and_then(|asking| asking.ask(&format!("{again}Passphrase of {shown}: ")));
        let Some(passphrase) = answer else {
            return Err(format!("key file `{shown}` has a passphrase, and there is no terminal to ask at: {instead}"));
        };
        if let Ok(key) = russh::keys::decode_secret_key(text.expose_secret(), Some(passphrase.expose_secret())) {
            return Ok(Arc::new(key));
        }
    }
    Err(format!("key file `{shown}` could not be unlocked with {PASSPHRASE_TRIES} passphrases: {instead}"))
}

fn read_text(file: &Path) -> Result<Option<SecretString>, String> {
    let unreadable = |error: std::io::Error| format!("key file `{}` cannot be read: {error}", file.display());
    match std::fs::metadata(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
        Ok(metadata) if metadata.len() > KEY_LIMIT_BYTES => {
            return Err(format!("key file `{}` is larger than {KEY_LIMIT_BYTES} bytes", file.display()));
        }
        Ok(_) => {}
    }
    Ok(Some(SecretString::from(std::fs::read_to_string(file).map_err(unreadable)?)))
}

/// OpenSSH's own format has the public half in the clear; for others `ssh-keygen` has left it beside.
fn public_of(file: &Path, text: &str) -> Option<PublicKey> {
    if let Ok(key) = PrivateKey::from_openssh(text) {
        return Some(key.public_key().clone());
    }
    let mut beside = file.as_os_str().to_owned();
    beside.push(".pub");
    let beside = read_text(Path::new(&beside)).ok().flatten()?;
    PublicKey::from_openssh(beside.expose_secret()).ok()
}
