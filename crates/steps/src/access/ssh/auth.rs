//! Logging in: which keys are tried, in which order, and on how many connections.
//!
//! sshd closes after MaxAuthTries refusals (6 by default), and an agent may hold twenty keys: what is left is tried on
//! a further connection. A person is asked for a passphrase only when the host wants that key.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use russh::client::{AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::ssh_key::HashAlg;
use russh::keys::{Algorithm, PrivateKey, PrivateKeyWithHashAlg, PublicKey};

use super::agent;
use super::connection::Verifier;
use super::endpoint::Keys;
use super::host_key::fingerprint;
use super::keys::{KeyFile, KeyRing};

/// Refusals on one connection before the next one is opened: sshd closes at its sixth.
const REFUSALS: usize = 5;
/// Connections for one login.
pub(super) const CONNECTIONS: usize = 6;

/// One key that may let us in.
enum Candidate {
    Agent(PublicKey),
    File {
        key: Arc<PrivateKey>,
        file: PathBuf,
    },
    /// Its passphrase is asked for when the host wants it.
    Locked {
        public: Option<PublicKey>,
        file: PathBuf,
    },
}

/// One login, over as many connections as it takes.
pub(super) struct Login {
    candidates: VecDeque<Candidate>,
    agent: Option<PathBuf>,
    agent_answer: Duration,
    tried: Vec<String>,
    last: Option<AuthResult>,
    /// What could not be used, and why.
    notes: Vec<String>,
}

/// How far a login has come on one connection.
pub(super) enum Progress {
    In,
    /// The other keys need another connection.
    Another,
    /// The host wants this key, which has a passphrase: [`Login::unlock`], then another connection.
    Wanted(PathBuf),
    /// No key is left, or nothing can be tried.
    Refused(String),
    /// The connection broke for another reason than refused keys.
    Broke(String),
}

impl Login {
    /// Collects the keys; the error says that there is nothing to try.
    pub(super) async fn prepare(keys: &Keys, agent_answer: Duration) -> Result<Self, String> {
        let mut notes = Vec::new();
        let held = match &keys.agent {
            Some(socket) => agent::keys(socket, agent_answer).await.unwrap_or_else(|why| {
                notes.push(why);
                Vec::new()
            }),
            None => Vec::new(),
        };
        let mut files = Vec::new();
        if let Some(file) = &keys.key {
            files.push((file.clone(), found(file, KeyFile::read(file)?)?));
        }
        let more = if keys.key_alone { &[] } else { keys.files.as_slice() };
        for file in more.iter().filter(|file| Some(*file) != keys.key.as_ref()) {
            match KeyFile::read(file) {
                Ok(read) => files.push((file.clone(), read)),
                Err(why) => notes.push(why),
            }
        }
        let others = !keys.key_alone && !keys.only_files;
        let candidates = ordered(files, &held, others);
        if candidates.is_empty() {
            return Err(nothing_to_try(keys, &notes));
        }
        let agent = keys.agent.clone();
        Ok(Self { candidates, agent, agent_answer, tried: Vec::new(), last: None, notes })
    }

    /// Tries keys on a new connection until one is accepted, or the connection has had enough of them. `farewell` is
    /// what the host said when it closed by itself.
    pub(super) async fn go_on(
        &mut self,
        handle: &mut Handle<Verifier>,
        user: &str,
        farewell: &OnceLock<String>,
    ) -> Progress {
        let mut refusals = 0;
        while let Some(candidate) = self.candidates.pop_front() {
            if refusals == REFUSALS {
                self.candidates.push_front(candidate);
                return Progress::Another;
            }
            let offered = self.offer(handle, user, &candidate).await;
            // Too many refused keys are what a host closes for; a link that breaks says nothing.
            let sent_away = refusals > 0 || farewell.get().is_some();
            match offered {
                Ok(Offered::Accepted) => return Progress::In,
                Ok(Offered::Wanted(file)) => return Progress::Wanted(file),
                Ok(Offered::Unsigned(why)) => self.notes.push(why),
                Ok(Offered::Refused(result)) => {
                    let closed = handle.is_closed() || says_nothing(&result);
                    self.remember(result);
                    match (closed, sent_away) {
                        (false, _) => {}
                        (true, false) => return Progress::Broke("the connection ended".to_owned()),
                        (true, true) if self.candidates.is_empty() => break,
                        (true, true) => return Progress::Another,
                    }
                }
                Err(_) if handle.is_closed() && sent_away => {
                    self.candidates.push_front(candidate);
                    return Progress::Another;
                }
                Err(why) => return Progress::Broke(why),
            }
            refusals += 1;
        }
        self.notes.extend(farewell.get().map(|words| format!("it closed with: {words}")));
        Progress::Refused(self.refusal(user))
    }

