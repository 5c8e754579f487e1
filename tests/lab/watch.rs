//! A watcher on every server that notes, several times a second, that a part of a control plane lives there: as a unit of
//! the host's own, so that it goes on when the operator is cut off, and again after a power cut.

use jiff::Timestamp;
use rke2flow_lab::hosts::Host;

use crate::scene::Scene;
use crate::writes::{self, moment};

/// What it is, and where it notes.
const UNIT: &str = "/etc/systemd/system/lab-watch.service";
const NOTES: &str = "/var/log/lab-watch";

/// Begins to watch every server.
pub fn begin(scene: &Scene) {
    let watch =
        format!("while :; do pgrep -x 'etcd|kube-apiserver' >/dev/null && date +%%s.%%6N >>{NOTES}; sleep 0.3; done");
    let unit = format!("[Service]\nExecStart=/bin/sh -c \"{watch}\"\n[Install]\nWantedBy=multi-user.target\n");
    for server in scene.servers() {
        let script = format!("cat >{UNIT} && systemctl enable --quiet --now lab-watch");
        server.must_within(&script, unit.as_bytes(), std::time::Duration::from_secs(60)).unwrap();
    }
}

/// Asserts that from the first moment of the newest reset on nothing of a control plane lived on any other server before
/// that server's own start.
#[track_caller]
pub fn nothing_lived_beside_the_reset(scene: &Scene) {
    let (restored, reset) = writes::newest_reset(scene);
    for server in scene.servers().iter().filter(|server| server.name() != restored) {
        let started = writes::started_at(server);
        let alive = notes(server);
        assert!(alive.iter().any(|at| *at < reset.from), "{} was not watched before {reset:?}", server.name());
        assert!(alive.iter().any(|at| *at > started), "{} was not watched after {started}", server.name());
        let early: Vec<_> = alive.into_iter().filter(|at| *at >= reset.from && *at < started).collect();
        assert!(early.is_empty(), "{} was started at {started}; alive on it: {early:?}", server.name());
    }
}

fn notes(server: &Host<'_>) -> Vec<Timestamp> {
    server.must(&format!("cat {NOTES} 2>/dev/null || true")).unwrap().lines().map(moment).collect()
}
