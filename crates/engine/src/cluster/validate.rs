//! What can be wrong with a cluster file that has the right form.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Cluster, Distribution, FORMAT, HOSTS_MAX, Releases, Role};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::id::StepId;
use crate::source::{self, Mark, Marked, SourceText};

/// Everything that is wrong, or looks wrong, in the order of the checks.
pub(super) fn check(cluster: &Cluster, source: &SourceText) -> Diagnostics {
    let marks = source::parse::<Marks>(source).map(|parsed| parsed.value).unwrap_or_default();
    let mut checker = Checker { source, marks, found: Diagnostics::new() };
    checker.head(cluster);
    checker.hosts(cluster);
    checker.init(cluster);
    checker.addresses_of_others(cluster);
    checker.found
}

/// Whether a text is a release such as `v1.33.4+rke2r1` or `v1.33.4+k3s1`.
pub fn check_version(text: &str) -> Result<(), String> {
    let expected = || format!("`{text}` is not a version: expected one such as v1.33.4+rke2r1 or v1.33.4+k3s1");
    let version = text.strip_prefix('v').and_then(|rest| semver::Version::parse(rest).ok()).ok_or_else(expected)?;
    let build = version.build.as_str();
    let revision = build.strip_prefix("rke2r").or_else(|| build.strip_prefix("k3s")).ok_or_else(expected)?;
    revision.parse::<u32>().map(drop).map_err(|_| expected())
}

/// The same file once more, as the places of what is checked here. [`Cluster`] itself stays plain data.
#[derive(Default, Deserialize)]
struct Marks {
    #[serde(default)]
    format: Spot,
    #[serde(default)]
    name: Spot,
    #[serde(default)]
    version: Spot,
    #[serde(default)]
    hosts: Vec<HostMarks>,
    #[serde(default)]
    init: Spot,
    #[serde(default)]
    s3: Spot,
    #[serde(default)]
    health_urls: Vec<Marked<IgnoredAny>>,
    #[serde(default)]
    releases: Spot,
    #[serde(default)]
    paths: Spot,
    #[serde(default)]
    rehearsal: Spot,
}

type Spot = Option<Marked<IgnoredAny>>;

#[derive(Default, Clone, Deserialize)]
struct HostMarks {
    #[serde(default)]
    name: Spot,
    #[serde(default)]
    address: Spot,
    #[serde(default)]
    ssh: Spot,
    #[serde(default)]
    arch: Spot,
}

struct Checker<'a> {
    source: &'a SourceText,
    marks: Marks,
    found: Diagnostics,
}

fn mark(spot: &Spot) -> Option<Mark> {
    spot.as_ref().map(|marked| marked.mark)
}