    /// Puts an unlocked key first.
    pub(super) async fn unlock(&mut self, file: PathBuf, ring: &KeyRing) -> Result<(), String> {
        let key = ring.unlock(&file).await?;
        self.candidates.push_front(Candidate::File { key, file });
        Ok(())
    }

    /// What is said when keys are left and no further connection is opened for them.
    pub(super) fn too_many(&self, user: &str) -> String {
        let left = self.candidates.len();
        format!(
            "{}; {left} more keys were not tried after {CONNECTIONS} connections: name the right one as `ssh.key` in the \
             cluster file, or by IdentityFile and IdentitiesOnly in ~/.ssh/config",
            self.refusal(user)
        )
    }

    async fn offer(
        &mut self,
        handle: &mut Handle<Verifier>,
        user: &str,
        candidate: &Candidate,
    ) -> Result<Offered, String> {
        let outcome = match candidate {
            Candidate::Agent(key) => {
                self.tried.push(format!("{} (agent)", fingerprint(key)));
                let hash = hash_for(handle, &key.algorithm()).await?;
                match self.sign_by_agent(handle, user, key, hash).await {
                    Err(why) if !handle.is_closed() => return Ok(Offered::Unsigned(why)),
                    outcome => outcome?,
                }
            }
            Candidate::File { key, file } => {
                let tried = format!("{} ({})", file.display(), fingerprint(key.public_key()));
                let hash = hash_for(handle, &key.algorithm()).await?;
                let signing = PrivateKeyWithHashAlg::new(key.clone(), hash);
                let outcome = handle.authenticate_publickey(user, signing).await;
                let outcome = outcome.map_err(|error| format!("login as `{user}` with {tried} broke off: {error}"));
                self.tried.push(tried);
                outcome?
            }
            Candidate::Locked { public: None, file } => return Ok(Offered::Wanted(file.clone())),
            Candidate::Locked { public: Some(public), file } => {
                self.tried.push(format!("{} ({}, locked)", file.display(), fingerprint(public)));
                let hash = hash_for(handle, &public.algorithm()).await?;
                match handle.authenticate_publickey_with(user, public.clone(), hash, &mut OnlyAsking).await {
                    Err(Asked::Wanted) => return Ok(Offered::Wanted(file.clone())),
                    Err(Asked::Broken) => return Err("the connection ended".to_owned()),
                    Ok(result) => result,
                }
            }
        };
        match outcome {
            AuthResult::Success => Ok(Offered::Accepted),
            refused => Ok(Offered::Refused(refused)),
        }
    }

    async fn sign_by_agent(
        &self,
        handle: &mut Handle<Verifier>,
        user: &str,
        key: &PublicKey,
        hash: Option<HashAlg>,
    ) -> Result<AuthResult, String> {
        let socket = self.agent.as_deref().ok_or("no agent")?;
        let place = agent::place(socket);
        let mut signer = agent::connect(socket, self.agent_answer).await?;
        let signed = handle.authenticate_publickey_with(user, key.clone(), hash, &mut signer).await;
        signed.map_err(|error| format!("{place} did not sign with {}: {error}", fingerprint(key)))
    }

    /// A key that was accepted and was not enough says more than the refusals after it.
    fn remember(&mut self, result: AuthResult) {
        let told = matches!(&result, AuthResult::Failure { remaining_methods, .. } if !remaining_methods.is_empty());
        let partial = matches!(self.last, Some(AuthResult::Failure { partial_success: true, .. }));
        if self.last.is_none() || (told && !partial) {
            self.last = Some(result);
        }
    }

