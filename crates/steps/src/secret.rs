//! Secrets: found where the cluster file says they are, held in memory only, and taken out of every text that leaves.

use std::fmt;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use rke2flow_engine::cluster::{Cluster, Secret};
use secrecy::{ExposeSecret, SecretString};
use tokio::io::AsyncReadExt;

/// How long a program may take to print a secret.
const COMMAND_LIMIT: Duration = Duration::from_secs(10);
/// The longest secret, in bytes: a private key with room to spare.
const VALUE_LIMIT_BYTES: u64 = 64 * 1024;
/// A shorter value would be found in half of all texts, and can be guessed.
const SHORTEST_BYTES: usize = 4;
/// What stands where a secret was.
const REDACTED: &str = "[redacted]";

/// The resolved secrets of one cluster file.
#[derive(Clone, Default)]
pub struct Secrets {
    values: Vec<(Secret, SecretString)>,
}

/// A secret that cannot be used, and why. Never holds the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The field of the cluster file: `s3.access_key`.
    pub field: &'static str,
    /// Where it was looked for and what was found instead.
    pub why: String,
}

/// Every secret of a cluster file that cannot be used, so that one look is enough to mend them all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read {} of the cluster file: {}", plural(.0.len()), list(.0))]
pub struct MissingSecrets(pub Vec<Missing>);

impl Secrets {
    /// Resolves every secret that the cluster file mentions, once; names all that are missing.
    pub async fn resolve(cluster: &Cluster) -> Result<Self, MissingSecrets> {
        let mut mentioned: Vec<(&'static str, &Secret)> = Vec::new();
        if let Some(s3) = &cluster.s3 {
            mentioned.push(("s3.access_key", &s3.access_key));
            mentioned.push(("s3.secret_key", &s3.secret_key));
        }
        if let Some(token) = &cluster.token {
            mentioned.push(("token", token));
        }
        let found = futures::future::join_all(mentioned.iter().map(|(_, secret)| read(secret))).await;
        let (mut values, mut missing) = (Vec::new(), Vec::new());
        for ((field, secret), result) in mentioned.into_iter().zip(found) {
            match result {
                Ok(value) => values.push((secret.clone(), value)),
                Err(why) => missing.push(Missing { field, why }),
            }
        }
        if missing.is_empty() { Ok(Self { values }) } else { Err(MissingSecrets(missing)) }
    }

    /// The value of a secret that was resolved; `None` for one that the cluster file does not mention.
    pub fn value(&self, secret: &Secret) -> Option<&SecretString> {
        self.values.iter().find(|(known, _)| known == secret).map(|(_, value)| value)
    }

    /// A redactor that knows every one of them.
    pub fn redactor(&self) -> Redactor {
        let redactor = Redactor::default();
        for (_, value) in &self.values {
            redactor.learn(value.expose_secret());
        }
        redactor
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.values.len())
    }
}

/// Takes every secret that it knows out of a text. Clones share what they know.
#[derive(Clone, Default)]
pub struct Redactor {
    known: Arc<RwLock<Vec<SecretString>>>,
}

impl Redactor {
    /// Adds a value, and each line of one that has several; what is shorter than 4 bytes is left out.
    pub fn learn(&self, value: &str) {
        let mut known = self.known.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        for part in std::iter::once(value).chain(value.lines()) {
            let part = part.trim();
            let new = part.len() >= SHORTEST_BYTES && known.iter().all(|old| old.expose_secret() != part);
            if new {
                known.push(SecretString::from(part));
            }
        }
        // The longest first: a secret that contains another one must not leave its rest behind.
        known.sort_by_key(|secret| std::cmp::Reverse(secret.expose_secret().len()));
    }

