//! Hosts as actions see them: typed questions, and orders that are followed to their end.
//!
//! [`Hosts`] stands on [`crate::ports::Shell`] and adds no retry of its own to a question; an order is sent once per
//! attempt, and from then on only asked about.

mod claims;
mod handover;
mod order;

pub use claims::{Claimed, Claims, ClaimsError, Takeover};
pub use handover::AtWork;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rke2flow_engine::action::{Context, Failure, FailureClass};
use rke2flow_engine::cluster::{Cluster, Host};
use rke2flow_engine::id::HostName;
use secrecy::SecretString;
use serde::de::DeserializeOwned;

use crate::answer::{
    ClaimAnswer, FileInfo, Files, Identity, Inspection, Part, Points, ReceiptAnswer, Staged, Survey, Tail,
};
use crate::command::{ClaimCommand, ENVELOPE_VERSION, Envelope, HostCommand, Look};
use crate::paths::HostPaths;
use crate::point::RecoveryPoint;
use crate::ports::{Access, AccessError, Output, Shell};
use crate::secret::Redactor;

/// How much of an answer that makes no sense is shown.
const SHOWN_BYTES: usize = 200;

/// The hosts of one cluster.
#[derive(Clone)]
pub struct Hosts {
    access: Access,
}

/// The largest recovery point that is read from a host, in bytes.
const POINT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How a script ended, and what it printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Printed {
    /// Exit status.
    pub exit: i32,
    /// Its output, secrets removed; at most 48 KiB.
    pub text: String,
}

impl Hosts {
    /// The hosts behind this access.
    pub fn new(access: Access) -> Self {
        Self { access }
    }

    /// What they are reached through.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Everything about a node that is cheap to know.
    pub async fn survey(&self, host: &HostName) -> Result<Survey, Failure> {
        Ok(self.look(host, Look::Survey).await?)
    }

    /// Whether nobody answers at the host's address. Another host key or a refused login is a machine that runs, and a
    /// connection that breaks is one too.
    pub async fn is_gone(&self, host: &HostName) -> bool {
        let survey: Result<Survey, AccessError> = self.look(host, Look::Survey).await;
        matches!(survey, Err(AccessError::Unreachable { .. }))
    }

    /// Those of these files that exist, with their digests. At most 64.
    pub async fn files(&self, host: &HostName, paths: Vec<String>) -> Result<Vec<FileInfo>, Failure> {
        let files: Files = self.look(host, Look::Files { paths }).await?;
        Ok(files.files)
    }

    /// Local etcd snapshots whose name begins so; empty for all.
    pub async fn snapshots(&self, host: &HostName, prefix: &str) -> Result<Vec<FileInfo>, Failure> {
        Ok(self.snapshots_and_progress(host, prefix).await?.files)
    }

    /// The same, with those that are being written.
    pub async fn snapshots_and_progress(&self, host: &HostName, prefix: &str) -> Result<Files, Failure> {
        Ok(self.look(host, Look::Snapshots { prefix: prefix.to_owned() }).await?)
    }

    /// Recovery points that the host keeps, newest last. A damaged one is left out and logged: the others still count.
    pub async fn points(&self, host: &HostName) -> Result<Vec<RecoveryPoint>, Failure> {
        let points: Points = self.look(host, Look::Points).await?;
        let mut left_out = Vec::new();
        for file in points.left_out.iter().rev() {
            left_out.push(self.point(host, file).await?);
        }
        let read = |text: &String| {
            let parsed = BASE64.decode(text.trim()).ok().and_then(|json| serde_json::from_slice(&json).ok());
            if parsed.is_none() {
                tracing::warn!(%host, "a recovery point cannot be read and is left out");
            }
            parsed
        };
        Ok(left_out.iter().chain(&points.points).filter_map(read).collect())
    }