    fn refusal(&self, user: &str) -> String {
        let offers = match &self.last {
            Some(AuthResult::Failure { remaining_methods, partial_success, .. }) if !remaining_methods.is_empty() => {
                let methods: Vec<String> = remaining_methods.iter().map(<&str>::from).map(str::to_owned).collect();
                let more =
                    if *partial_success { "; the key was accepted, but it asks for more than a key" } else { "" };
                format!(" (it offers {}{more})", methods.join(", "))
            }
            _ => String::new(),
        };
        let notes: String = self.notes.iter().map(|note| format!("; {note}")).collect();
        format!(
            "login as `{user}` was refused with {}{offers}: put the public key into its ~{user}/.ssh/authorized_keys{notes}",
            self.tried.join(", ")
        )
    }
}

/// A host that refuses a key always says what else it takes; russh gives this when the session has ended.
fn says_nothing(result: &AuthResult) -> bool {
    matches!(result, AuthResult::Failure { remaining_methods, .. } if remaining_methods.is_empty())
}

enum Offered {
    Accepted,
    Wanted(PathBuf),
    Refused(AuthResult),
    /// The host wants it, and the agent does not sign.
    Unsigned(String),
}

/// Learns whether a host wants a key, without being able to sign.
struct OnlyAsking;

enum Asked {
    Wanted,
    Broken,
}

impl From<russh::SendError> for Asked {
    fn from(_: russh::SendError) -> Self {
        Self::Broken
    }
}

impl russh::Signer for OnlyAsking {
    type Error = Asked;

    async fn auth_sign(&mut self, _: &AgentIdentity, _: Option<HashAlg>, _: Vec<u8>) -> Result<Vec<u8>, Asked> {
        Err(Asked::Wanted)
    }
}

/// As `ssh` orders them: the agent's keys that files name, the agent's others, the files that the agent does not have;
/// what needs a passphrase comes last.
fn ordered(files: Vec<(PathBuf, KeyFile)>, held: &[PublicKey], others: bool) -> VecDeque<Candidate> {
    let same = |one: &PublicKey, other: &PublicKey| one.key_data() == other.key_data();
    let is_held = |key: &PublicKey| held.iter().any(|one| same(one, key));
    let (mut named, mut open, mut locked) = (Vec::<PublicKey>::new(), Vec::new(), Vec::new());
    for (file, read) in files {
        match read {
            KeyFile::Open(key) if is_held(key.public_key()) => named.push(key.public_key().clone()),
            KeyFile::Open(key) => open.push(Candidate::File { key, file }),
            KeyFile::Locked(Some(key)) | KeyFile::Public(key) if is_held(&key) => named.push(key),
            KeyFile::Locked(public) => locked.push(Candidate::Locked { public, file }),
            KeyFile::Public(_) | KeyFile::Missing => {}
        }
    }
    let unnamed = held.iter().filter(|key| others && !named.iter().any(|one| same(one, key)));
    let unnamed: Vec<Candidate> = unnamed.cloned().map(Candidate::Agent).collect();
    named.into_iter().map(Candidate::Agent).chain(unnamed).chain(open).chain(locked).collect()
}

/// The cluster file's own key must be there.
fn found(file: &Path, read: KeyFile) -> Result<KeyFile, String> {
    match read {
        KeyFile::Missing => Err(format!("key file `{}` cannot be read: it is not there", file.display())),
        read => Ok(read),
    }
}

fn nothing_to_try(keys: &Keys, notes: &[String]) -> String {
    let agent = match &keys.agent {
        None => "SSH_AUTH_SOCK names no agent".to_owned(),
        Some(socket) if notes.is_empty() => format!("{} has no key that may be used", agent::place(socket)),
        Some(_) => notes.join("; "),
    };
    let files: Vec<String> = keys.key.iter().chain(&keys.files).map(|file| file.display().to_string()).collect();
    let files = if files.is_empty() { String::new() } else { format!(", none of {} is there", files.join(", ")) };
    format!(
        "no key to log in with: {agent}{files}: `ssh-add FILE`, or name a file as `ssh.key` in the cluster file, or as \
         IdentityFile in ~/.ssh/config"
    )
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
