//! `trust`: shows the host keys that a cluster's hosts present, and writes its known_hosts after a yes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures::future::join_all;
use rke2flow_engine::cluster::Cluster;
use rke2flow_engine::id::HostName;
use rke2flow_steps::access::ssh::{ScannedKey, TrustedKey, write_known_hosts};
use rke2flow_steps::ports::AccessError;

use super::{block_on, print};
use crate::args::{Global, TrustArgs};
use crate::exit::{Exit, Outcome, Problem};
use crate::show::{self, Colour};
use crate::{asking, place, reading, world};

/// Asks every host for its key, shows the fingerprints, and remembers them after a yes.
pub fn trust(global: &Global, args: &TrustArgs) -> Outcome {
    let path = place::cluster_path(global)?;
    let cluster = Arc::new(reading::read_cluster(&path)?.cluster);
    let Some(known_hosts) = cluster.ssh.known_hosts.clone() else {
        return Err(Problem::bad_input(format!("{} names no known_hosts file to write", path.display()))
            .next("add to the cluster file: ssh: (known_hosts: \"known_hosts\")"));
    };
    trust_the_way(args, &cluster, &known_hosts)?;
    let scanned = block_on_scan(cluster)?;
    let (found, silent): (Vec<_>, Vec<_>) = scanned.into_iter().partition(|(_, answer)| answer.is_ok());
    let found: Vec<(HostName, ScannedKey)> =
        found.into_iter().filter_map(|(host, key)| Some((host, key.ok()?))).collect();
    print(&table(&found, &known_hosts));
    for (host, answer) in &silent {
        if let Err(error) = answer {
            eprintln!("{host}: {error}");
        }
    }
    if found.is_empty() {
        return Err(Problem::new(Exit::Refused, "no host showed a key").next("rke2flow doctor"));
    }
    consent(args)?;
    let keys: Vec<TrustedKey> = found.into_iter().map(|(_, scanned)| scanned.key).collect();
    write_known_hosts(&known_hosts, &keys)
        .map_err(|error| Problem::bad_input("cannot write the host keys").observed(error))?;
    eprintln!("{} host keys are in {}", keys.len(), known_hosts.display());
    Ok(if silent.is_empty() { Exit::Done } else { Exit::Refused })
}

/// Jump hosts come first, the nearest before the next: nothing beyond can be seen through a host that is not known.
fn trust_the_way(args: &TrustArgs, cluster: &Arc<Cluster>, known_hosts: &Path) -> Result<(), Problem> {
    for _ in 0..JUMPS_MAX {
        let mut scanned = BTreeMap::new();
        block_on(async {
            let shell = world::open(cluster.clone(), &[]).await?.shell;
            scanned = shell.scan_unknown_jumps(&world::hosts(cluster, &[])).await;
            Ok(Exit::Done)
        })?;
        let mut keys = Vec::new();
        for ((name, _), answer) in scanned {
            match answer {
                Ok(scanned) => {
                    print(&format!("jump host {name}  {}  new", scanned.fingerprint));
                    keys.push(scanned.key);
                }
                Err(error) => eprintln!("{error}"),
            }
        }
        if keys.is_empty() {
            return Ok(());
        }
        consent(args)?;
        write_known_hosts(known_hosts, &keys)
            .map_err(|error| Problem::bad_input("cannot write the host keys").observed(error))?;
    }
    Ok(())
}

/// Hosts that are gone through to reach one, at most.
const JUMPS_MAX: usize = 8;

type Scanned = Vec<(HostName, Result<ScannedKey, AccessError>)>;

fn block_on_scan(cluster: Arc<Cluster>) -> Result<Scanned, Problem> {
    let mut scanned = Vec::new();
    block_on(async {
        let shell = world::open(cluster.clone(), &[]).await?.shell;
        let hosts = world::hosts(&cluster, &[]);
        let scans = hosts.iter().map(|host| async { (host.clone(), shell.scan_host_key(host).await) });
        scanned = join_all(scans).await;
        Ok(Exit::Done)
    })?;
    Ok(scanned)
}

fn table(found: &[(HostName, ScannedKey)], known_hosts: &Path) -> String {
    // A file that is not there knows nothing; one that cannot be read is refused when it is written.
    let known = std::fs::read_to_string(known_hosts).unwrap_or_default();
    let colour = Colour::of_stdout();
    let rows = found.iter().map(|(host, scanned)| {
        let word = match standing(&known, &scanned.key) {
            Standing::Known => colour.good("known"),
            Standing::New => "new".to_owned(),
            Standing::Changed => colour.bad("CHANGED: another key is remembered"),
        };
        vec![host.to_string(), scanned.key.address.clone(), scanned.fingerprint.clone(), word]
    });
    show::table(&["HOST", "ADDRESS", "FINGERPRINT", ""], rows)
}

enum Standing {
    Known,
    New,
    Changed,
}

fn standing(known: &str, key: &TrustedKey) -> Standing {
    let pattern = if key.port == 22 { key.address.clone() } else { format!("[{}]:{}", key.address, key.port) };
    let kind = key.key.algorithm().to_string();
    let words: Vec<Vec<&str>> = known.lines().map(|line| line.split_whitespace().collect()).collect();
    let of_host: Vec<_> = words.iter().filter(|words| words.first() == Some(&pattern.as_str())).collect();
    let presented = key.key.to_openssh().unwrap_or_default();
    let presented: Vec<&str> = presented.split_whitespace().take(2).collect();
    if of_host.iter().any(|words| words.get(1..3) == Some(presented.as_slice())) {
        Standing::Known
    } else if of_host.iter().any(|words| words.get(1) == Some(&kind.as_str())) {
        Standing::Changed
    } else {
        Standing::New
    }
}

fn consent(args: &TrustArgs) -> Result<(), Problem> {
    if args.yes {
        return Ok(());
    }
    if !asking::is_there() {
        return Err(Problem::new(Exit::Stopped, "nothing was written: there is no terminal to ask at")
            .next("rke2flow trust --yes   (after comparing the fingerprints)"));
    }
    let question = "Compare the fingerprints with what each host's console shows (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub).\nTrust these keys? [y/N] ";
    match asking::read_answer(question) {
        Some(true) => Ok(()),
        _ => Err(Problem::new(Exit::Stopped, "nothing was written")),
    }
}
