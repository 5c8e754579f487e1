//! What one server says of its cluster over SSH.

use std::path::Path;
use std::sync::Arc;

use rke2flow_engine::cluster::{Cluster, Distribution};
use rke2flow_engine::id::HostName;
use rke2flow_steps::access::Connected;
use rke2flow_steps::access::ssh::{HostReport, UNKNOWN_KEY, write_known_hosts};
use rke2flow_steps::host::Hosts;
use rke2flow_steps::paths::HostPaths;
use rke2flow_steps::ports::{Access, AccessError};
use serde_json::json;

use super::api::{Addresses, bare, look as look_by_api};
use super::found::{Bucket, Found, Way};
use crate::args::InitArgs;
use crate::exit::{Exit, Problem};
use crate::{asking, world};

/// Settings of RKE2 that are read; the list is short because the others hold secrets, and those stay on the host.
const READ_SETTINGS: &str = concat!(
    "for file in /etc/rancher/rke2/config.yaml /etc/rancher/rke2/config.yaml.d/*.yaml /etc/rancher/k3s/config.yaml ",
    "/etc/rancher/k3s/config.yaml.d/*.yaml; do [ -e \"$file\" ] || continue; ",
    "sed -n -E '/^(etcd-s3|etcd-s3-(endpoint|region|bucket|folder|insecure|config-secret)|data-dir|node-name):/p' \"$file\"; ",
    "done; echo \"uname: $(uname -n)\""
);

/// Logs in, reads the node's settings, and asks its own API server.
pub(super) async fn look(args: &InitArgs, host: &str, directory: &Path) -> Result<Found, Problem> {
    let (way, address) = way(args, host)?;
    let name = HostName::new(address.to_lowercase()).or_else(|_| HostName::new("the-server"));
    let name = name.expect("the second one is a name");
    let known_hosts = directory.join("known_hosts");
    let ssh = json!({
        "user": way.user, "port": way.port, "key": way.key, "config": way.config, "known_hosts": known_hosts,
    });
    let entry = json!({ "name": name.as_str(), "address": address, "role": "Server", "ssh": ssh });
    let cluster = Arc::new(bare(&[entry]));
    let (mut connected, report) = enter(args, &cluster, &name, &known_hosts).await?;
    if is_k3s(&connected, &name).await {
        let cluster = Arc::new(Cluster { distribution: Distribution::K3s, ..(*cluster).clone() });
        connected = enter(args, &cluster, &name, &known_hosts).await?.0;
    }
    let printed = Hosts::new(connected.access.clone()).script(&name, READ_SETTINGS).await;
    let settings = printed.ok().filter(|printed| printed.exit == 0).map(|printed| Settings::read(&printed.text));
    let own = settings.as_ref().and_then(|settings| settings.last("node-name").or_else(|| settings.last("uname")));
    let choose = |addresses: &Addresses<'_>| chosen(addresses, &address, own.as_deref());
    let mut found = look_by_api(connected.access.kube.as_ref(), Some(&name), &choose).await?;
    let target = match &way.user {
        Some(user) => format!("{user}@{address}"),
        None => address.clone(),
    };
    found.from = format!("{target} over SSH");
    found.ssh = way;
    found.name = report.survey.claim.map(|state| state.claim.cluster).unwrap_or_default();
    match settings {
        Some(settings) => settings.tell(&mut found),
        None => {
            found.notes.push("its settings could not be read: add `s3` by hand when snapshots are uploaded".to_owned())
        }
    }
    if !found.servers.iter().chain(&found.agents).any(|node| node.address == address) {
        let note = format!(
            "no node has the address {address}: the nodes' own addresses are written, check that they can be reached"
        );
        found.notes.push(note);
    }
    Ok(found)
}

/// A node of K3s has no kubeconfig under RKE2's name and one under its own. One that has neither is asked as RKE2's, and
/// what it says then is told.
async fn is_k3s(connected: &Connected, name: &HostName) -> bool {
    let hosts = |distribution: Distribution| {
        let cluster = Arc::new(Cluster { distribution, ..(*connected.access.cluster).clone() });
        Hosts::new(Access { paths: HostPaths::of(&cluster), cluster, ..connected.access.clone() })
    };
    hosts(Distribution::Rke2).kubeconfig(name).await.is_err() && hosts(Distribution::K3s).kubeconfig(name).await.is_ok()
}

/// `[USER@]HOST[:PORT]`; options win.
fn way(args: &InitArgs, host: &str) -> Result<(Way, String), Problem> {
    let bad = || {
        Problem::bad_input(format!("`{host}` is not [USER@]HOST[:PORT]"))
            .next("rke2flow init --from ssh root@10.0.0.10")
    };
    let (user, place) = match host.rsplit_once('@') {
        Some((user, place)) => (Some(user.to_owned()), place),
        None => (None, host),
    };
    let (address, port) = match place.rsplit_once(':') {
        Some((address, port)) if !address.contains(':') || address.ends_with(']') => {
            (address, Some(port.parse().map_err(|_| bad())?))
        }
        _ => (place, None),
    };
    let address = address.trim_start_matches('[').trim_end_matches(']').to_owned();
    if address.is_empty() || user.as_deref() == Some("") {
        return Err(bad());
    }
    let said = Way::of(args);
    Ok((Way { user: said.user.or(user), port: said.port.or(port), ..said }, address))
}

