//! What OpenSSH's own client configuration says of a host, asked of `ssh -G`: patterns, Match, Include and tokens mean
//! there what they mean for `ssh` itself (decision 100).

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// How long `ssh -G` may take: it runs the programs of `Match exec`.
const LIMIT: Duration = Duration::from_secs(10);
/// The system's file, which is read after the person's.
const SYSTEM: &str = "/etc/ssh/ssh_config";
/// How `ssh -vvv` says that a Host block applies: `debug1: FILE line N: Applying options for PATTERN`.
const APPLIED: &str = ": Applying options for ";
/// And how for each condition of a Match block (`debug3: FILE line N: matched …`), and once for all of them.
const MATCHED: &str = ": matched ";
const MATCH_FOUND: &str = "debug2: match found";

/// Which client configuration is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientConfig {
    /// This file, then `/etc/ssh/ssh_config`, each when it is there: `~/.ssh/config` as `ssh` does.
    Person(PathBuf),
    /// This file alone, which must be there: `ssh -F`.
    File(PathBuf),
    /// None: `ssh -F none`.
    None,
}

/// Who somebody logs in as when nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsaid {
    /// `root`, as documented for the cluster's hosts.
    Root,
    /// The local user's name, as `ssh` has it for a jump host of its own configuration.
    LocalName,
}

/// What is asked about: as typed after `ssh`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    pub host: &'a str,
    pub user: Option<&'a str>,
    pub port: Option<u16>,
    pub unsaid: Unsaid,
}

/// The answer, its tokens still in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Configured {
    pub hostname: Option<String>,
    pub user: Option<String>,
    pub port: Option<u16>,
    pub identity_files: Vec<String>,
    pub identities_only: bool,
    pub identity_agent: Option<String>,
    pub proxy_jump: Option<String>,
    pub proxy_command: Option<String>,
    pub user_known_hosts: Vec<String>,
    pub global_known_hosts: Vec<String>,
    pub host_key_alias: Option<String>,
    /// The blocks that apply: `/root/.ssh/config:3`.
    pub places: Vec<String>,
}

impl ClientConfig {
    /// What the files say of a host; `None` when there is no file. Errors name the file and what to do.
    pub(super) async fn ask(&self, question: Question<'_>) -> Result<Option<Configured>, String> {
        let files = self.files()?;
        if files.is_empty() {
            return Ok(None);
        }
        let failed = |why: String| format!("`ssh -G` cannot read {}: {why}", listed(&files));
        let whole = including(&files, question.unsaid).map_err(|error| failed(error.to_string()))?;
        let mut ssh = Command::new("ssh");
        ssh.args(["-vvv", "-G", "-F"]).arg(whole.path());
        if let Some(user) = question.user {
            ssh.args(["-l", user]);
        }
        if let Some(port) = question.port {
            ssh.args(["-p", &port.to_string()]);
        }
        ssh.args(["--", question.host]).stdin(Stdio::null()).kill_on_drop(true);
        let output = match tokio::time::timeout(LIMIT, ssh.output()).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(failed(
                    "there is no `ssh` here: install OpenSSH's client, or write `ssh: (config: \"none\")` and everything \
                     that it would say into the cluster file"
                        .to_owned(),
                ));
            }
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(failed(format!("no answer within {} s", LIMIT.as_secs()))),
        };
        let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            let words: Vec<&str> = told.lines().filter(|line| !line.starts_with("debug")).collect();
            let ours = whole.path().display().to_string();
            return Err(failed(words.join("; ").replace(&ours, "it")));
        }
        Ok(Some(Configured { places: places(&told, whole.path()), ..parse(&said) }))
    }

    fn files(&self) -> Result<Vec<PathBuf>, String> {
        match self {
            Self::None => Ok(Vec::new()),
            Self::File(path) if path.exists() => Ok(vec![path.clone()]),
            Self::File(path) => Err(format!("`ssh: (config: …)` names {}, which is not there", path.display())),
            Self::Person(path) => {
                Ok([path.clone(), PathBuf::from(SYSTEM)].into_iter().filter(|file| file.exists()).collect())
            }
        }
    }
}

/// A file that includes these. The first value wins, so that ours for what is unsaid stands last.
fn including(files: &[PathBuf], unsaid: Unsaid) -> std::io::Result<tempfile::NamedTempFile> {
    let mut whole = tempfile::Builder::new().prefix("rke2flow-ssh-").tempfile()?;
    for file in files {
        writeln!(whole, "Include \"{}\"", file.display())?;
    }
    if unsaid == Unsaid::Root {
        writeln!(whole, "Host *\n    User root")?;
    }
    whole.flush()?;
    Ok(whole)
}

fn listed(files: &[PathBuf]) -> String {
    files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(" and ")
}

fn places(told: &str, ours: &Path) -> Vec<String> {
    let ours = ours.display().to_string();
    let (mut places, mut matching) = (Vec::new(), None);
    for line in told.lines() {
        let place = |what: &str| {
            let (place, _) = line.split_once(": ")?.1.split_once(what)?;
            Some(place.replacen(" line ", ":", 1))
        };
        let applies = if line == MATCH_FOUND { matching.take() } else { place(APPLIED) };
        matching = place(MATCHED).or(matching);
        places.extend(applies.filter(|place| !place.starts_with(&ours)));
    }
    places.dedup();
    places
}

fn parse(said: &str) -> Configured {
    let mut configured = Configured::default();
    for line in said.lines() {
        let Some((name, value)) = line.split_once(' ') else { continue };
        let words = || value.split_whitespace().map(str::to_owned).collect();
        let text = || Some(value.to_owned()).filter(|value| value != rke2flow_engine::cluster::NO_FILE);
        match name {
            "hostname" => configured.hostname = Some(value.to_owned()),
            "user" => configured.user = Some(value.to_owned()),
            "port" => configured.port = value.parse().ok(),
            "identityfile" => configured.identity_files.extend(text()),
            "identitiesonly" => configured.identities_only = value == "yes",
            // `none` is an answer here: no agent.
            "identityagent" => configured.identity_agent = Some(value.to_owned()),
            "proxyjump" => configured.proxy_jump = text(),
            "proxycommand" => configured.proxy_command = text(),
            "userknownhostsfile" => configured.user_known_hosts = words(),
            "globalknownhostsfile" => configured.global_known_hosts = words(),
            "hostkeyalias" => configured.host_key_alias = text(),
            _ => {}
        }
    }
    configured
}
