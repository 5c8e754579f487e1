//! The lab's hosts: what they are, what power and cables do, and that nothing of them stays.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rke2flow_lab::hosts::{self, Host, Lab, LabName, Spec};

/// A lab for one test, or `None` when there can be none here.
macro_rules! lab {
    ($servers:literal, $agents:literal) => {{
        if !hosts::required_or_left_out(module_path!()) {
            return;
        }
        hosts::turn().unwrap().up(|spec| spec.hosts($servers, $agents).bare()).unwrap()
    }};
}

#[test]
fn a_host_is_a_fresh_debian_with_systemd_sshd_and_journald() {
    let lab = lab!(1, 1);
    let host = lab.host("server-0").unwrap();
    assert_eq!(host.must("hostname; systemctl is-system-running --wait").unwrap(), "server-0\nrunning\n");
    assert_eq!(host.must("systemctl --failed --no-legend").unwrap(), "");
    // Nothing of this machine's but its programs and their settings.
    let top = host.must("ls -A / | grep -vxE 'lib(32|64|x32)'").unwrap();
    let fresh = "bin boot dev etc home lib media mnt opt proc root run sbin srv sys tmp usr var";
    assert_eq!(top.split_whitespace().collect::<Vec<_>>().join(" "), fresh);
    let empty = "/home /opt /media /mnt /boot /usr/local/bin /usr/local/lib /etc/profile.d /etc/sudoers.d /var/spool";
    assert_eq!(host.must(&format!("for place in {empty}; do ls -A $place; done")).unwrap(), "");
    assert_eq!(host.must("ls -A /root").unwrap(), ".profile\n.ssh\n");
    assert_eq!(host.must("cd /etc/systemd/system && find . -type f").unwrap(), "./ssh.service\n");
    assert_eq!(host.must("grep -c . /root/.ssh/authorized_keys").unwrap(), "1\n");
    host.must("! ls -d /etc/rancher /var/lib/rancher /var/lib/rke2flow /var/lib/kubelet /var/lib/etcd 2>/dev/null")
        .unwrap();
    // The journal of a unit, written to the disk.
    host.must("systemd-run --wait --unit=said sh -c 'echo heard'; journalctl --sync").unwrap();
    assert!(host.must("journalctl -u said --no-pager").unwrap().contains("heard"));
    assert!(host.must("ls /var/log/journal/$(cat /etc/machine-id)").unwrap().contains("system.journal"));
    // A service with what RKE2's unit asks of systemd.
    host.must("systemd-run --unit=kept -p KillMode=process sh -c 'sleep 555 & exec sleep 556'; sleep 0.2").unwrap();
    host.must("systemctl stop kept; pgrep -f '[s]leep 555' && ! pgrep -f '[s]leep 556'").unwrap();
    // Others by name, and this machine's own settings out of reach.
    assert!(host.must("getent hosts agent-0 s3").unwrap().contains(&lab.address("agent-0").unwrap()));
    host.must("panic=/proc/sys/kernel/panic; ! (cat $panic >$panic) 2>/dev/null").unwrap();
    for command in ["setpriv --dump", "systemd-run --quiet --wait --pipe setpriv --dump"] {
        let bounds = host.must(&format!("{command} | grep -i bounding")).unwrap();
        assert!(bounds.contains("sys_admin") && !bounds.contains("sys_time"), "{command}: {bounds}");
    }
    assert_ne!(id(&host, "/etc/machine-id"), id(&lab.host("agent-0").unwrap(), "/etc/machine-id"));
    assert_ne!(id(&host, BOOT_ID), id(&lab.host("agent-0").unwrap(), BOOT_ID));
}

