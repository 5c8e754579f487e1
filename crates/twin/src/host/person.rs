//! What a person's own commands do on a host: the few that the twin's shell knows.

use rke2flow_engine::id::HostName;
use rke2flow_steps::command::NodePart;

use crate::host::File;
use crate::world::World;
use crate::world::plane::Cause;

/// Whether a script may change anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Allowed {
    Look,
    Change,
}

impl World {
    /// `true`, `false`, `exit N`, `test -e PATH`; and when it may change something `touch PATH`, `rm [-f|-rf] PATH`,
    /// `systemctl [--no-block] start|stop|restart UNIT`, `rke2-killall.sh`.
    pub(crate) fn script(&mut self, name: &HostName, script: &str, allowed: Allowed) -> (i32, String) {
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let done = match words.as_slice() {
                ["true"] => true,
                ["false"] => return (1, String::new()),
                ["exit", code] => return (code.parse().unwrap_or(2), String::new()),
                ["test", "-e", path] if self.host(name).disk.files.contains_key(*path) => true,
                ["test", "-e", _] => return (1, String::new()),
                words => allowed == Allowed::Change && self.changes(name, words),
            };
            if !done {
                return (127, format!("the twin's shell does not know: {line}"));
            }
        }
        (0, String::new())
    }

    /// A command that changes something; `false` for one that is not known.
    fn changes(&mut self, name: &HostName, words: &[&str]) -> bool {
        match words {
            ["touch", paths @ ..] => {
                for path in paths {
                    let empty = File { bytes: Vec::new().into(), modified: self.now };
                    self.host_mut(name).disk.files.insert((*path).to_owned(), empty);
                }
            }
            ["rm", "-f" | "-rf", path] => self.removed(name, path),
            ["systemctl", "--no-block", verb, unit] | ["systemctl", verb, unit] => {
                return self.systemctl(name, verb, unit);
            }
            [program] if self.is_killall(program) => self.kill_all(name, Cause::Kill),
            _ => return false,
        }
        true
    }

    fn is_killall(&self, program: &str) -> bool {
        program.rsplit('/').next() == Some(&format!("{}-killall.sh", self.paths.name))
    }

    fn systemctl(&mut self, name: &HostName, verb: &str, unit: &str) -> bool {
        if self.paths.unit(self.host(name).role) != unit.trim_end_matches(".service") {
            return false;
        }
        match verb {
            "start" => self.start_unit(name),
            "stop" => self.stop_unit(name, Cause::Restart),
            "restart" => {
                self.stop_unit(name, Cause::Restart);
                self.start_unit(name);
            }
            _ => return false,
        }
        true
    }

    /// `rm -rf`: what lies there, and what lies below. What runs goes on, as a deleted file's process does.
    pub(crate) fn removed(&mut self, name: &HostName, path: &str) {
        let paths = self.paths.clone();
        let path = path.trim_end_matches('/');
        let gone = |place: &str| place == path || place.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        let host = self.host_mut(name);
        let (role, disk) = (host.role, &mut host.disk);
        disk.files.retain(|place, _| !gone(place));
        disk.aside.retain(|place, _| !gone(place));
        disk.releases.retain(|version, _| !gone(&paths.release(version)));
        if gone(&paths.part(NodePart::Etcd)) {
            disk.etcd = None;
        }
        if gone(&paths.part(NodePart::Tls)) {
            disk.tls = None;
        }
        disk.cred &= !gone(&paths.part(NodePart::Cred));
        disk.reset_flag &= !gone(&paths.reset_flag());
        disk.hold &= !gone(&paths.hold());
        disk.hold_drop_in &= !gone(&paths.hold_drop_in(role));
        if gone(&paths.reset_record()) {
            disk.reset = None;
        }
        if gone(&paths.server_override()) {
            disk.server_override = None;
        }
        if gone(&paths.claim()) {
            host.claim = None;
        }
    }
}