    /// One recovery point that did not fit into an answer, part by part: base64.
    async fn point(&self, host: &HostName, file: &str) -> Result<String, Failure> {
        let mut bytes = Vec::new();
        loop {
            let look = Look::Point { file: file.to_owned(), offset: bytes.len() as u64 };
            let part: Part = self.look(host, look).await?;
            let more = BASE64.decode(part.text.trim()).unwrap_or_default();
            let done = more.is_empty() || (bytes.len() + more.len()) as u64 >= part.total;
            bytes.extend(more);
            // One that is too large is cut off: it cannot be read, is left out, and the others still count.
            if done || bytes.len() > POINT_BYTES_MAX {
                return Ok(BASE64.encode(bytes));
            }
        }
    }

    /// What a recovery point says of a host beside its survey.
    pub async fn identity(&self, host: &HostName) -> Result<Identity, Failure> {
        Ok(self.look(host, Look::Identity).await?)
    }

    /// What guards judge by and a survey is too short for.
    pub async fn inspection(&self, host: &HostName) -> Result<Inspection, Failure> {
        Ok(self.look(host, Look::Inspection).await?)
    }

    /// What RKE2 itself lists as snapshots there, as JSON; `None` when it cannot tell.
    pub async fn snapshot_list(&self, host: &HostName) -> Result<Option<serde_json::Value>, Failure> {
        let tail: Tail = self.look(host, Look::SnapshotList).await?;
        let text = if tail.exit == 0 { self.decoded(host, &tail.text)? } else { String::new() };
        Ok(serde_json::from_str(&text).ok())
    }

    /// Whether a release is staged completely.
    pub async fn release(&self, host: &HostName, version: &str) -> Result<Staged, Failure> {
        Ok(self.look(host, Look::Release { version: version.to_owned() }).await?)
    }

    /// The last `lines` lines of a unit's log, secrets removed.
    pub async fn log(&self, host: &HostName, unit: &str, lines: u32) -> Result<String, Failure> {
        let tail: Tail = self.look(host, Look::Log { unit: unit.to_owned(), lines }).await?;
        Ok(self.decoded(host, &tail.text)?)
    }

    /// A person's own probe: POSIX sh that changes nothing.
    pub async fn script(&self, host: &HostName, script: &str) -> Result<Printed, Failure> {
        let tail: Tail = self.look(host, Look::Script { script: script.to_owned() }).await?;
        Ok(Printed { exit: tail.exit, text: self.decoded(host, &tail.text)? })
    }

    /// The node's own admin kubeconfig: a secret, never logged and never journaled.
    pub async fn kubeconfig(&self, host: &HostName) -> Result<SecretString, AccessError> {
        kubeconfig(self.access.shell.as_ref(), &self.access.cluster, host).await
    }

    /// What became of the order of this attempt; changes nothing.
    pub async fn receipt(&self, context: &Context, host: &HostName) -> Result<ReceiptAnswer, AccessError> {
        let look = Look::Receipt {
            run: context.run.clone(),
            instance: context.instance.clone(),
            attempt: context.attempt,
            unit: context.unit.clone(),
        };
        self.look(host, look).await
    }

    /// Takes or gives up the right to act on one host.
    pub async fn claim(&self, host: &HostName, command: ClaimCommand) -> Result<ClaimAnswer, AccessError> {
        self.ask(host, HostCommand::Claim(command)).await
    }

    async fn look<A: DeserializeOwned>(&self, host: &HostName, look: Look) -> Result<A, AccessError> {
        self.ask(host, HostCommand::Look(look)).await
    }

    async fn ask<A: DeserializeOwned>(&self, host: &HostName, command: HostCommand) -> Result<A, AccessError> {
        let envelope = envelope(&self.access.cluster, &self.access.paths, host, command)?;
        let output = self.access.shell.run(host, &envelope).await?;
        answer(host, &output).map_err(|error| self.redacted(error))
    }

    fn decoded(&self, host: &HostName, text: &str) -> Result<String, AccessError> {
        decode(host, text).map(|text| self.access.redactor.redact(&text))
    }

    fn redacted(&self, error: AccessError) -> AccessError {
        redacted(&self.access.redactor, error)
    }
}

