//! What a distribution is: its names, places, ports and capabilities. Scripts and probes consult this value, so that a
//! runbook is the same for all of them.

use rke2flow_engine::cluster::{Distribution, Releases, Role};

/// The port of the Kubernetes API.
pub const API_PORT: u16 = 6443;

/// A distribution as a value.
#[derive(Debug, PartialEq, Eq)]
pub struct Traits {
    /// As people write it: `RKE2`.
    pub title: &'static str,
    /// Name of the binary and of its `killall` script, last part of its directories, and what the objects, annotations
    /// and uploads of etcd carry (K3S pkg/version/version.go `Program`): `rke2`.
    pub name: &'static str,
    /// Begin of its environment variables: `RKE2`.
    pub environment: &'static str,
    /// The server's systemd unit.
    pub server_unit: &'static str,
    /// The agent's systemd unit.
    pub agent_unit: &'static str,
    /// Where servers and agents join: a port of its own, or the API's.
    pub supervisor_port: u16,
    /// Whether the control plane runs as static pods. Their containers outlive the unit; without them etcd and the API
    /// are inside the unit's own process, stop with it and are of its version.
    pub static_pods: bool,
    /// Whether a release is the binary itself, rather than an archive that the installer unpacks.
    pub bare_binary: bool,
    /// Whether a cluster may have another datastore than embedded etcd (K3S pkg/cluster/storage.go: kine).
    pub other_datastores: bool,
    /// Whether the installer writes flags and variables into the unit (K3S install.sh `INSTALL_K3S_EXEC`). A flag there
    /// counts for more than every file, and the installer forgets those of the time before.
    pub flags_in_unit: bool,
    /// The files and directories of `server/manifests` that a release brings along, as patterns of `sh`.
    pub charts: &'static [&'static str],
    /// Labels of its charts' pods, each with the begin of its value, besides those that every distribution has.
    pub system_pods: &'static [(&'static str, &'static str)],
    /// Where its releases are: `{version}` and `{file}`.
    pub releases: &'static str,
    /// Where the installer of a release is: `{version}`. It is no file of the release on GitHub.
    pub installer: &'static str,
}

static RKE2: Traits = Traits {
    title: "RKE2",
    name: "rke2",
    environment: "RKE2",
    server_unit: "rke2-server",
    agent_unit: "rke2-agent",
    supervisor_port: 9345,
    static_pods: true,
    bare_binary: false,
    other_datastores: false,
    flags_in_unit: false,
    charts: &["rke2-*.yaml"],
    system_pods: &[("app.kubernetes.io/name", "rke2-")],
    // R2:install.sh downloads `https://github.com/rancher/rke2/releases/download/<version>/<file>`.
    releases: "https://github.com/rancher/rke2/releases/download/{version}/{file}",
    installer: "https://raw.githubusercontent.com/rancher/rke2/{version}/install.sh",
};

static K3S: Traits = Traits {
    title: "K3s",
    name: "k3s",
    environment: "K3S",
    server_unit: "k3s",
    agent_unit: "k3s-agent",
    supervisor_port: API_PORT,
    static_pods: false,
    bare_binary: true,
    other_datastores: true,
    flags_in_unit: true,
    // K3S manifests/ and pkg/deploy: what people put beside them is theirs.
    charts: &[
        "ccm.yaml",
        "coredns.yaml",
        "local-storage.yaml",
        "metrics-server",
        "rolebindings.yaml",
        "runtimes.yaml",
        "traefik.yaml",
    ],
    // K3S manifests/; flannel is inside the process.
    system_pods: &[
        ("k8s-app", "metrics-server"),
        ("app", "local-path-provisioner"),
        ("app.kubernetes.io/name", "traefik"),
        ("app", "svclb-"),
    ],
    // K3S install.sh `GITHUB_URL`.
    releases: "https://github.com/k3s-io/k3s/releases/download/{version}/{file}",
    installer: "https://raw.githubusercontent.com/k3s-io/k3s/{version}/install.sh",
};

