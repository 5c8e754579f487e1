//! Logging in: with the configured key file, or with the keys of the SSH agent.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rke2flow_engine::cluster::Ssh;
use russh::client::{AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::ssh_key::HashAlg;
use russh::keys::{Algorithm, PrivateKey, PrivateKeyWithHashAlg};

use super::connection::Verifier;
use super::host_key::fingerprint;

/// Keys of the agent that are tried: sshd closes after six failures (MaxAuthTries 6).
const AGENT_KEYS: usize = 5;
/// A key file larger than this is none, in bytes.
const KEY_LIMIT_BYTES: u64 = 64 * 1024;

/// What is tried for one login; read once, before the connection is opened.
pub(super) enum Credentials {
    Key { key: Arc<PrivateKey>, file: String },
    Agent { socket: PathBuf },
}

impl Credentials {
    /// The configured key file, else the agent; the error names what is missing.
    pub(super) fn of(ssh: &Ssh, agent: Option<&Path>) -> Result<Self, String> {
        if let Some(file) = &ssh.key {
            return Ok(Self::Key { key: Arc::new(read_key(file)?), file: file.display().to_string() });
        }
        match agent {
            Some(socket) => Ok(Self::Agent { socket: socket.to_owned() }),
            None => {
                Err("no way to log in: the cluster file has no `ssh.key`, and SSH_AUTH_SOCK names no agent".to_owned())
            }
        }
    }

    /// Logs in as `user`; the error names every key that was tried.
    pub(super) async fn log_in(&self, handle: &mut Handle<Verifier>, user: &str) -> Result<(), String> {
        match self {
            Self::Key { key, file } => log_in_with_key(handle, user, key, file).await,
            Self::Agent { socket } => log_in_with_agent(handle, user, socket).await,
        }
    }
}

async fn log_in_with_key(
    handle: &mut Handle<Verifier>,
    user: &str,
    key: &Arc<PrivateKey>,
    file: &str,
) -> Result<(), String> {
    let tried = format!("{file} ({})", fingerprint(key.public_key()));
    let hash = hash_for(handle, &key.algorithm()).await?;
    let key = PrivateKeyWithHashAlg::new(key.clone(), hash);
    match handle.authenticate_publickey(user, key).await {
        Ok(AuthResult::Success) => Ok(()),
        Ok(refused) => Err(refusal(user, &[tried], &refused)),
        Err(error) => Err(format!("login as `{user}` with {tried} broke off: {error}")),
    }
}

async fn log_in_with_agent(handle: &mut Handle<Verifier>, user: &str, socket: &Path) -> Result<(), String> {
    let place = format!("SSH agent at {}", socket.display());
    let mut agent =
        AgentClient::connect_uds(socket).await.map_err(|error| format!("{place} does not answer: {error}"))?;
    let identities = agent.request_identities().await.map_err(|error| format!("{place} lists no keys: {error}"))?;
    let keys = identities.into_iter().filter_map(|identity| match identity {
        AgentIdentity::PublicKey { key, .. } => Some(key),
        AgentIdentity::Certificate { .. } => None,
    });
    let (mut tried, mut last) = (Vec::new(), None);
    for key in keys.take(AGENT_KEYS) {
        tried.push(fingerprint(&key));
        let hash = hash_for(handle, &key.algorithm()).await?;
        match handle.authenticate_publickey_with(user, key, hash, &mut agent).await {
            Ok(AuthResult::Success) => return Ok(()),
            Ok(refused) => last = Some(refused),
            Err(error) => return Err(format!("{place} did not sign: {error}")),
        }
    }
    match last {
        Some(refused) => Err(refusal(user, &tried, &refused)),
        None => Err(format!("{place} has no key: `ssh-add FILE`, or name a file as `ssh.key` in the cluster file")),
    }
}

/// RSA keys sign with SHA-2 only.
async fn hash_for(handle: &Handle<Verifier>, algorithm: &Algorithm) -> Result<Option<HashAlg>, String> {
    if !matches!(algorithm, Algorithm::Rsa { .. }) {
        return Ok(None);
    }
    match handle.best_supported_rsa_hash().await {
        Ok(Some(Some(hash))) => Ok(Some(hash)),
        Ok(Some(None)) => Err("it accepts RSA keys with SHA-1 only, which is not safe: use an ed25519 key".to_owned()),
        Ok(None) => Ok(Some(HashAlg::Sha512)),
        Err(error) => Err(format!("cannot ask which RSA signatures it accepts: {error}")),
    }
}

fn refusal(user: &str, tried: &[String], result: &AuthResult) -> String {
    let offers = match result {
        AuthResult::Failure { remaining_methods, partial_success, .. } => {
            let methods: Vec<String> = remaining_methods.iter().map(<&str>::from).map(str::to_owned).collect();
            let more = if *partial_success { "; the key was accepted, but it asks for more than a key" } else { "" };
            format!(" (it offers {}{more})", methods.join(", "))
        }
        AuthResult::Success => String::new(),
    };
    format!(
        "login as `{user}` was refused with {}{offers}: put the public key into its ~{user}/.ssh/authorized_keys",
        tried.join(", ")
    )
}

fn read_key(file: &Path) -> Result<PrivateKey, String> {
    let shown = file.display();
    let metadata = std::fs::metadata(file).map_err(|error| format!("key file `{shown}` cannot be read: {error}"))?;
    if metadata.len() > KEY_LIMIT_BYTES {
        return Err(format!("key file `{shown}` is larger than {KEY_LIMIT_BYTES} bytes"));
    }
    russh::keys::load_secret_key(file, None).map_err(|error| match error {
        russh::keys::Error::KeyIsEncrypted => format!(
            "key file `{shown}` has a passphrase: run `ssh-add {shown}` and leave `ssh.key` out of the cluster file, so \
             that the agent is asked"
        ),
        russh::keys::Error::IO(error) => format!("key file `{shown}` cannot be read: {error}"),
        other => format!("key file `{shown}` is not a private key that can be used: {other}"),
    })
}
