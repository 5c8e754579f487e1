//! What the workload of every node was told: each acknowledged write, with the moment and the server that said so.
//!
//! A writer per node counts in a ConfigMap of its own, without a pause longer than 200 ms while any API server accepts
//! it. Whoever accepts writes is a control plane.

use jiff::Timestamp;
use rke2flow_lab::hosts::Host;
use serde_json::Value;

use crate::data::etcdctl;
use crate::scene::Scene;

/// An acknowledged write.
#[derive(Debug, Clone)]
pub struct Write {
    /// The node that wrote.
    pub node: String,
    /// When the answer was there.
    pub at: Timestamp,
    /// What it wrote.
    pub count: u64,
    /// Who answered.
    pub server: String,
}

/// A stretch of time.
#[derive(Debug, Clone, Copy)]
pub struct Stretch {
    pub from: Timestamp,
    pub to: Timestamp,
}

/// Every acknowledged write of every node since `since`.
pub fn since(scene: &Scene, since: Timestamp) -> Vec<Write> {
    let hosts = scene.hosts();
    hosts.iter().flat_map(of_node).filter(|write| write.at >= since).collect()
}

/// The newest restore of a snapshot on the servers that are on: the server, and from the moment at which rke2flow's order
/// began to the reset's last word.
#[track_caller]
pub fn newest_reset(scene: &Scene) -> (String, Stretch) {
    let of_server = |server: &Host<'_>| {
        let found = server
            .must(
                "mkdir -p /var/lib/rke2flow && cd /var/lib/rke2flow && \
                 log=$(find . -name reset.log -exec stat -c '%.6Y %n' {} + | sort -n | tail -n 1 | cut -d ' ' -f 2) && \
                 [ -z \"$log\" ] || stat -c %.6Y \"${log%/*}/started\" \"$log\"",
            )
            .unwrap();
        let mut moments = found.lines().map(moment);
        Some((server.name().to_owned(), Stretch { from: moments.next()?, to: moments.next()? }))
    };
    let resets = scene.servers().iter().filter_map(of_server).collect::<Vec<_>>();
    resets.into_iter().max_by_key(|(_, reset)| reset.from).unwrap()
}

/// Asserts that there was one control plane at every moment since `since`: from the first moment of the reset on, nobody
/// was told *yes* by a server before that server's own start afterwards; and what was acknowledged is in etcd.
#[track_caller]
pub fn came_from_one_control_plane(scene: &Scene, since: Timestamp) {
    let (_, reset) = newest_reset(scene);
    let (before, after): (Vec<Write>, Vec<Write>) =
        self::since(scene, since).into_iter().partition(|write| write.at < reset.from);
    assert!(before.len() > 5, "too few writes before the reset to prove anything: {before:?}");
    for server in scene.servers() {
        let started = started_at(&server);
        assert!(started > reset.to, "{} was started at {started}, before the end of {reset:?}", server.name());
        let early: Vec<_> = after.iter().filter(|write| is_answered_by(write, &server) && write.at < started).collect();
        assert!(early.is_empty(), "{} was started at {started} and answered before: {early:?}", server.name());
    }
    let is_known = |write: &Write| scene.servers().iter().any(|server| is_answered_by(write, server));
    let strange: Vec<_> = after.iter().filter(|write| !is_known(write)).collect();
    assert!(strange.is_empty(), "answered by a server that is off: {strange:?}");
    for host in scene.hosts() {
        let newest = of_node(&host).pop().unwrap_or_else(|| panic!("no writes of {}", host.name()));
        assert!(newest.at > reset.to, "{} has not written since the reset: {newest:?}", host.name());
        let kept = kept(scene, host.name());
        assert!(kept >= newest.count, "{}: {newest:?} was acknowledged, and etcd has {kept}", host.name());
    }
}

/// The workload knows servers by their address, and on a server the server itself as this host.
fn is_answered_by(write: &Write, server: &Host<'_>) -> bool {
    match write.server.rsplit_once(':').unwrap().0 {
        "127.0.0.1" => write.node == server.name(),
        address => address == server.address().unwrap(),
    }
}

/// When the process of its unit was started.
pub fn started_at(server: &Host<'_>) -> Timestamp {
    let unit = server.unit();
    let asked = format!("date -d \"$(systemctl show --timestamp=us+utc -P ExecMainStartTimestamp {unit})\" +%s.%6N");
    moment(server.must(&asked).unwrap().trim())
}

/// Seconds since 1970 with six decimals.
pub fn moment(text: &str) -> Timestamp {
    let micros: i64 = text.replace('.', "").parse().unwrap();
    Timestamp::from_microsecond(micros).unwrap()
}

fn of_node(host: &Host<'_>) -> Vec<Write> {
    let log = host.must("cat /var/log/pods/default_lab-writer-*/lab-writer/0.log 2>/dev/null || true").unwrap();
    let read = |line: &str| {
        let mut words = line.split(' ');
        let (at, count, server) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?.to_owned());
        Some(Write { node: host.name().to_owned(), at, count, server })
    };
    log.lines().filter_map(read).collect()
}

/// What etcd has of a node's count.
fn kept(scene: &Scene, node: &str) -> u64 {
    let key = format!("/registry/core/configmaps/default/lab-writes-{node}");
    let object = etcdctl(&scene.first(), &format!("get --print-value-only {key}"));
    let object: Value = serde_json::from_str(&object).unwrap();
    object["data"]["count"].as_str().unwrap().parse().unwrap()
}
