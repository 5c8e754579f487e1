//! A host's disk: a tmpfs whose files lie over the machine's own root, and hide what a fresh Debian would not have.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// The size of a host's disk. It is memory, taken as it is written.
pub const DISK_BYTES: u64 = 768 << 20;
/// The size of the lab's directory without the disks: logs, keys and releases.
pub const DIRECTORY_BYTES: u64 = 1 << 30;

/// What the machine has in `/` and a host has too; all else is hidden.
const TOP: [&str; 9] = ["bin", "etc", "lib", "lib32", "lib64", "libx32", "sbin", "usr", "var"];
/// Directories of a host that begin empty, with their modes.
const EMPTY: [(&str, u32); 31] = [
    ("boot", 0o755),
    ("dev", 0o755),
    ("home", 0o755),
    ("media", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("etc/cron.d", 0o755),
    ("etc/init.d", 0o755),
    ("etc/modules-load.d", 0o755),
    ("etc/profile.d", 0o755),
    ("etc/ssh", 0o755),
    ("etc/ssh/sshd_config.d", 0o755),
    ("etc/sudoers.d", 0o750),
    ("etc/systemd", 0o755),
    ("etc/systemd/journald.conf.d", 0o755),
    ("etc/systemd/system", 0o755),
    ("etc/systemd/system-generators", 0o755),
    ("etc/tmpfiles.d", 0o755),
    ("usr/local", 0o755),
    ("var/backups", 0o755),
    ("var/cache", 0o755),
    ("var/log", 0o755),
    ("var/log/journal", 0o2755),
    ("var/spool", 0o755),
    ("var/tmp", 0o1777),
];
/// What stays of the machine's `/var/lib`.
const VAR_LIB: [&str; 5] = ["dbus", "dpkg", "pam", "private", "ucf"];
/// Beginnings of names in `/etc`, `/etc/default` and `/usr/lib/systemd/system` that are not a fresh Debian's.
const HIDDEN: [&str; 7] = ["rancher", "rke2", "k3s", "cni", "kubernetes", "rke2flow", "environment.d"];
/// Units that Debian's systemd pulls in at boot and that a host needs. The rest serve hardware or change the machine.
const UNITS: [&str; 13] = [
    "dbus.service",
    "dbus.socket",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-initctl.socket",
    "systemd-journal-flush.service",
    "systemd-journald-audit.socket",
    "systemd-journald-dev-log.socket",
    "systemd-journald.service",
    "systemd-journald.socket",
    "systemd-tmpfiles-clean.timer",
    "systemd-tmpfiles-setup.service",
    "systemd-user-sessions.service",
];
const SYSTEMD: &str = "/usr/lib/systemd";

const SSH_UNIT: &str = "\
[Unit]
Description=OpenBSD Secure Shell server

[Service]
Type=notify
RuntimeDirectory=sshd
RuntimeDirectoryMode=0755
ExecStartPre=/usr/sbin/sshd -t
ExecStart=/usr/sbin/sshd -D
ExecReload=/bin/kill -HUP $MAINPID
KillMode=process
Restart=on-failure

[Install]
WantedBy=multi-user.target
";

/// As Debian has it, with the host's one key.
const SSHD_CONFIG: &str = "\
Include /etc/ssh/sshd_config.d/*.conf
HostKey /etc/ssh/ssh_host_ed25519_key
KbdInteractiveAuthentication no
UsePAM yes
PrintMotd no
AcceptEnv LANG LC_*
Subsystem sftp /usr/lib/openssh/sftp-server
";

const JOURNALD_CONFIG: &str = "\
[Journal]
Storage=persistent
SystemMaxUse=48M
ReadKMsg=no
RateLimitIntervalSec=0
";

/// Mounts a tmpfs that carries the lab's name, so that it is found again.
pub fn mount_tmpfs(name: &str, place: &Path, bytes: u64) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(place)?;
    let options = std::ffi::CString::new(format!("mode=700,size={bytes}"))?;
    Ok(mount(name, place, "tmpfs", MountFlags::NODEV, options.as_c_str())?)
}

/// Takes a mount off its place; whoever still uses it keeps it until he ends.
pub fn detach(place: &Path) -> io::Result<()> {
    Ok(unmount(place, UnmountFlags::DETACH)?)
}

/// Where the tmpfs of this name are mounted, in the order in which they were.
pub fn mounted(is_ours: impl Fn(&str) -> bool) -> io::Result<Vec<(String, PathBuf)>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let fields = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (name, place, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "tmpfs" && is_ours(name)).then(|| (name.to_owned(), PathBuf::from(unescape(place))))
    });
    Ok(fields.collect())
}

/// proc(5): space, tab, newline and backslash are written in octal.
fn unescape(place: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(place.to_owned(), |place, (octal, character)| place.replace(octal, character))
}

/// Who a new host is.
pub struct Identity<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its `/etc/hosts`.
    pub hosts: &'a str,
    /// The public key that may log in as root.
    pub operator: &'a str,
    /// 32 hexadecimal digits.
    pub machine_id: &'a str,
}

