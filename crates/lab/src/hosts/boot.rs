//! Power: a host is on while the systemd that is its process 1 lives.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::cgroup::Cgroup;
use super::command::{CommandError, Output, run};

const BOOT: &str = include_str!("boot.sh");

/// Where a root shell on a host looks for programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What not even root may do on a host: the clock, kernel modules and raw memory are the machine's.
const WITHOUT: &str = "--bounding-set=-sys_time,-sys_module,-sys_rawio,-syslog";

/// Turns a host on. `namespace` is its network; `dir` has its `disk`, and gets its `console.log` and `boot_id`.
pub fn power_on(host: &str, namespace: &str, cgroup: &Cgroup, dir: &Path, shared: &Path) -> io::Result<()> {
    cgroup.make()?;
    fs::OpenOptions::new().create(true).append(true).open(dir.join("boot_id"))?;
    let console = fs::OpenOptions::new().create(true).append(true).open(dir.join("console.log"))?;
    // It enters the cgroup first: what is started from here on is found again whatever happens.
    let enter = "echo $$ >\"$1/cgroup.procs\"; shift; exec setsid \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-euc", enter, "sh"]).arg(cgroup.path());
    command.args(["nsenter", &format!("--net=/run/netns/{namespace}"), "unshare"]);
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--cgroup"]);
    command.args(["sh", "-c", BOOT, "boot.sh", host]).arg(dir).arg(shared).arg(WITHOUT);
    command.current_dir("/").process_group(0);
    command.stdin(Stdio::null()).stdout(console.try_clone()?).stderr(console);
    let mut child = command.spawn()?;
    // Whoever waits for it may have gone long before the host is turned off.
    std::thread::spawn(move || child.wait());
    Ok(())
}

/// Runs a shell command as root inside a host that is on.
pub fn run_inside(cgroup: &Cgroup, script: &str, input: &[u8], deadline: Duration) -> Result<Output, CommandError> {
    let no_host = || CommandError::Start {
        command: script.chars().take(200).collect(),
        source: io::Error::new(io::ErrorKind::NotConnected, "the host is off"),
    };
    let init = cgroup.init().ok_or_else(no_host)?;
    // In the host's cgroup, beside its systemd: it ends with the host, and is found by `down`.
    let enter = "echo $$ >\"$1/init.scope/cgroup.procs\"; shift; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-euc", enter, "sh"]).arg(cgroup.path());
    command.args(["nsenter", "--target", &init.to_string(), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]);
    command.args(["setpriv", WITHOUT, "env", "-i", "HOME=/root", "USER=root", "LANG=C.UTF-8", &format!("PATH={PATH}")]);
    command.args(["sh", "-c", "cd; eval \"$1\"", "sh", script]);
    run(command.current_dir("/"), input, deadline)
}
