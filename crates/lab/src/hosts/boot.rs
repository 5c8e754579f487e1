//! Power: a host is on while the systemd that is its process 1 lives.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::cgroup::Cgroup;

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
    let mut words: Vec<OsString> =
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--cgroup"]
            .map(OsString::from)
            .to_vec();
    words.extend(["sh", "-c", BOOT, "boot.sh", host].map(OsString::from));
    words.extend([dir.into(), shared.into(), WITHOUT.into()]);
    start(namespace, cgroup, &words, console)
}

/// Starts a program of the lab's own in a network namespace, with what it says in a file.
pub fn start_in(namespace: &str, cgroup: &Cgroup, program: &Path, arguments: &[PathBuf], log: &Path) -> io::Result<()> {
    let log = fs::OpenOptions::new().create(true).append(true).open(log)?;
    let words = std::iter::once(program.into()).chain(arguments.iter().map(OsString::from));
    start(namespace, cgroup, &words.collect::<Vec<_>>(), log)
}

/// It enters the cgroup first: what is started from here on is found again whatever happens.
fn start(namespace: &str, cgroup: &Cgroup, words: &[OsString], log: fs::File) -> io::Result<()> {
    let enter = "echo $$ >\"$1/cgroup.procs\"; shift; exec setsid \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-euc", enter, "sh"]).arg(cgroup.path());
    command.args(["nsenter", &format!("--net=/run/netns/{namespace}")]).args(words);
    command.current_dir("/").process_group(0);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let mut child = command.spawn()?;
    // Whoever waits for it may have gone long before it ends.
    std::thread::spawn(move || child.wait());
    Ok(())
}

/// A shell command as root inside a host; `None` when the host is off.
pub fn inside(cgroup: &Cgroup, script: &str) -> Option<Command> {
    let init = cgroup.init()?;
    // In the host's cgroup, beside its systemd: it ends with the host, and is found by `down`.
    let enter = "echo $$ >\"$1/init.scope/cgroup.procs\"; shift; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-euc", enter, "sh"]).arg(cgroup.path());
    command.args(["nsenter", "--target", &init.to_string(), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]);
    command.args(["setpriv", WITHOUT, "env", "-i", "HOME=/root", "USER=root", "LANG=C.UTF-8", &format!("PATH={PATH}")]);
    command.args(["sh", "-c", "cd; eval \"$1\"", "sh", script]).current_dir("/");
    Some(command)
}
