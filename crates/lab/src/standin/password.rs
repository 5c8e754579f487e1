//! Node passwords: a node is who it says only with the password that its Secret was made with (K3S `pkg/nodepassword`).

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::http::HttpError;
use super::layout::NODE_PASSWORD;
use super::node::Server;
use super::release::hex;

const REQUEST: Duration = Duration::from_secs(5);

/// Why a node is not let in.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// It has another password than its Secret.
    #[error("unable to verify password for node '{0}': hash does not match")]
    Mismatch(String),
    /// The API cannot be asked.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The API refuses.
    #[error("unable to ensure secret for node '{0}': {1}")]
    Refused(String, String),
}

impl PasswordError {
    /// Whether the node is someone else, as far as the Secret can tell.
    pub fn is_mismatch(&self) -> bool {
        matches!(self, Self::Mismatch(_))
    }
}

/// The password of this host, made when there is none.
pub fn of_host() -> io::Result<String> {
    let path = Path::new(NODE_PASSWORD);
    match fs::read_to_string(path) {
        Ok(password) => Ok(password.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let random = fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().replace('-', "");
            if let Some(directory) = path.parent() {
                fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
            }
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            io::Write::write_all(&mut file, format!("{random}\n").as_bytes())?;
            Ok(random)
        }
        Err(error) => Err(error),
    }
}

/// Checks a node's password against its Secret, or makes the Secret from it.
pub async fn ensure(server: &Server, node: &str, password: &str) -> Result<(), PasswordError> {
    let (client, base) = server.api()?;
    let path = format!("{base}/api/v1/namespaces/kube-system/secrets");
    let name = secret(server, node);
    let refused = |why: String| PasswordError::Refused(node.to_owned(), why);
    let found = client.get(&format!("{path}/{name}"), REQUEST).await?;
    match found.status {
        StatusCode::OK => {
            let object: Value = serde_json::from_slice(&found.body).map_err(|error| refused(error.to_string()))?;
            let kept = BASE64.decode(object["data"]["hash"].as_str().unwrap_or_default()).unwrap_or_default();
            if is_hash_of(&String::from_utf8_lossy(&kept), password) {
                Ok(())
            } else {
                Err(PasswordError::Mismatch(node.to_owned()))
            }
        }
        StatusCode::NOT_FOUND => {
            let object = json!({
                "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "immutable": true,
                "metadata": {"name": name, "namespace": "kube-system"},
                "data": {"hash": BASE64.encode(hash(node, password))},
            });
            let made = client
                .with_header("content-type", "application/json")
                .ask(Method::POST, &path, object.to_string().into_bytes(), REQUEST)
                .await?;
            if made.status.is_success() { Ok(()) } else { Err(refused(made.text())) }
        }
        _ => Err(refused(found.text())),
    }
}

/// Deletes a node's Secret; whether there was one does not matter.
pub async fn forget(server: &Server, node: &str) -> Result<(), PasswordError> {
    let (client, base) = server.api()?;
    let url = format!("{base}/api/v1/namespaces/kube-system/secrets/{}", secret(server, node));
    let answer = client.ask(Method::DELETE, &url, Vec::new(), REQUEST).await?;
    if answer.status.is_success() || answer.status == StatusCode::NOT_FOUND {
        return Ok(());
    }
    Err(PasswordError::Refused(node.to_owned(), answer.text()))
}

fn secret(server: &Server, node: &str) -> String {
    format!("{node}.node-password.{}", server.distribution().name)
}

/// K3s uses scrypt; who cannot read the file of the password cannot make either.
fn hash(salt: &str, password: &str) -> String {
    format!("$1:{salt}:{}", hex(&Sha256::digest(format!("{salt}:{password}"))))
}

fn is_hash_of(kept: &str, password: &str) -> bool {
    kept.strip_prefix("$1:").and_then(|rest| rest.split_once(':')).is_some_and(|(salt, _)| hash(salt, password) == kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_password_fits() {
        let kept = hash("agent-0", "secret");
        assert!(is_hash_of(&kept, "secret"));
        assert!(!is_hash_of(&kept, "other"));
        assert!(!is_hash_of("", "secret"));
    }
}
