//! Whether a lab can be made on this machine, and what tests do when it cannot.

use std::path::Path;

use super::cgroup;

/// `required`: a test that cannot have its lab fails. Otherwise it says what it leaves out, and why.
pub const VARIABLE: &str = "RKE2FLOW_LAB";

/// Programs that a lab needs, with their Debian packages: `setup.sh` installs them.
const PROGRAMS: [(&str, &str); 12] = [
    ("/usr/lib/systemd/systemd", "systemd"),
    ("/usr/bin/systemd-run", "systemd"),
    ("/usr/bin/dbus-daemon", "dbus"),
    ("/usr/sbin/sshd", "openssh-server"),
    ("/usr/bin/ssh", "openssh-client"),
    ("/usr/bin/ssh-keygen", "openssh-client"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("etcd", "etcd-server"),
    ("etcdctl", "etcd-client"),
];

/// Why a lab cannot be made here.
pub fn available() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root can make network namespaces and mounts: run as root".to_owned());
    }
    if cgroup::mount().is_none() {
        return Err("cgroup2 is not mounted: mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified".to_owned());
    }
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !filesystems.lines().any(|line| line.trim_start().trim_start_matches("nodev").trim() == "overlay") {
        return Err("the kernel has no overlayfs: modprobe overlay".to_owned());
    }
    let missing: Vec<_> = PROGRAMS.iter().filter(|(program, _)| !is_there(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    let programs: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
    Err(format!("{} not found: apt-get install {}", programs.join(", "), packages.join(" ")))
}

/// For tests: whether to go on. When there can be no lab it fails if `RKE2FLOW_LAB=required`, and otherwise prints what
/// is left out.
///
/// # Panics
/// When a lab is required and cannot be made.
pub fn required_or_left_out(test: &str) -> bool {
    let Err(why) = available() else { return true };
    let required = std::env::var(VARIABLE).is_ok_and(|value| value == "required");
    assert!(!required, "{VARIABLE}=required, and a lab cannot be made here: {why}");
    // Not captured by the test harness, so that it is seen when all is green.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("left out: {test}: {why}\n").as_bytes());
    false
}

fn is_there(program: &str) -> bool {
    const PATH: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    if program.starts_with('/') {
        return Path::new(program).exists();
    }
    PATH.iter().any(|directory| Path::new(directory).join(program).exists())
}
