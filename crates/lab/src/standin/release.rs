//! A release as it is downloaded: the installer, the tarball with the units, the images, the checksums.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use sha2::{Digest, Sha256};

use super::{flavor, runtime};

const INSTALLER: &str = include_str!("release/install.sh");
const KILLALL: &str = include_str!("release/rke2-killall.sh");
const UNINSTALL: &str = include_str!("release/rke2-uninstall.sh");
const BINARY: &str = include_str!("release/rke2.sh");
const K3S_INSTALLER: &str = include_str!("release/k3s-install.sh");
const K3S_KILLALL: &str = include_str!("release/k3s-killall.sh");
const K3S_BINARY: &str = include_str!("release/k3s.sh");
const UNIT: &str = include_str!("release/rke2.service");
/// `rke2-server.env` and `rke2-agent.env` of R2:bundle/lib/systemd/system.
const ENVIRONMENT: &str = "HOME=/root\n";

const TARBALL: &str = "rke2.linux-amd64.tar.gz";
const IMAGES: &str = "rke2-images.linux-amd64.tar.zst";
const CHECKSUMS: &str = "sha256sum-amd64.txt";

/// Writes the release `version` into `<dir>/<version>`, as its page on GitHub and the source of its tag have it.
/// A release that is there already is replaced.
pub fn write(dir: &Path, version: &str) -> io::Result<()> {
    let release = dir.join(version);
    let tree = dir.join(format!(".{version}.tree"));
    for old in [&release, &tree] {
        if old.exists() {
            fs::remove_dir_all(old)?;
        }
    }
    fs::create_dir_all(&release)?;
    if flavor::traits(version).bare_binary {
        return write_k3s(&release, version);
    }
    write_tree(&tree, version)?;
    pack(&tree, &release.join(TARBALL))?;
    fs::remove_dir_all(&tree)?;
    write_executable(&release.join("install.sh"), INSTALLER)?;
    fs::write(release.join(IMAGES), runtime::image_archive(version))?;
    fs::write(release.join(CHECKSUMS), sums(&release, &[IMAGES, TARBALL])?)
}

/// The binary, the images, the installer, which makes the killall script itself.
fn write_k3s(release: &Path, version: &str) -> io::Result<()> {
    let (binary, images) = (flavor::traits(version).artifact("amd64"), flavor::traits(version).images("amd64"));
    write_executable(&release.join(&binary), &K3S_BINARY.replace("@VERSION@", version))?;
    fs::write(release.join(&images), runtime::image_archive(version))?;
    write_executable(&release.join("install.sh"), &K3S_INSTALLER.replace("@KILLALL@\n", K3S_KILLALL))?;
    fs::write(release.join(CHECKSUMS), sums(release, &[&images, &binary])?)
}

fn sums(release: &Path, files: &[&str]) -> io::Result<String> {
    let line = |file: &&str| Ok(format!("{}  {file}\n", hex(&Sha256::digest(fs::read(release.join(file))?))));
    files.iter().map(line).collect()
}

/// Bytes as lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write_tree(tree: &Path, version: &str) -> io::Result<()> {
    let (bin, units) = (tree.join("bin"), tree.join("lib/systemd/system"));
    fs::create_dir_all(&bin)?;
    fs::create_dir_all(&units)?;
    write_executable(&bin.join("rke2"), &BINARY.replace("@VERSION@", version))?;
    write_executable(&bin.join("rke2-killall.sh"), KILLALL)?;
    write_executable(&bin.join("rke2-uninstall.sh"), UNINSTALL)?;
    for (role, other) in [("server", "agent"), ("agent", "server")] {
        let unit = UNIT.replace("@ROLE@", role).replace("@OTHER@", other);
        fs::write(units.join(format!("rke2-{role}.service")), unit)?;
        fs::write(units.join(format!("rke2-{role}.env")), ENVIRONMENT)?;
    }
    Ok(())
}

fn pack(tree: &Path, tarball: &Path) -> io::Result<()> {
    // The same release has the same bytes, whoever writes it and when.
    let status = Command::new("tar")
        .args([
            "--sort=name",
            "--mtime=@0",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "--use-compress-program=gzip -n",
            "-cf",
        ])
        .arg(tarball)
        .arg("-C")
        .arg(tree)
        .args(["bin", "lib"])
        .status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("tar ended with {status}"))) }
}

fn write_executable(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_holds_what_rke2flow_stages_and_its_checksums_fit() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "v1.33.4+rke2r1").unwrap();
        let release = dir.path().join("v1.33.4+rke2r1");
        let check = Command::new("sha256sum").args(["--check", CHECKSUMS]).current_dir(&release).output().unwrap();
        assert!(check.status.success(), "{check:?}");
        let listed = Command::new("tar").arg("-tzf").arg(release.join(TARBALL)).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        for file in ["bin/rke2", "bin/rke2-killall.sh", "lib/systemd/system/rke2-agent.env"] {
            assert!(listed.lines().any(|line| line == file), "{file} is not in {listed}");
        }
    }

    #[test]
    fn a_release_of_k3s_is_a_binary_and_its_installer_brings_the_killall_script() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "v1.33.4+k3s1").unwrap();
        let release = dir.path().join("v1.33.4+k3s1");
        let check = Command::new("sha256sum").args(["--check", CHECKSUMS]).current_dir(&release).output().unwrap();
        assert!(check.status.success(), "{check:?}");
        assert!(fs::read_to_string(release.join("k3s")).unwrap().contains("--release v1.33.4+k3s1"));
        let installer = fs::read_to_string(release.join("install.sh")).unwrap();
        assert!(installer.contains("iptables-restore\nEND-OF-KILLALL\n"), "{installer}");
    }

    #[test]
    fn the_same_release_has_the_same_bytes_when_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let tarball = dir.path().join("v1.33.4+rke2r1").join(TARBALL);
        write(dir.path(), "v1.33.4+rke2r1").unwrap();
        let first = fs::read(&tarball).unwrap();
        write(dir.path(), "v1.33.4+rke2r1").unwrap();
        assert_eq!(fs::read(&tarball).unwrap(), first);
    }
}
