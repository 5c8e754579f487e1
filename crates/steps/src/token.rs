//! RKE2's own short hash of a server token: what a snapshot is marked with, so that its token can be recognised.

use sha2::{Digest as _, Sha256};

/// How much of the digest RKE2 keeps, in hex digits (K3S pkg/util/token.go `GetTokenHash`).
const DIGITS: usize = 12;
/// What a token begins with that names its certificate authority.
const PREFIX: &str = "K10";

/// The hash that stands with a snapshot that was taken under this token; `None` when it is no server token.
///
/// Only the password counts: `K10<ca>::server:<password>` and the bare password have the same hash
/// (K3S pkg/clientaccess/token.go `parseToken`, pkg/util/token.go `NormalizeToken`).
pub fn token_hash(token: &str) -> Option<String> {
    let digest = Sha256::digest(password(token.trim())?);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(hex[..DIGITS].to_owned())
}

fn password(token: &str) -> Option<&str> {
    let Some(rest) = token.strip_prefix(PREFIX) else { return Some(token).filter(|bare| !bare.is_empty()) };
    let credentials = rest.split_once("::").map_or(rest, |(_, credentials)| credentials);
    let (_, password) = credentials.split_once(':')?;
    Some(password).filter(|password| !password.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_token_and_its_bare_password_hash_the_same() {
        let ca = "0123456789abcdef".repeat(4);
        let full = format!("K10{ca}::server:s3cr:et\n");
        // `printf %s s3cr:et | sha256sum | cut -c1-12`
        assert_eq!(token_hash(&full).as_deref(), Some("477ca7467219"));
        assert_eq!(token_hash("s3cr:et"), token_hash(&full));
        assert_ne!(token_hash("another"), token_hash(&full));
    }

    #[test]
    fn what_is_no_server_token_has_no_hash() {
        for wrong in ["", " \n", "K10abc", "K10abc::server:"] {
            assert_eq!(token_hash(wrong), None, "{wrong:?}");
        }
    }
}
