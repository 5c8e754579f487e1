//! What stands for something else in the paths of OpenSSH's client configuration: `~`, `${NAME}` and `%h`.

use std::path::PathBuf;

/// What the tokens of one host stand for (ssh_config(5), TOKENS).
#[derive(Debug, Clone, Default)]
pub(super) struct Tokens {
    /// `%d`, and `~`: the person's home.
    pub home: String,
    /// `%h`: where is connected to.
    pub hostname: String,
    /// `%n`: what was asked for.
    pub original: String,
    /// `%k`: under which name the host key is looked up.
    pub key_name: String,
    /// `%p`
    pub port: u16,
    /// `%r`: who logs in there.
    pub user: String,
}

impl Tokens {
    /// The path that a text means; the error names what it does not know.
    pub(super) fn path(&self, text: &str) -> Result<PathBuf, String> {
        self.expand(text).map(PathBuf::from)
    }

    /// The text with everything replaced.
    pub(super) fn expand(&self, text: &str) -> Result<String, String> {
        let mut rest = match text.strip_prefix('~') {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("{}{rest}", self.home),
            _ => text.to_owned(),
        };
        let mut out = String::new();
        while let Some(at) = rest.find(['%', '$']) {
            out.push_str(&rest[..at]);
            let (value, length) = self.one(&rest[at..]).map_err(|why| format!("`{text}` of ssh_config: {why}"))?;
            out.push_str(&value);
            rest.drain(..at + length);
        }
        Ok(out + &rest)
    }

    /// What stands at the beginning of `text`, and how many bytes of it that replaces.
    fn one(&self, text: &str) -> Result<(String, usize), String> {
        if let Some(named) = text.strip_prefix("${") {
            let (name, _) = named.split_once('}').ok_or("`${` without `}`")?;
            let value = std::env::var(name).map_err(|_| format!("environment variable `{name}` is not set"))?;
            return Ok((value, name.len() + "${}".len()));
        }
        if text.starts_with('$') {
            return Ok(("$".to_owned(), 1));
        }
        let value = match text.as_bytes().get(1) {
            Some(b'%') => "%".to_owned(),
            Some(b'd') => self.home.clone(),
            Some(b'h') => self.hostname.clone(),
            Some(b'n') => self.original.clone(),
            Some(b'k') => self.key_name.clone(),
            Some(b'p') => self.port.to_string(),
            Some(b'r') => self.user.clone(),
            Some(b'i') => rustix::process::getuid().as_raw().to_string(),
            Some(b'u') => local_user(),
            Some(b'l') => local_name(),
            Some(b'L') => local_name().split('.').next().unwrap_or_default().to_owned(),
            _ => return Err(format!("`{}` is not supported here", text.chars().take(2).collect::<String>())),
        };
        Ok((value, 2))
    }
}

fn local_user() -> String {
    std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "root".to_owned())
}

fn local_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> Tokens {
        Tokens {
            home: "/home/ann".to_owned(),
            hostname: "10.0.0.10".to_owned(),
            original: "prod-s0".to_owned(),
            key_name: "s0".to_owned(),
            port: 2222,
            user: "deploy".to_owned(),
        }
    }

    #[test]
    fn homes_and_tokens_are_replaced_and_other_text_is_left_alone() {
        let path = |text: &str| tokens().path(text).unwrap().display().to_string();
        assert_eq!(path("~/.ssh/id_%h_%r"), "/home/ann/.ssh/id_10.0.0.10_deploy");
        assert_eq!(path("%d/%n-%k-%p-100%%"), "/home/ann/prod-s0-s0-2222-100%");
        assert_eq!(path("/a/~b/c$"), "/a/~b/c$");
        assert_eq!(path("${CARGO_PKG_NAME}/x"), "rke2flow-steps/x");
    }

    #[test]
    fn what_is_not_known_is_named() {
        assert!(tokens().path("%C").unwrap_err().contains("`%C` is not supported"));
        assert!(tokens().path("${RKE2FLOW_NOT_SET}").unwrap_err().contains("`RKE2FLOW_NOT_SET` is not set"));
    }
}
