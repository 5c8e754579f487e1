//! The runtime of a release: what `rke2` extracts into the data directory when it starts.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rke2flow_engine::cluster::Distribution;
use sha2::{Digest, Sha256};

use super::layout::{Layout, TASKS};
use super::release::hex;
use super::{flavor, log};

const BINARIES: [&str; 7] = ["containerd", "containerd-shim-runc-v2", "crictl", "ctr", "kubectl", "kubelet", "runc"];
/// Charts that every release ships.
const CHARTS: [&str; 6] = [
    "rke2-canal",
    "rke2-coredns",
    "rke2-metrics-server",
    "rke2-runtimeclasses",
    "rke2-snapshot-controller",
    "rke2-snapshot-controller-crd",
];
/// A chart that came with 1.34: it stays behind on the disk after a rollback (rancher#41174).
const CHART_SINCE_34: &str = "rke2-traefik";

/// What every release of K3s writes into `manifests`, and what stands for a later addition.
const K3S_CHARTS: [&str; 5] = ["ccm", "coredns", "local-storage", "rolebindings", "runtimes"];
const K3S_CHART_SINCE_34: &str = "traefik";

/// The minor version in `v1.33.4+rke2r1`, 0 when it is none.
pub fn minor(version: &str) -> u32 {
    version.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or(0)
}

/// `v1.33.4+rke2r1` as the tag of an image, which knows no `+`.
pub fn tag(version: &str) -> String {
    version.replace('+', "-")
}

/// The release's archive of images: one zstd frame with the name of the runtime image.
pub fn image_archive(version: &str) -> Vec<u8> {
    let text = format!("{}\n", reference(version)).into_bytes();
    let size = u8::try_from(text.len()).expect("the name of an image is short");
    // RFC 8878: magic number, a single segment with its size in one byte, then one last raw block.
    let block = (u32::from(size) << 3) | 1;
    let mut frame = vec![0x28, 0xB5, 0x2F, 0xFD, 0x20, size];
    frame.extend_from_slice(&block.to_le_bytes()[..3]);
    frame.extend(text);
    frame
}

/// The directory of a release: `data/<tag>-<12 hex>` (R2 `pkg/bootstrap/bootstrap.go` releaseRefDigest).
pub fn directory(layout: &Layout, version: &str) -> PathBuf {
    let digest = hex(&Sha256::digest(reference(version)));
    layout.releases().join(format!("{}-{}", tag(version), &digest[..12]))
}

/// Extracts the runtime unless that was done before, points `bin` at it, and removes what no shim uses any more.
pub fn stage(layout: &Layout, version: &str) -> io::Result<()> {
    let directory = directory(layout, version);
    if directory.join(".extracted").is_file() {
        log::info(format!(
            "Runtime image {} bin and charts directories already exist; skipping extract",
            reference(version)
        ));
    } else {
        // The binary of K3s carries its runtime in itself.
        if flavor::traits(version).static_pods {
            find_image(layout, version)?;
        }
        extract(&directory, version)?;
    }
    let fresh = layout.data().join("bin.new");
    if fs::symlink_metadata(&fresh).is_ok() {
        fs::remove_file(&fresh)?;
    }
    symlink(directory.join("bin"), &fresh)?;
    fs::rename(&fresh, layout.bin())?;
    remove_unused(layout, &directory)
}

/// Writes the release's charts over those on the disk. A chart that only a newer release ships stays as it is.
pub fn write_charts(layout: &Layout, version: &str) -> io::Result<()> {
    fs::create_dir_all(layout.manifests())?;
    let charts = directory(layout, version).join("charts");
    for chart in fs::read_dir(charts)? {
        let chart = chart?;
        fs::copy(chart.path(), layout.manifests().join(chart.file_name()))?;
    }
    Ok(())
}

fn reference(version: &str) -> String {
    format!("index.docker.io/rancher/{}-runtime:{}", flavor::traits(version).name, tag(version))
}

/// Without a registry the image can only come from an archive on this node.
fn find_image(layout: &Layout, version: &str) -> io::Result<()> {
    let wanted = reference(version);
    let archive = fs::read(layout.images().join(flavor::traits(version).images("amd64"))).unwrap_or_default();
    if archive.windows(wanted.len()).any(|window| window == wanted.as_bytes()) {
        return Ok(());
    }
    log::info(format!("Pulling runtime image {wanted}"));
    Err(io::Error::other(format!(
        "failed to get runtime image {wanted}: Get \"https://index.docker.io/v2/\": dial tcp: lookup index.docker.io: Temporary failure in name resolution"
    )))
}