#[test]
fn a_stopped_host_boots_with_its_disk_and_a_replaced_one_with_an_empty_disk_and_new_keys() {
    let lab = lab!(1, 0);
    let host = lab.host("server-0").unwrap();
    host.must("echo kept >/root/kept; systemd-run --unit=running sleep 1000").unwrap();
    let (boot, machine) = (id(&host, BOOT_ID), id(&host, "/etc/machine-id"));
    assert_eq!(ssh(&lab, "server-0", "cat /root/kept"), Ok("kept\n".to_owned()));

    host.stop().unwrap();
    assert!(!host.is_on() && host.processes().is_empty());
    assert!(host.exec("true").is_err());
    host.boot().unwrap();
    host.boot().unwrap();
    assert_eq!(host.must("cat /root/kept; systemctl is-active running || true").unwrap(), "kept\ninactive\n");
    assert_ne!(id(&host, BOOT_ID), boot);
    assert_eq!(id(&host, "/etc/machine-id"), machine);
    assert_eq!(ssh(&lab, "server-0", "hostname"), Ok("server-0\n".to_owned()));

    host.replace().unwrap();
    host.must("test ! -e /root/kept").unwrap();
    assert_ne!(id(&host, "/etc/machine-id"), machine);
    assert!(ssh(&lab, "server-0", "hostname").unwrap_err().contains("HOST IDENTIFICATION HAS CHANGED"));
    lab.write_known_hosts().unwrap();
    assert_eq!(ssh(&lab, "server-0", "hostname"), Ok("server-0\n".to_owned()));
}

#[test]
fn a_host_that_powers_itself_off_is_off_and_boots_again() {
    let lab = lab!(1, 0);
    let host = lab.host("server-0").unwrap();
    host.must("systemctl --force --force poweroff || true").unwrap();
    within("the host to be off", || !host.is_on());
    host.boot().unwrap();
    host.must("true").unwrap();
}

#[test]
fn a_cut_cable_silences_one_host_and_a_cut_operator_leaves_the_hosts_to_each_other() {
    let lab = lab!(2, 1);
    let [one, two] = ["server-0", "server-1"].map(|name| lab.host(name).unwrap());
    let sees = |host: &Host<'_>, other: &str| {
        let script = format!("timeout 1 bash -c 'head -c 4 </dev/tcp/{other}/22'");
        host.exec(&script).unwrap().stdout == "SSH-"
    };
    assert!(sees(&one, "server-1") && sees(&two, "agent-0") && reachable(&lab, "server-1"));

    two.cut().unwrap();
    assert!(!two.is_connected().unwrap() && one.is_connected().unwrap());
    assert!(!sees(&one, "server-1") && !sees(&two, "server-0") && !reachable(&lab, "server-1"));
    assert!(sees(&one, "agent-0") && reachable(&lab, "server-0"));
    two.heal().unwrap();
    assert!(sees(&one, "server-1"));

    lab.cut_operator().unwrap();
    assert!(!reachable(&lab, "server-0") && !reachable(&lab, "server-1"));
    assert!(sees(&one, "server-1") && sees(&two, "server-0"));
    lab.heal_operator().unwrap();
    within("the operator to be back", || reachable(&lab, "server-0"));
}

#[test]
fn several_labs_live_side_by_side_and_one_name_is_one_lab() {
    let lab = lab!(1, 0);
    assert!(Lab::up(lab.spec()).unwrap_err().to_string().contains("there is a lab `test` already"));
    assert!(lab.host("server-0").unwrap().is_on(), "the lab that was there is left alone");
    let name = LabName::new(&format!("{}b", lab.spec().name)).unwrap();
    hosts::down(&name, &name.default_dir()).unwrap();
    let other = Lab::up(&Spec::new(name.clone()).hosts(1, 0).bare()).unwrap();
    assert_ne!(lab.subnet(), other.subnet());
    lab.host("server-0").unwrap().must("touch /root/here").unwrap();
    other.host("server-0").unwrap().must("test ! -e /root/here").unwrap();
    let first = lab.spec().name.clone();
    drop(lab);
    let opened = Lab::open(&name).unwrap();
    assert_eq!(opened.host("server-0").unwrap().must("hostname").unwrap(), "server-0\n");
    assert!(Lab::open(&first).is_err());
}

#[test]
fn nothing_of_a_lab_stays_and_down_twice_is_fine() {
    if !hosts::required_or_left_out(module_path!()) {
        return;
    }
    let turn = hosts::turn().unwrap();
    let name = turn.name();
    let before = seen(&name);
    // The turn is kept until all has been compared.
    let lab = Lab::up(&Spec::new(name.clone()).hosts(2, 1).bare()).unwrap();
    lab.host("server-0").unwrap().must("systemd-run --unit=x sleep 1000; nohup sleep 1000 >/dev/null 2>&1 &").unwrap();
    let during = seen(&name);
    assert!(before.iter().zip(&during).all(|(before, during)| before.1.len() < during.1.len()), "{during:#?}");
    assert!(name.default_dir().exists());
    drop(lab);
    assert_eq!(seen(&name), before);
    assert!(!name.default_dir().exists());
    hosts::down(&name, &name.default_dir()).unwrap();
    assert_eq!(seen(&name), before);
}