/// Writes a fresh disk: what lies over the machine's root at the host's first boot. The host's SSH key is made by who
/// calls, in `etc/ssh` of the directory returned.
pub fn write(disk: &Path, host: &Identity<'_>) -> io::Result<PathBuf> {
    let upper = disk.join("upper");
    for place in [&upper, &disk.join("work")] {
        make_dir(place, 0o755)?;
    }
    for place in ["etc", "etc/default", "usr", "usr/lib", "usr/lib/systemd", "usr/lib/systemd/system", "var", "var/lib"]
    {
        make_dir(&upper.join(place), 0o755)?;
    }
    hide(&upper, Path::new("/"), |name| !TOP.contains(&name))?;
    hide(&upper, Path::new("/var/lib"), |name| !VAR_LIB.contains(&name))?;
    for place in ["/etc", "/etc/default", "/usr/lib/systemd/system"] {
        hide(&upper, Path::new(place), |name| HIDDEN.iter().any(|hidden| name.starts_with(hidden)))?;
    }
    for (place, mode) in EMPTY {
        let place = upper.join(place);
        // What is hidden entirely makes room for an empty one.
        let _ = fs::remove_file(&place);
        make_dir(&place, mode)?;
        setxattr(&place, "trusted.overlay.opaque", b"y", XattrFlags::empty())?;
    }
    for place in ["srv/lab", "usr/local/bin", "usr/local/sbin", "usr/local/lib", "usr/local/share", "root/.ssh"] {
        make_dir(&upper.join(place), if place.starts_with("root") { 0o700 } else { 0o755 })?;
    }
    write_files(&upper, host)?;
    write_units(&upper.join("etc/systemd"))?;
    Ok(upper)
}

fn write_files(upper: &Path, host: &Identity<'_>) -> io::Result<()> {
    let files: [(&str, u32, &str); 14] = [
        ("etc/hostname", 0o644, &format!("{}\n", host.name)),
        ("etc/hosts", 0o644, host.hosts),
        ("etc/machine-id", 0o444, &format!("{}\n", host.machine_id)),
        // There is no name server, no proxy and no disk of the machine's in reach.
        ("etc/resolv.conf", 0o644, ""),
        ("etc/environment", 0o644, ""),
        ("etc/fstab", 0o644, ""),
        ("etc/gitconfig", 0o644, ""),
        ("etc/sudoers", 0o440, "root ALL=(ALL:ALL) ALL\n@includedir /etc/sudoers.d\n"),
        ("etc/ssh/sshd_config", 0o644, SSHD_CONFIG),
        ("etc/systemd/journald.conf.d/lab.conf", 0o644, JOURNALD_CONFIG),
        ("etc/systemd/system/ssh.service", 0o644, SSH_UNIT),
        ("root/.ssh/authorized_keys", 0o600, host.operator),
        ("root/.profile", 0o644, "mesg n 2>/dev/null || true\n"),
        ("etc/motd", 0o644, ""),
    ];
    for (place, mode, text) in files {
        let place = upper.join(place);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&place)?;
        io::Write::write_all(&mut file, text.as_bytes())?;
    }
    Ok(())
}

/// Nothing starts at boot but what is listed, and sshd.
fn write_units(etc: &Path) -> io::Result<()> {
    let units = etc.join("system");
    let mut masked = vec!["getty@.service".to_owned(), "console-getty.service".to_owned(), "etcd.service".to_owned()];
    for wants in read_dir(&Path::new(SYSTEMD).join("system"))?.iter().filter(|name| name.ends_with(".wants")) {
        let pulled_in = read_dir(&Path::new(SYSTEMD).join("system").join(wants))?;
        // A target pulls in what it wants; that is listed itself.
        masked
            .extend(pulled_in.into_iter().filter(|unit| !UNITS.contains(&unit.as_str()) && !unit.ends_with(".target")));
    }
    masked.extend(["systemd-udevd.service", "systemd-timesyncd.service", "ssh.socket"].map(str::to_owned));
    masked.sort();
    masked.dedup();
    for unit in masked {
        symlink("/dev/null", units.join(unit))?;
    }
    for generator in read_dir(&Path::new(SYSTEMD).join("system-generators"))? {
        symlink("/dev/null", etc.join("system-generators").join(generator))?;
    }
    make_dir(&units.join("multi-user.target.wants"), 0o755)?;
    symlink("../ssh.service", units.join("multi-user.target.wants/ssh.service"))
}

/// Whiteouts for what the machine has in a directory, as overlayfs wants them.
fn hide(upper: &Path, directory: &Path, hidden: impl Fn(&str) -> bool) -> io::Result<()> {
    let own = upper.join(directory.strip_prefix("/").unwrap_or(directory));
    for name in read_dir(directory)?.iter().filter(|name| hidden(name)) {
        mknodat(CWD, own.join(name), FileType::CharacterDevice, Mode::empty(), makedev(0, 0))?;
    }
    Ok(())
}

fn read_dir(directory: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn make_dir(place: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::create_dir_all(place)?;
    // Whatever the umask is: these lie over the machine's own directories.
    fs::set_permissions(place, fs::Permissions::from_mode(mode))
}
