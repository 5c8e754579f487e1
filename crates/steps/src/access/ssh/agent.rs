//! The SSH agent: reached within a limit, asked for its keys.

use std::path::Path;
use std::time::Duration;

use russh::keys::PublicKey;
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use tokio::net::UnixStream;

/// How errors name it.
pub(super) fn place(socket: &Path) -> String {
    format!("SSH agent at {}", socket.display())
}

/// A new conversation with it.
pub(super) async fn connect(socket: &Path, limit: Duration) -> Result<AgentClient<UnixStream>, String> {
    let place = place(socket);
    match tokio::time::timeout(limit, AgentClient::connect_uds(socket)).await {
        Ok(Ok(agent)) => Ok(agent),
        Ok(Err(error)) => Err(format!("{place} does not answer: {error}")),
        Err(_) => Err(format!("{place} does not answer within {limit:?}")),
    }
}

/// The agent's plain keys; certificates are not used.
pub(super) async fn keys(socket: &Path, limit: Duration) -> Result<Vec<PublicKey>, String> {
    let mut agent = connect(socket, limit).await?;
    let place = place(socket);
    let listed = tokio::time::timeout(limit, agent.request_identities()).await;
    let listed = listed.map_err(|_| format!("{place} does not answer within {limit:?}"))?;
    let identities = listed.map_err(|error| format!("{place} lists no keys: {error}"))?;
    let plain = identities.into_iter().filter_map(|identity| match identity {
        AgentIdentity::PublicKey { key, .. } => Some(key),
        AgentIdentity::Certificate { .. } => None,
    });
    Ok(plain.collect())
}
