//! What a process was asked for: flags over `config.yaml` over `config.yaml.d` (K3S `pkg/configfilearg/parser.go`).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use rke2flow_steps::distribution::Traits;
use serde_json::Value;

/// Flags that take no value of their own.
const SWITCHES: [&str; 10] = [
    "cluster-init",
    "cluster-reset",
    "debug",
    "disable-cloud-controller",
    "etcd-disable-snapshots",
    "etcd-s3",
    "etcd-s3-insecure",
    "etcd-s3-skip-ssl-verify",
    "etcd-snapshot-compress",
    "snapshot-compress",
];

/// Options by their long name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    values: BTreeMap<String, Vec<String>>,
    distribution: &'static Traits,
    /// What is no flag.
    pub words: Vec<String>,
}

impl Settings {
    /// Reads the flags of a command and the configuration that they or `RKE2_CONFIG_FILE`, `K3S_CONFIG_FILE` name.
    pub fn read(distribution: &'static Traits, arguments: &[String]) -> Result<Self, String> {
        let flags = Self::flags(distribution, arguments)?;
        let variable = format!("{}_CONFIG_FILE", distribution.environment);
        let named = flags.text("config").or_else(|| std::env::var(variable).ok().filter(|file| !file.is_empty()));
        let file = PathBuf::from(named.unwrap_or_else(|| format!("/etc/rancher/{}/config.yaml", distribution.name)));
        let mut settings = Self::none(distribution);
        for source in sources(&file).map_err(|error| format!("{}: {error}", file.display()))? {
            let text = fs::read_to_string(&source).map_err(|error| format!("{}: {error}", source.display()))?;
            settings.merge(&text).map_err(|error| format!("failed to parse {}: {error}", source.display()))?;
        }
        settings.values.extend(flags.values);
        settings.words = flags.words;
        Ok(settings)
    }

    /// The last value of an option; `None` when it is not set or empty.
    pub fn text(&self, name: &str) -> Option<String> {
        self.values.get(name)?.last().filter(|value| !value.is_empty()).cloned()
    }

    /// Whether a switch is on.
    pub fn is_on(&self, name: &str) -> bool {
        self.text(name).is_some_and(|value| matches!(value.as_str(), "true" | "1" | "t" | "True" | "TRUE"))
    }

    /// A number, or what holds without one.
    pub fn number(&self, name: &str, otherwise: u32) -> u32 {
        self.text(name).and_then(|value| value.parse().ok()).unwrap_or(otherwise)
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        PathBuf::from(self.text("data-dir").unwrap_or_else(|| format!("/var/lib/rancher/{}", self.distribution.name)))
    }

    /// The node's name: what is configured, or the host's.
    pub fn node(&self) -> String {
        let host = || fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_lowercase();
        self.text("node-name").unwrap_or_else(host)
    }

    /// The node's address: what is configured, or the first one of the host that is not loopback.
    pub fn address(&self) -> Result<Ipv4Addr, String> {
        match self.text("node-ip") {
            Some(address) => address.parse().map_err(|_| format!("invalid node-ip: `{address}`")),
            None => host_address().ok_or_else(|| "unable to select an IP from default routes".to_owned()),
        }
    }

    /// What the distribution is.
    pub fn distribution(&self) -> &'static Traits {
        self.distribution
    }

    fn none(distribution: &'static Traits) -> Self {
        Self { values: BTreeMap::new(), distribution, words: Vec::new() }
    }

    fn flags(distribution: &'static Traits, arguments: &[String]) -> Result<Self, String> {
        let mut settings = Self::none(distribution);
        let mut rest = arguments.iter();
        while let Some(word) = rest.next() {
            let Some(flag) = word.strip_prefix('-').map(|flag| flag.trim_start_matches('-')) else {
                settings.words.push(word.clone());
                continue;
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None if SWITCHES.contains(&flag) || flag == "s3" => (flag, "true".to_owned()),
                None => (flag, rest.next().ok_or_else(|| format!("flag needs an argument: -{flag}"))?.clone()),
            };
            settings.values.entry(long_name(name)).or_default().push(value);
        }
        Ok(settings)
    }

    fn merge(&mut self, text: &str) -> Result<(), String> {
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(());
        }
        let found: BTreeMap<String, Value> = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        for (name, value) in found {
            let values = match value {
                Value::Array(values) => values.iter().map(plain).collect(),
                value => vec![plain(&value)],
            };
            // `key+` adds to what earlier files say; a plain key replaces it.
            match name.strip_suffix('+') {
                Some(name) => self.values.entry(long_name(name)).or_default().extend(values),
                None => drop(self.values.insert(long_name(&name), values)),
            }
        }
        Ok(())
    }
}