#[test]
fn an_up_that_was_killed_at_any_moment_is_cleaned_up_by_down() {
    if !hosts::required_or_left_out(module_path!()) {
        return;
    }
    let turn = hosts::turn().unwrap();
    let name = turn.name();
    let before = seen(&name);
    let dir = Path::new(hosts::BASE).join(format!("{name}-elsewhere"));
    let tool = || {
        let mut tool = Command::new(env!("CARGO_BIN_EXE_rke2flow-lab"));
        tool.args(["--name", name.as_str()]).stdout(Stdio::null()).stderr(Stdio::null());
        tool
    };
    let mut halfway = 0;
    for after_milliseconds in [10, 40, 80, 120, 180, 250, 350, 500] {
        let mut up =
            tool().args(["up", "--bare", "--servers", "2", "--agents", "1", "--dir"]).arg(&dir).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(after_milliseconds));
        up.kill().unwrap();
        up.wait().unwrap();
        halfway += usize::from(seen(&name) != before);
        assert!(tool().args(["down", "--dir"]).arg(&dir).status().unwrap().success());
        assert_eq!(seen(&name), before, "killed after {after_milliseconds} ms");
        assert!(!dir.exists(), "killed after {after_milliseconds} ms");
    }
    assert!(halfway >= 3, "only {halfway} of the kills came while there was something to clean up");
}

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

fn id(host: &Host<'_>, file: &str) -> String {
    host.must(&format!("cat {file}")).unwrap()
}

fn ssh(lab: &Lab, host: &str, script: &str) -> Result<String, String> {
    let known_hosts = format!("UserKnownHostsFile={}", lab.known_hosts().display());
    let output = Command::new("ssh")
        .args(["-F", "none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-o", &known_hosts, "-i"])
        .arg(lab.key())
        .args([&format!("root@{}", lab.address(host).unwrap()), script])
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn reachable(lab: &Lab, host: &str) -> bool {
    let address = format!("{}:22", lab.address(host).unwrap()).parse().unwrap();
    std::net::TcpStream::connect_timeout(&address, Duration::from_millis(700)).is_ok()
}

fn within(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < until, "waited 10 s for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What this machine has of everything that a lab makes, without what belongs to other labs.
fn seen(name: &LabName) -> [(&'static str, BTreeSet<String>); 5] {
    // `ip` mounts /run/netns when the first namespace is made, and never unmounts it.
    let _ = Command::new("ip").args(["netns", "add", "warm-up"]).output();
    let _ = Command::new("ip").args(["netns", "delete", "warm-up"]).output();
    let lines = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let first_word = |line: String| line.split_whitespace().next().unwrap_or_default().to_owned();
    let link = |line: String| line.split(": ").nth(1).unwrap_or_default().to_owned();
    let mount = |line: String| line.split(' ').take(3).collect::<Vec<_>>().join(" ");
    let cgroups = lines("find", &[&cgroup_mount(), "-type", "d"]);
    // Whatever is in another namespace than this test.
    let own = std::fs::read_link("/proc/self/ns/mnt").unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let other = std::fs::read_link(entry.path().join("ns/mnt")).ok().filter(|mounts| *mounts != own)?;
        let cgroup = std::fs::read_to_string(entry.path().join("cgroup")).ok()?.lines().last()?.to_owned();
        Some(format!("{} {} {cgroup}", entry.file_name().display(), other.display()))
    });
    let other_lab = |line: &String| {
        let mut words = line.split(['/', ' ', ':', '@']);
        words.any(|word| LabName::of(word).is_some_and(|lab| lab != *name))
    };
    let set = |all: Vec<String>| all.into_iter().filter(|line| !other_lab(line)).collect::<BTreeSet<_>>();
    [
        ("namespaces", set(lines("ip", &["netns", "list"]).into_iter().map(first_word).collect())),
        ("interfaces", set(lines("ip", &["-o", "link"]).into_iter().map(link).collect())),
        ("mounts", set(lines("cat", &["/proc/self/mounts"]).into_iter().map(mount).collect())),
        ("cgroups", set(cgroups)),
        ("processes", set(processes.collect())),
    ]
}

fn cgroup_mount() -> String {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).unwrap();
    line.split(' ').nth(1).unwrap().to_owned()
}