fn extract(directory: &Path, version: &str) -> io::Result<()> {
    let (bin, charts) = (directory.join("bin"), directory.join("charts"));
    fs::create_dir_all(&bin)?;
    fs::create_dir_all(&charts)?;
    let program = std::env::current_exe()?;
    for binary in BINARIES {
        // The processes themselves are the stand-in under these names: see `process::command`.
        let wrapper = format!("#!/bin/sh\nexec {} {binary} \"$@\"\n", program.display());
        fs::write(bin.join(binary), wrapper)?;
        fs::set_permissions(bin.join(binary), fs::Permissions::from_mode(0o755))?;
    }
    for chart in shipped(version) {
        fs::write(charts.join(format!("{chart}.yaml")), chart_text(chart, version))?;
    }
    fs::write(directory.join(".extracted"), "")
}

/// The charts of a release, a later minor has one more.
fn shipped(version: &str) -> Vec<&'static str> {
    let (always, later): (&[&str], &str) = match flavor::distribution(version) {
        Distribution::Rke2 => (&CHARTS, CHART_SINCE_34),
        Distribution::K3s => (&K3S_CHARTS, K3S_CHART_SINCE_34),
    };
    always.iter().copied().chain((minor(version) >= 34).then_some(later)).collect()
}

fn chart_text(chart: &str, version: &str) -> String {
    format!(
        "apiVersion: helm.cattle.io/v1\nkind: HelmChart\nmetadata:\n  name: {chart}\n  namespace: kube-system\nspec:\n  \
         bootstrap: false\n  chart: {chart}\n  version: {}\n",
        version.trim_start_matches('v')
    )
}

fn remove_unused(layout: &Layout, current: &Path) -> io::Result<()> {
    for entry in fs::read_dir(layout.releases())? {
        let old = entry?.path();
        if old == current || !old.is_dir() {
            continue;
        }
        if has_shims(&old) {
            log::info(format!(
                "Skipping removal of old RKE2 data directory {}: still referenced by containers",
                old.display()
            ));
        } else {
            log::info(format!("Removing old RKE2 data directory: {}", old.display()));
            fs::remove_dir_all(&old)?;
        }
    }
    Ok(())
}

/// As RKE2 asks: by containerd's own records, and true when there are none to read (R2 dirHasShims).
fn has_shims(directory: &Path) -> bool {
    let Ok(tasks) = fs::read_dir(TASKS) else { return true };
    let uses = |path: PathBuf| {
        fs::read_to_string(path.join("shim-binary-path")).is_ok_and(|shim| Path::new(&shim).starts_with(directory))
    };
    tasks.flatten().any(|task| uses(task.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARCHIVE: &str = "rke2-images.linux-amd64.tar.zst";

    #[test]
    fn a_release_without_its_images_does_not_start() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        fs::create_dir_all(layout.images()).unwrap();
        fs::write(layout.images().join(ARCHIVE), image_archive("v1.33.4+rke2r1")).unwrap();
        let refused = stage(&layout, "v1.34.1+rke2r1").unwrap_err().to_string();
        assert!(refused.contains("failed to get runtime image"), "{refused}");
        stage(&layout, "v1.33.4+rke2r1").unwrap();
        assert!(layout.bin().join("containerd-shim-runc-v2").is_file());
    }

    #[test]
    fn a_chart_of_a_newer_release_stays_behind() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        fs::create_dir_all(layout.images()).unwrap();
        for version in ["v1.34.1+rke2r1", "v1.33.4+rke2r1"] {
            fs::write(layout.images().join(ARCHIVE), image_archive(version)).unwrap();
            stage(&layout, version).unwrap();
            write_charts(&layout, version).unwrap();
        }
        assert!(layout.manifests().join("rke2-traefik.yaml").exists());
        let chart = fs::read_to_string(layout.manifests().join("rke2-coredns.yaml")).unwrap();
        assert!(chart.contains("version: 1.33.4+rke2r1"), "{chart}");
    }
}
