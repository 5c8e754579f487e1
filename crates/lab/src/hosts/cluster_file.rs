//! The lab's cluster file: what an operator of such a cluster would write.

use std::path::PathBuf;

use rke2flow_engine::cluster::{self, Cluster, Kube, Releases, Ssh};
use rke2flow_engine::id::HostName;

use super::error::LabError;
use super::lab::{self, Lab};
use super::spec::{Extent, Role};
use super::{Host, s3};
use crate::standin::flavor;

/// Where the hosts see the releases.
pub const RELEASES: &str = "/srv/lab/releases";

const HEAD: &str =
    "// The cluster file of a lab, written by `rke2flow-lab up`. Addresses and keys are new in every lab.\n";

/// Writes it.
pub fn write(lab: &Lab) -> Result<(), LabError> {
    let text = cluster(lab)?.to_ron();
    lab::write(&lab.cluster_file(), &format!("{HEAD}{text}\n"))
}

fn cluster(lab: &Lab) -> Result<Cluster, LabError> {
    let spec = lab.spec();
    let ssh = Ssh {
        user: Some("root".to_owned()),
        key: Some(lab.key()),
        known_hosts: Some(lab.known_hosts()),
        ..Ssh::default()
    };
    Ok(Cluster {
        format: cluster::FORMAT,
        name: spec.name.to_string(),
        distribution: flavor::distribution(&spec.version),
        version: Some(spec.version.clone()),
        hosts: lab.hosts().iter().map(host).collect::<Result<_, _>>()?,
        ssh,
        init: Some(name(&spec.init)),
        s3: (spec.extent > Extent::Bare).then(|| s3::in_cluster_file(lab)),
        velero: None,
        token: None,
        kube: Kube::Ssh,
        health_urls: Vec::new(),
        health_ca: None,
        releases: Releases::Directory(PathBuf::from(RELEASES)),
        paths: None,
        rehearsal: None,
    })
}

fn host(host: &Host<'_>) -> Result<cluster::Host, LabError> {
    let role = match host.role() {
        Role::Server => cluster::Role::Server,
        Role::Agent => cluster::Role::Agent,
    };
    let (name, address) = (name(host.name()), host.address()?);
    Ok(cluster::Host { name, address, node_ip: None, role, groups: Vec::new(), ssh: Ssh::default(), arch: None })
}

fn name(host: &str) -> HostName {
    HostName::new(host).expect("`server-0` and its like are host names")
}
