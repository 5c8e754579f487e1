//! The cluster's token: `K10<sha256 of the authority>::server:<password>` (K3S `pkg/clientaccess/token.go`).

use sha2::{Digest, Sha256};

use super::release::hex;

/// A token, in either of its forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// SHA-256 of the authority's certificate, when the token has it.
    pub authority: Option<String>,
    /// `server` or `node`.
    pub user: String,
    /// The secret itself.
    pub password: String,
}

impl Token {
    /// Reads a token; what does not begin with `K10` is the password alone.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let Some(rest) = text.strip_prefix("K10") else {
            return Ok(Self { authority: None, user: "server".to_owned(), password: text.to_owned() });
        };
        let malformed = || "invalid token format".to_owned();
        let (authority, credentials) = rest.split_once("::").ok_or_else(malformed)?;
        if authority.len() != 64 {
            return Err("invalid token CA hash length".to_owned());
        }
        let (user, password) = credentials.split_once(':').unwrap_or(("server", credentials));
        if password.is_empty() {
            return Err(malformed());
        }
        Ok(Self { authority: Some(authority.to_owned()), user: user.to_owned(), password: password.to_owned() })
    }

    /// The long form, for the authority with this certificate.
    pub fn full(&self, authority_pem: &str) -> String {
        format!("K10{}::{}:{}", hex(&Sha256::digest(authority_pem)), self.user, self.password)
    }

    /// Whether an authority is the one that the token names; a token without one takes any.
    pub fn check(&self, authority_pem: &str) -> Result<(), String> {
        let found = hex(&Sha256::digest(authority_pem));
        match &self.authority {
            Some(wanted) if *wanted != found => {
                Err(format!("token CA hash does not match the Cluster CA certificate hash: {wanted} != {found}"))
            }
            _ => Ok(()),
        }
    }

    /// What is kept of the token where it can be seen: snapshots and the name of the bootstrap key
    /// (K3S `pkg/util/token.go`).
    pub fn hash(&self) -> String {
        hex(&Sha256::digest(&self.password))[..12].to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_hold_the_same_password() {
        let short = Token::parse("secret\n").unwrap();
        let long = Token::parse(&short.full("PEM")).unwrap();
        assert_eq!((long.password.as_str(), long.user.as_str()), ("secret", "server"));
        assert_eq!(long.hash(), short.hash());
    }

    #[test]
    fn a_token_of_another_cluster_is_refused() {
        let long = Token::parse(&Token::parse("secret").unwrap().full("PEM")).unwrap();
        assert!(long.check("PEM").is_ok());
        assert!(long.check("OTHER").unwrap_err().contains("does not match"));
    }
}