/// Logs in; an unknown host key is shown, and written down after a yes.
async fn enter(
    args: &InitArgs,
    cluster: &Arc<Cluster>,
    name: &HostName,
    known_hosts: &Path,
) -> Result<(Connected, HostReport), Problem> {
    let refused = |error: &dyn std::fmt::Display| {
        Problem::new(Exit::Refused, "cannot use the server: nothing was written").observed(error)
    };
    let mut asked = false;
    loop {
        let connected = world::open(cluster.clone(), &[]).await?;
        let report = connected.shell.check_all(std::slice::from_ref(name)).await.remove(0).1;
        match report {
            Ok(report) => return Ok((connected, report)),
            Err(AccessError::Refused { why, .. }) if why.contains(UNKNOWN_KEY) && !asked => {
                let scanned = connected.shell.scan_host_key(name).await.map_err(|error| refused(&error))?;
                eprintln!("{} shows the host key {}", scanned.key.address, scanned.fingerprint);
                consent(args)?;
                write_known_hosts(known_hosts, &[scanned.key]).map_err(|error| refused(&error))?;
                asked = true;
            }
            Err(error) => return Err(refused(&error)),
        }
    }
}

fn consent(args: &InitArgs) -> Result<(), Problem> {
    if args.yes {
        return Ok(());
    }
    let stopped = |next: &str| Problem::new(Exit::Stopped, "nothing was written: the host key is not known").next(next);
    if !asking::is_there() {
        return Err(stopped("rke2flow init … --yes   (after comparing the fingerprint)"));
    }
    match asking::read_answer("Compare it with `ssh-keygen -lf` on the host's own console. Trust it? [y/N] ") {
        Some(true) => Ok(()),
        _ => Err(stopped("rke2flow init …")),
    }
}

/// The node that was logged in to is written as it was typed, and the others by addresses of the same kind.
fn chosen(addresses: &Addresses<'_>, typed: &str, own: Option<&str>) -> String {
    let kinds = ["ExternalIP", "InternalIP", "Hostname"];
    let typed_is_it = kinds.iter().any(|kind| addresses.of(kind).as_deref() == Some(typed));
    if typed_is_it || own == Some(addresses.name().as_str()) { typed.to_owned() } else { addresses.internal() }
}

/// Lines `key: value`; a later file wins (RKE2's config.yaml.d).
struct Settings(Vec<(String, String)>);

impl Settings {
    fn read(text: &str) -> Self {
        let pair = |line: &str| {
            let (key, value) = line.split_once(':')?;
            let value = value.split(" #").next().unwrap_or_default().trim().trim_matches(['"', '\'']);
            Some((key.trim().to_owned(), value.to_owned()))
        };
        Self(text.lines().filter_map(pair).collect())
    }

    fn last(&self, key: &str) -> Option<String> {
        self.0
            .iter()
            .rev()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.clone())
            .filter(|value| !value.is_empty())
    }

    fn tell(&self, found: &mut Found) {
        if let Some(place) = self.last("data-dir") {
            found.notes.push(format!("its data-dir is {place}: add paths: (data: \"{place}\")"));
        }
        if let Some(secret) = self.last("etcd-s3-config-secret") {
            found.notes.push(format!("its S3 settings are in the secret kube-system/{secret}"));
        }
        let Some(bucket) = self.last("etcd-s3-bucket").filter(|_| self.last("etcd-s3").as_deref() == Some("true"))
        else {
            return;
        };
        let scheme = if self.last("etcd-s3-insecure").as_deref() == Some("true") { "http" } else { "https" };
        // K3S pkg/cli/cmds/etcd_snapshot.go has these defaults.
        let endpoint = self.last("etcd-s3-endpoint").unwrap_or_else(|| "s3.amazonaws.com".to_owned());
        found.s3 = Some(Bucket {
            endpoint: if endpoint.contains("://") { endpoint } else { format!("{scheme}://{endpoint}") },
            region: self.last("etcd-s3-region").unwrap_or_else(|| "us-east-1".to_owned()),
            bucket,
            folder: self.last("etcd-s3-folder").unwrap_or_default(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_that_are_read_make_the_bucket_and_a_later_file_wins() {
        let text = "etcd-s3: true\netcd-s3-bucket: old\netcd-s3-endpoint: \"fsn1.example.com\" # ours\n\
                    etcd-s3-folder: 'prod'\netcd-s3-bucket: new\nuname: server-0\n";
        let (settings, mut found) = (Settings::read(text), Found::default());
        settings.tell(&mut found);
        let bucket = found.s3.unwrap();
        assert_eq!((bucket.bucket.as_str(), bucket.endpoint.as_str()), ("new", "https://fsn1.example.com"));
        assert_eq!((bucket.folder.as_str(), bucket.region.as_str()), ("prod", "us-east-1"));
        assert_eq!(settings.last("uname").as_deref(), Some("server-0"));
    }

    #[test]
    fn no_secret_is_among_the_settings_that_leave_the_host() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.yaml");
        let text = "token: K10secret\netcd-s3: true\netcd-s3-access-key: AKIA\netcd-s3-secret-key: hidden\n\
                    etcd-s3-bucket: b\nagent-token: other\n";
        std::fs::write(&config, text).unwrap();
        let script = READ_SETTINGS.replacen("/etc/rancher/rke2/config.yaml", config.to_str().unwrap(), 1);
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(printed.starts_with("etcd-s3: true\netcd-s3-bucket: b\n"), "{printed}");
        for secret in ["K10secret", "AKIA", "hidden", "other"] {
            assert!(!printed.contains(secret), "{secret} left the host");
        }
    }
}
