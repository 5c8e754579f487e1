//! A lab in which RKE2 is installed and not started: the cluster file, the S3 endpoint, what the installer did.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rke2flow_engine::cluster::{self, Cluster, Releases, Secret};
use rke2flow_lab::hosts::{self, Extent, Lab};
use rke2flow_steps::access::s3::S3Bucket;
use rke2flow_steps::ports::Bucket as _;
use rke2flow_steps::secret::Secrets;

fn installed() -> Option<Lab> {
    hosts::required_or_left_out(module_path!())
        .then(|| hosts::turn().unwrap().up(|spec| spec.hosts(2, 1).extent(Extent::Installed)).unwrap())
}

fn cluster(lab: &Lab) -> Cluster {
    cluster::read(&lab.cluster_file()).unwrap_or_else(|found| panic!("{found:?}")).cluster
}

async fn bucket(cluster: &Cluster) -> S3Bucket {
    let secrets = Secrets::resolve(cluster).await.unwrap();
    S3Bucket::new(cluster.s3.as_ref().unwrap(), &secrets).unwrap()
}

#[tokio::test]
async fn the_cluster_file_is_one_that_rke2flow_takes_and_its_bucket_answers() {
    let Some(lab) = installed() else { return };
    let mut cluster = cluster(&lab);
    assert_eq!(cluster.init_server().unwrap().name.as_str(), "server-0");
    let addresses: Vec<_> = cluster.hosts.iter().map(|host| host.address.as_str()).collect();
    assert_eq!(addresses, lab.hosts().iter().map(|host| host.address().unwrap()).collect::<Vec<_>>());
    let Releases::Directory(releases) = &cluster.releases else { panic!("{:?}", cluster.releases) };
    let listed = lab.host("agent-0").unwrap().must(&format!("ls {}", releases.display())).unwrap();
    assert_eq!(listed, "v1.33.4+rke2r1\n");

    let objects = bucket(&cluster).await;
    let metadata = BTreeMap::from([("rke2-node-name".to_owned(), "server-0".to_owned())]);
    objects.put("lab/one", vec![7; 1000], metadata.clone()).await.unwrap();
    let found = objects.head("lab/one").await.unwrap().unwrap();
    assert_eq!((found.size, found.metadata.get("rke2-node-name")), (1000, metadata.get("rke2-node-name")));
    assert_eq!(objects.list("lab/", 10).await.unwrap().len(), 1);

    // Cut off, it is silent; connected again, it still has its objects.
    let address: SocketAddr = cluster.s3.as_ref().unwrap().endpoint.trim_start_matches("http://").parse().unwrap();
    let answers = || TcpStream::connect_timeout(&address, Duration::from_millis(700)).is_ok();
    let from_a_host = format!("timeout 1 bash -c ': </dev/tcp/s3/{}'", address.port());
    let sees = || lab.host("server-1").unwrap().exec(&from_a_host).unwrap().success();
    assert!(answers() && sees());
    lab.cut_s3().unwrap();
    assert!(!answers() && !sees());
    lab.heal_s3().unwrap();
    assert!(answers() && sees());
    assert_eq!(objects.get("lab/one", 1 << 20).await.unwrap().unwrap(), vec![7; 1000]);

    // Signatures are checked.
    let s3 = cluster.s3.as_mut().unwrap();
    s3.secret_key = Secret::File(lab.dir().join("token"));
    let refused = bucket(&cluster).await.list("lab/", 10).await.unwrap_err();
    assert!(refused.to_string().contains("SignatureDoesNotMatch"), "{refused}");
}

#[test]
fn the_release_is_installed_as_its_installer_does_and_nothing_is_started() {
    let Some(lab) = installed() else { return };
    for host in lab.hosts() {
        let unit = host.unit();
        let state = host.must(&format!("systemctl show -P ActiveState -P UnitFileState -P KillMode {unit}")).unwrap();
        let mut state: Vec<_> = state.split_whitespace().collect();
        state.sort_unstable();
        assert_eq!(state, ["disabled", "inactive", "process"], "{}", host.name());
        assert_eq!(host.must("stat -c '%a %U' /etc/rancher/rke2/config.yaml").unwrap(), "600 root\n");
        let joins = host.must("grep -c '^server: https://10.*:9345$' /etc/rancher/rke2/config.yaml || true").unwrap();
        assert_eq!(joins.trim() == "0", host.name() == "server-0");
        let s3 = host.must("grep -c '^etcd-s3-' /etc/rancher/rke2/config.yaml || true").unwrap();
        assert_eq!(s3.trim() == "0", host.name() == "agent-0");
        host.must("test -x /usr/local/bin/rke2 && test -x /srv/lab/bin/lab-rke2 && ! touch /srv/lab/bin/x 2>/dev/null")
            .unwrap();
    }
    // A new machine has none of it until somebody installs it; another release is there when it is offered.
    let host = lab.host("server-1").unwrap();
    host.replace().unwrap();
    host.must("test ! -e /etc/rancher && test ! -e /usr/local/bin/rke2").unwrap();
    lab.add_release("v1.34.2+rke2r1").unwrap();
    host.configure().unwrap();
    host.install("v1.34.2+rke2r1").unwrap();
    assert!(host.must("cat /usr/local/bin/rke2").unwrap().contains("v1.34.2+rke2r1"));
    assert!(host.install("v9.9.9+rke2r1").is_err());
}