/// The options of `etcd-snapshot` have short forms.
fn long_name(name: &str) -> String {
    match name {
        "c" => "config".to_owned(),
        "d" => "data-dir".to_owned(),
        "t" => "token".to_owned(),
        "s" => "server".to_owned(),
        "o" => "output".to_owned(),
        "dir" => "etcd-snapshot-dir".to_owned(),
        "name" => "etcd-snapshot-name".to_owned(),
        "snapshot-compress" => "etcd-snapshot-compress".to_owned(),
        "snapshot-retention" => "etcd-snapshot-retention".to_owned(),
        _ if name == "s3" || name.starts_with("s3-") => format!("etcd-{name}"),
        _ => name.to_owned(),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn sources(file: &Path) -> io::Result<Vec<PathBuf>> {
    let mut sources: Vec<PathBuf> = if file.exists() { vec![file.to_owned()] } else { Vec::new() };
    let mut directory = file.as_os_str().to_owned();
    directory.push(".d");
    match fs::read_dir(directory) {
        Ok(entries) => {
            let mut drop_ins: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            drop_ins.retain(|path| path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml"));
            drop_ins.sort();
            sources.extend(drop_ins);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(sources)
}

/// The kernel lists its own addresses as `32 host LOCAL` below the address itself.
fn host_address() -> Option<Ipv4Addr> {
    let table = fs::read_to_string("/proc/net/fib_trie").ok()?;
    let lines: Vec<&str> = table.lines().map(str::trim).collect();
    let local = lines.windows(2).filter(|pair| pair[1].starts_with("/32 host LOCAL"));
    let addresses = local.filter_map(|pair| pair[0].trim_start_matches("|-- ").parse::<Ipv4Addr>().ok());
    let mut addresses = addresses.filter(|address| !address.is_loopback());
    addresses.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)], flags: &[&str]) -> Settings {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("config.yaml.d")).unwrap();
        for (file, text) in files {
            fs::write(dir.path().join(file), text).unwrap();
        }
        let config = format!("--config={}", dir.path().join("config.yaml").display());
        let flags: Vec<String> = std::iter::once(config).chain(flags.iter().map(|flag| (*flag).to_owned())).collect();
        Settings::read(super::super::flavor::traits("v1.33.4+rke2r1"), &flags).unwrap()
    }

    #[test]
    fn the_last_drop_in_wins_and_an_empty_value_counts() {
        let settings = read(
            &[
                ("config.yaml", "server: https://10.0.0.1:9345\ntoken: \"s: # x\" # not a comment inside\n"),
                ("config.yaml.d/zz_rke2flow.yaml", "# rke2flow run\nserver: \"\"\n"),
                ("config.yaml.d/aa.yaml", "server: https://10.0.0.9:9345\n"),
            ],
            &[],
        );
        assert_eq!(settings.text("server"), None);
        assert_eq!(settings.text("token").as_deref(), Some("s: # x"));
    }

    #[test]
    fn a_flag_overrides_the_file() {
        let settings =
            read(&[("config.yaml", "etcd-s3: true\n")], &["--etcd-s3=false", "--cluster-reset", "--data-dir", "/d"]);
        assert!(!settings.is_on("etcd-s3") && settings.is_on("cluster-reset"));
        assert_eq!(settings.data(), PathBuf::from("/d"));
    }

    #[test]
    fn a_comment_alone_is_no_setting() {
        let settings = read(&[("config.yaml", "# nothing\n\n")], &[]);
        assert_eq!(settings.values.len(), 1);
    }
}