/// The error without secrets.
pub(crate) fn redacted(redactor: &Redactor, error: AccessError) -> AccessError {
    let clean = |text: String| redactor.redact(&text);
    match error {
        AccessError::Unreachable { whom, why } => AccessError::Unreachable { whom, why: clean(why) },
        AccessError::Unknown { whom, why } => AccessError::Unknown { whom, why: clean(why) },
        AccessError::Refused { whom, why } => AccessError::Refused { whom, why: clean(why) },
        AccessError::Nonsense { whom, why } => AccessError::Nonsense { whom, why: clean(why) },
    }
}

/// Everything about a host, before there is an [`Access`].
pub(crate) async fn survey(shell: &dyn Shell, cluster: &Cluster, host: &HostName) -> Result<Survey, AccessError> {
    let paths = HostPaths::of(cluster);
    let envelope = envelope(cluster, &paths, host, HostCommand::Look(Look::Survey))?;
    answer(host, &shell.run(host, &envelope).await?)
}

/// A host's own admin kubeconfig, before there is an [`Access`]. A secret.
pub(crate) async fn kubeconfig(
    shell: &dyn Shell,
    cluster: &Cluster,
    host: &HostName,
) -> Result<SecretString, AccessError> {
    let paths = HostPaths::of(cluster);
    let envelope = envelope(cluster, &paths, host, HostCommand::Look(Look::Kubeconfig))?;
    let output = shell.run(host, &envelope).await?;
    let tail: Tail = answer(host, &output)?;
    match (tail.exit, decode(host, &tail.text)?) {
        (0, text) if !text.trim().is_empty() => Ok(SecretString::from(text)),
        (exit, _) => Err(AccessError::Unreachable {
            whom: format!("Kubernetes API of {host}"),
            why: format!("{host} has no readable admin kubeconfig yet (exit {exit})"),
        }),
    }
}

fn envelope(
    cluster: &Cluster,
    paths: &HostPaths,
    host: &HostName,
    command: HostCommand,
) -> Result<Envelope, AccessError> {
    let role = known(cluster, host)?.role;
    Ok(Envelope { v: ENVELOPE_VERSION, cluster: cluster.name.clone(), role, paths: paths.clone(), command })
}

/// The host's entry in the cluster file.
pub(crate) fn known<'a>(cluster: &'a Cluster, host: &HostName) -> Result<&'a Host, AccessError> {
    cluster.host(host).ok_or_else(|| AccessError::Refused {
        whom: format!("cluster file of `{}`", cluster.name),
        why: format!("there is no host `{host}` in it"),
    })
}

/// Reads the one JSON object that a script prints.
fn answer<A: DeserializeOwned>(host: &HostName, output: &Output) -> Result<A, AccessError> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let nonsense = |why: String| AccessError::Nonsense { whom: host.to_string(), why };
    if output.exit != 0 {
        return Err(nonsense(format!("the script ended with exit {}: {}", output.exit, shown(&stderr))));
    }
    // The last line: whatever a login prints comes before it.
    let stdout = String::from_utf8_lossy(&output.stdout);
    let line = stdout.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    serde_json::from_str(line).map_err(|error| {
        // A secret may be in an answer that has one: then only the parser's words are shown.
        let sample = if line.contains('{') { String::new() } else { format!(", got `{}`", shown(line)) };
        let stderr = if stderr.trim().is_empty() { String::new() } else { format!("; {}", shown(&stderr)) };
        nonsense(format!("expected one JSON object{sample}: {error}{stderr}"))
    })
}

fn decode(host: &HostName, text: &str) -> Result<String, AccessError> {
    let packed: String = text.split_whitespace().collect();
    let bytes = BASE64
        .decode(packed)
        .map_err(|error| AccessError::Nonsense { whom: host.to_string(), why: format!("expected base64: {error}") })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn shown(text: &str) -> String {
    let text = text.trim();
    let mut end = text.len().min(SHOWN_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// A dry run has no claim: nothing may change.
fn without_claim() -> Failure {
    Failure::of(FailureClass::Permanent, "cannot change a host without a claim (a dry run changes nothing)")
}

#[cfg(test)]
mod tests;