impl Traits {
    /// Those of a distribution.
    pub fn of(distribution: Distribution) -> &'static Traits {
        match distribution {
            Distribution::Rke2 => &RKE2,
            Distribution::K3s => &K3S,
        }
    }

    /// Those of the distribution of this name; of RKE2 for every other name.
    pub fn named(name: &str) -> &'static Traits {
        if name == K3S.name { &K3S } else { &RKE2 }
    }

    /// The systemd unit of a role.
    pub fn unit(&self, role: Role) -> &'static str {
        match role {
            Role::Server => self.server_unit,
            Role::Agent => self.agent_unit,
        }
    }

    /// The ports of a server that say that its control plane answers: etcd's two, the API's, the supervisor's.
    pub fn server_ports(&self) -> Vec<u16> {
        let mut ports = vec![2379, 2380, API_PORT, self.supervisor_port];
        ports.dedup();
        ports
    }

    /// Where the releases come from: the cluster file's source, when it names one.
    pub fn releases_of(&self, said: &Releases) -> Releases {
        if *said == Releases::default() { Releases::Url(self.releases.to_owned()) } else { said.clone() }
    }

    /// The file of a release that has the binary.
    pub fn artifact(&self, arch: &str) -> String {
        match (self.bare_binary, arch) {
            (false, arch) => format!("{}.linux-{arch}.tar.gz", self.name),
            // K3S install.sh setup_verify_arch: the plain name is amd64's.
            (true, "amd64") => self.name.to_owned(),
            (true, arch) => format!("{}-{arch}", self.name),
        }
    }

    /// The file of a release that has the images of its containers.
    pub fn images(&self, arch: &str) -> String {
        match self.bare_binary {
            false => format!("{}-images.linux-{arch}.tar.zst", self.name),
            true => format!("{}-airgap-images-{arch}.tar.zst", self.name),
        }
    }

    /// The secret of a node's password.
    pub fn node_password(&self, node: &str) -> String {
        format!("/api/v1/namespaces/kube-system/secrets/{node}.node-password.{}", self.name)
    }

    /// A key of etcd's annotations and labels on nodes and snapshot records: `etcd.rke2.cattle.io/…`.
    pub fn etcd_key(&self, name: &str) -> String {
        format!("etcd.{}.cattle.io/{name}", self.name)
    }

    /// User metadata of its own uploads of snapshots, in lower case (K3S pkg/etcd/s3/s3.go): `rke2-token-hash`.
    pub fn upload_mark(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_has_its_own_names_of_a_releases_files() {
        let names = |distribution: Distribution, arch: &str| {
            let traits = Traits::of(distribution);
            (traits.artifact(arch), traits.images(arch))
        };
        let pair = |artifact: &str, images: &str| (artifact.to_owned(), images.to_owned());
        let rke2 = pair("rke2.linux-arm64.tar.gz", "rke2-images.linux-arm64.tar.zst");
        assert_eq!(names(Distribution::Rke2, "arm64"), rke2);
        assert_eq!(names(Distribution::K3s, "amd64"), pair("k3s", "k3s-airgap-images-amd64.tar.zst"));
        assert_eq!(names(Distribution::K3s, "arm64"), pair("k3s-arm64", "k3s-airgap-images-arm64.tar.zst"));
    }

    #[test]
    fn k3s_has_one_port_for_its_supervisor_and_its_api() {
        assert_eq!(Traits::of(Distribution::Rke2).server_ports(), [2379, 2380, 6443, 9345]);
        assert_eq!(Traits::of(Distribution::K3s).server_ports(), [2379, 2380, 6443]);
    }

    #[test]
    fn releases_come_from_the_distributions_own_place_unless_the_cluster_file_names_one() {
        let traits = Traits::of(Distribution::K3s);
        assert_eq!(traits.releases_of(&Releases::default()), Releases::Url(K3S.releases.to_owned()));
        let own = Releases::Url("https://mirror.test/{version}/{file}".to_owned());
        assert_eq!(traits.releases_of(&own), own);
        assert_eq!(Traits::of(Distribution::Rke2).releases_of(&Releases::default()), Releases::default());
    }
}