impl Checker<'_> {
    fn add(&mut self, mark: Option<Mark>, diagnostic: Diagnostic) {
        let place = mark.and_then(|mark| source::locate::<Marks>(self.source, mark));
        self.found.push(match place {
            Some(place) => diagnostic.at(self.source, place),
            None => diagnostic.in_file(self.source.name()),
        });
    }

    fn head(&mut self, cluster: &Cluster) {
        if cluster.format != FORMAT {
            let message = format!("format {} is not known to this version", cluster.format);
            let help = format!("expected `format: {FORMAT}`");
            self.add(mark(&self.marks.format), Diagnostic::error(message).help(help));
        }
        if StepId::new(cluster.name.as_str()).is_err() {
            let message = format!("`{}` is not a name for a cluster", cluster.name);
            let help = "write 1 to 63 of a-z, 0-9 and `-`: it is written into claims on hosts";
            self.add(mark(&self.marks.name), Diagnostic::error(message).help(help));
        }
        if let Some(version) = &cluster.version {
            let fits = |version: &str| match cluster.distribution {
                Distribution::Rke2 => version.contains("+rke2r"),
                Distribution::K3s => version.contains("+k3s"),
            };
            if let Err(why) = check_version(version) {
                self.add(mark(&self.marks.version), Diagnostic::error(why));
            } else if !fits(version) {
                let message = format!("`{version}` is not a version of {:?}", cluster.distribution);
                self.add(mark(&self.marks.version), Diagnostic::error(message));
            }
        }
        if cluster.rehearsal.is_some_and(|rehearsal| rehearsal.speed == 0) {
            let help = "write 1 for the speed of life, 50 for fifty times faster";
            self.add(mark(&self.marks.rehearsal), Diagnostic::error("a rehearsal at speed 0 never ends").help(help));
        }
    }

    fn hosts(&mut self, cluster: &Cluster) {
        if cluster.hosts.len() > HOSTS_MAX {
            let message = format!("{} hosts are more than the {HOSTS_MAX} that are possible", cluster.hosts.len());
            self.add(None, Diagnostic::error(message));
            return;
        }
        let mut names = HashMap::new();
        let mut addresses = HashMap::new();
        for (index, host) in cluster.hosts.iter().enumerate() {
            let marks = self.marks.hosts.get(index).cloned().unwrap_or_default();
            if names.insert(host.name.as_str(), index).is_some() {
                let message = format!("there are two hosts named `{}`", host.name);
                self.add(
                    mark(&marks.name),
                    Diagnostic::error(message).help("a host's name is its Kubernetes node name"),
                );
            }
            let port = cluster.ssh_of(host).port.unwrap_or(22);
            if port == 0 {
                let message = format!("host `{}` has the SSH port 0", host.name);
                self.add(mark(&marks.ssh), Diagnostic::error(message));
            }
            if !is_address(&host.address) {
                let message = format!("`{}` is not an address", host.address);
                let help = "write an IP address or a DNS name; user and port go into `ssh: (user: …, port: …)`";
                self.add(mark(&marks.address), Diagnostic::error(message).help(help));
            }
            if let Some(first) = addresses.insert((host.address.as_str(), port), index) {
                let other = &cluster.hosts[first].name;
                let message =
                    format!("hosts `{other}` and `{}` have the same address {}:{port}", host.name, host.address);
                self.add(mark(&marks.address), Diagnostic::error(message));
            }
            if let Some(arch) = host.arch.as_deref().filter(|arch| !["amd64", "arm64"].contains(arch)) {
                let message = format!("unknown architecture `{arch}`");
                self.add(mark(&marks.arch), Diagnostic::error(message).meant(arch, ["amd64", "arm64"]));
            }
        }
        self.servers(cluster);
    }

    fn servers(&mut self, cluster: &Cluster) {
        let servers = cluster.servers().count();
        if servers == 0 {
            let help = "at least one host needs `role: Server`";
            self.add(None, Diagnostic::error("the cluster has no server").help(help));
        } else if servers.is_multiple_of(2) {
            let message = format!("{servers} servers stand no more losses than {}", servers - 1);
            let help = "etcd needs a majority of its members: an odd number is usual";
            self.add(None, Diagnostic::warning(message).help(help));
        }
    }

    fn init(&mut self, cluster: &Cluster) {
        let Some(init) = &cluster.init else { return };
        match cluster.host(init) {
            None => {
                let message = format!("`init` names `{init}`, but there is no such host");
                let known = cluster.servers().map(|host| host.name.as_str());
                self.add(mark(&self.marks.init), Diagnostic::error(message).meant(init.as_str(), known));
            }
            Some(host) if host.role != Role::Server => {
                let message = format!("`init` names `{init}`, which is no server");
                let known: Vec<_> = cluster.servers().map(|host| format!("`{}`", host.name)).collect();
                let help = format!("the servers are {}", known.join(", "));
                self.add(mark(&self.marks.init), Diagnostic::error(message).help(help));
            }
            Some(_) => {}
        }
    }

    fn addresses_of_others(&mut self, cluster: &Cluster) {
        let is_url =
            |url: &str| url.strip_prefix("https://").or(url.strip_prefix("http://")).is_some_and(|r| !r.is_empty());
        for (index, url) in cluster.health_urls.iter().enumerate().filter(|(_, url)| !is_url(url)) {
            let at = self.marks.health_urls.get(index).map(|marked| marked.mark);
            let message = format!("`{url}` is not a URL");
            self.add(at, Diagnostic::error(message).help("it begins with https:// or http://"));
        }
        if let Some(s3) = cluster.s3.as_ref().filter(|s3| !is_url(&s3.endpoint)) {
            let message = format!("the S3 endpoint `{}` is not a URL", s3.endpoint);
            self.add(mark(&self.marks.s3), Diagnostic::error(message).help("it begins with https:// or http://"));
        }
        match &cluster.releases {
            Releases::Url(url) if !is_url(url) || !url.contains("{version}") || !url.contains("{file}") => {
                let message = format!("`{url}` is not a place for releases");
                let help = "write a URL with {version} and {file} in it";
                self.add(mark(&self.marks.releases), Diagnostic::error(message).help(help));
            }
            Releases::Directory(path) if !path.is_absolute() => {
                let message = format!("`{}` is a directory on the hosts, so it has to begin with `/`", path.display());
                self.add(mark(&self.marks.releases), Diagnostic::error(message));
            }
            _ => {}
        }
        let paths = cluster.paths.iter().flat_map(|paths| {
            [&paths.data, &paths.config, &paths.bin, &paths.systemd, &paths.state].into_iter().flatten()
        });
        for path in paths.filter(|path| !path.starts_with('/')) {
            let message = format!("`{path}` is a path on the hosts, so it has to begin with `/`");
            self.add(mark(&self.marks.paths), Diagnostic::error(message));
        }
    }
}

/// Letters, digits and what IPv6 and DNS names have; nothing that a command line could take for an option.
fn is_address(address: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    !address.is_empty() && !address.starts_with('-') && address.chars().all(fits)
}