    /// The text without the secrets, also where the text begins or ends in the middle of one.
    pub fn redact(&self, text: &str) -> String {
        let known = self.known.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut clean = text.to_owned();
        for secret in known.iter().map(ExposeSecret::expose_secret) {
            if clean.contains(secret) {
                clean = clean.replace(secret, REDACTED);
            }
        }
        for secret in known.iter().map(ExposeSecret::expose_secret) {
            clean = without_cut_ends(clean, secret);
        }
        clean
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

/// A tail begins anywhere, and a bounded output ends anywhere: both can hold part of a secret.
fn without_cut_ends(mut text: String, secret: &str) -> String {
    let long_enough = |part: &&str| part.len() >= SHORTEST_BYTES;
    let cut_start = secret.char_indices().skip(1).map(|(at, _)| &secret[at..]).take_while(long_enough);
    if let Some(part) = cut_start.into_iter().find(|part| text.starts_with(*part)) {
        text.replace_range(..part.len(), REDACTED);
    }
    let cut_end = secret.char_indices().rev().map(|(at, _)| &secret[..at]).take_while(long_enough);
    if let Some(part) = cut_end.into_iter().find(|part| text.ends_with(*part)) {
        text.truncate(text.len() - part.len());
        text.push_str(REDACTED);
    }
    text
}

async fn read(secret: &Secret) -> Result<SecretString, String> {
    let (from, bytes) = match secret {
        Secret::Env(name) => (format!("environment variable `{name}`"), from_environment(name)),
        Secret::File(path) => (format!("file `{}`", path.display()), from_file(path).await),
        Secret::Command(words) => {
            let program = words.first().map_or("", String::as_str);
            (format!("command `{program}`"), from_command(words).await)
        }
    };
    let value = bytes.and_then(checked).map_err(|why| format!("{from} {why}"))?;
    Ok(SecretString::from(value))
}

fn checked(bytes: Vec<u8>) -> Result<String, String> {
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
    let value = text.strip_suffix('\n').unwrap_or(&text);
    let value = value.strip_suffix('\r').unwrap_or(value);
    match value.trim().len() {
        0 => Err("is empty".to_owned()),
        short if short < SHORTEST_BYTES => Err(format!("is shorter than {SHORTEST_BYTES} bytes")),
        _ => Ok(value.to_owned()),
    }
}

fn from_environment(name: &str) -> Result<Vec<u8>, String> {
    match std::env::var(name) {
        Ok(value) => Ok(value.into_bytes()),
        Err(std::env::VarError::NotPresent) => Err("is not set".to_owned()),
        Err(std::env::VarError::NotUnicode(_)) => Err("is not UTF-8".to_owned()),
    }
}

async fn from_file(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    bounded(file).await.map_err(|why| match why {
        ReadError::Io(error) => unreadable(error),
        ReadError::TooLong => format!("is longer than {VALUE_LIMIT_BYTES} bytes"),
    })
}

async fn from_command(words: &[String]) -> Result<Vec<u8>, String> {
    let (program, arguments) = words.split_first().ok_or("names no program")?;
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("cannot be started: {error}"))?;
    let stdout = child.stdout.take().ok_or("has no output")?;
    let ended = tokio::time::timeout(COMMAND_LIMIT, async {
        let bytes = bounded(stdout).await;
        drop(bytes.is_err().then(|| child.start_kill()));
        (bytes, child.wait().await)
    });
    let seconds = COMMAND_LIMIT.as_secs();
    let (bytes, status) = ended.await.map_err(|_| format!("did not end within {seconds} s"))?;
    let bytes = bytes.map_err(|why| match why {
        ReadError::Io(error) => format!("cannot be read: {error}"),
        ReadError::TooLong => format!("printed more than {VALUE_LIMIT_BYTES} bytes"),
    })?;
    let status = status.map_err(|error| format!("cannot be waited for: {error}"))?;
    // What it printed is not shown: half a secret may be in it.
    if status.success() { Ok(bytes) } else { Err(format!("ended with {status}")) }
}

enum ReadError {
    Io(std::io::Error),
    TooLong,
}

async fn bounded(source: impl tokio::io::AsyncRead + Unpin) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    source.take(VALUE_LIMIT_BYTES + 1).read_to_end(&mut bytes).await.map_err(ReadError::Io)?;
    if bytes.len() as u64 > VALUE_LIMIT_BYTES { Err(ReadError::TooLong) } else { Ok(bytes) }
}

fn plural(count: usize) -> String {
    if count == 1 { "a secret".to_owned() } else { format!("{count} secrets") }
}

fn list(missing: &[Missing]) -> String {
    missing.iter().map(|one| format!("{}: {}", one.field, one.why)).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(access: &str, secret: &str) -> Cluster {
        let json = format!(
            r#"{{"format":1,"name":"c","hosts":[],"s3":{{"endpoint":"http://x","bucket":"b","access_key":{access},"secret_key":{secret}}}}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[tokio::test]
    async fn a_secret_comes_from_a_file_or_a_command_without_its_last_newline() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        std::fs::write(&file, "AKIA-FILE\n").unwrap();
        let access = serde_json::to_string(&Secret::File(file)).unwrap();
        let cluster = cluster(&access, r#"{"Command":["sh","-c","cat; echo from-command"]}"#);
        let secrets = Secrets::resolve(&cluster).await.unwrap();
        let s3 = cluster.s3.unwrap();
        assert_eq!(secrets.value(&s3.access_key).unwrap().expose_secret(), "AKIA-FILE");
        assert_eq!(secrets.value(&s3.secret_key).unwrap().expose_secret(), "from-command");
        assert!(!format!("{secrets:?}{:?}", secrets.redactor()).contains("AKIA"));
    }

    #[tokio::test]
    async fn all_missing_secrets_are_named_at_once_and_none_is_shown() {
        let cluster =
            cluster(r#"{"Env":"RKE2FLOW_NOT_SET"}"#, r#"{"Command":["sh","-c","echo half-a-secret; exit 3"]}"#);
        let error = Secrets::resolve(&cluster).await.unwrap_err().to_string();
        assert_eq!(
            error,
            "cannot read 2 secrets of the cluster file: s3.access_key: environment variable `RKE2FLOW_NOT_SET` is not \
             set; s3.secret_key: command `sh` ended with exit status: 3"
        );
    }

    #[tokio::test]
    async fn a_short_an_empty_and_an_endless_secret_are_refused() {
        for (script, expected) in
            [("echo abc", "shorter than 4 bytes"), ("true", "is empty"), ("yes", "printed more than")]
        {
            let secret = Secret::Command(vec!["sh".into(), "-c".into(), script.into()]);
            let why = read(&secret).await.unwrap_err();
            assert!(why.contains(expected), "{script}: {why}");
        }
    }

    #[test]
    fn a_redactor_takes_out_whole_cut_and_nested_secrets() {
        let redactor = Redactor::default();
        redactor.learn("hunter22-long");
        redactor.learn("hunter22");
        redactor.learn("abc");
        assert_eq!(redactor.redact("a hunter22-long b hunter22 c abc"), "a [redacted] b [redacted] c abc");
        assert_eq!(redactor.redact("ter22-long is the end"), "[redacted] is the end");
        assert_eq!(redactor.redact("it began with hunter22-lo"), "it began with [redacted]-lo");
        assert_eq!(redactor.redact("it began with hunter"), "it began with [redacted]");
    }

    #[test]
    fn every_line_of_a_private_key_is_a_secret() {
        let redactor = Redactor::default();
        redactor.learn("line-one\nline-two\n");
        assert_eq!(redactor.redact("x line-two y"), "x [redacted] y");
    }
}
