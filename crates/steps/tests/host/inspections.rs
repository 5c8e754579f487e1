//! Inspections: what a host tells guards, and that whatever is missing there is told as missing.

use std::process::Command;

use rke2flow_steps::answer::{Certificate, DiskUse, Inspection};
use rke2flow_steps::command::{HostCommand, Look};
use rke2flow_steps::render::script;

use super::bench::Bench;

fn inspect(host: &Bench) -> Inspection {
    let noise = host.sh(&script(&host.envelope(HostCommand::Look(Look::Inspection)))).stderr;
    assert_eq!(String::from_utf8_lossy(&noise), "");
    host.look(Look::Inspection)
}

/// No package manager of this machine knows the bench's files, and no unit of this machine is one of the bench's.
fn bare() -> Bench {
    let host = Bench::new();
    for tool in ["rpm", "dpkg", "apt-config"] {
        host.tool(tool, "#!/bin/sh\nexit 1\n");
    }
    host
}

/// A certificate that ends in so many days, from the real openssl.
fn certificate(host: &Bench, file: &str, days: u32) {
    let path = format!("{}/{file}", host.paths.data);
    host.write(&path, "");
    let key = host.world("key.pem");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-subj", "/CN=test", "-days", &days.to_string(), "-keyout", &key, "-out", &path])
        .output();
    assert!(made.expect("openssl is missing: apt-get install openssl").status.success());
}

#[test]
fn an_inspection_of_an_empty_host_is_an_answer() {
    let found = inspect(&bare());
    assert!(found.package.is_empty() && found.units.is_empty() && !found.apt_upgrades && !found.apt_reboots);
    assert_eq!((found.etcd_version.as_str(), found.etcd_reason.as_str(), found.etcd_db_bytes), ("", "", 0));
    assert!(found.certificates.is_empty() && found.certificates_unread.is_empty());
}

#[test]
fn the_binary_is_the_one_that_the_unit_starts_and_its_package_is_named() {
    let host = bare();
    // Free text in an answer has no quotes.
    assert_eq!(inspect(&host).binary, format!("{}/rke2", host.paths.bin.replace('"', "")));
    host.tool("rpm", "#!/bin/sh\n[ -e \"$2\" ] && echo rke2-server-1.33.4~rke2r1-0.el9.x86_64\n");
    assert_eq!(inspect(&host).package, "rke2-server-1.33.4~rke2r1-0.el9.x86_64");
    // Debian's tool, where there is no rpm; a file that nobody owns is an error of it.
    host.tool("rpm", "#!/bin/sh\necho \"file $2 is not owned by any package\"; exit 1\n");
    host.tool("dpkg", "#!/bin/sh\necho \"rke2-server: $2\"\n");
    assert_eq!(inspect(&host).package, "rke2-server");
}

#[test]
fn what_else_acts_on_the_host_is_told() {
    let host = bare();
    host.write(&host.world("units/rancher-system-agent"), "active");
    host.write(&host.world("units/dnf-automatic.timer"), "active");
    host.write(&host.world("units/rebootmgr"), "failed");
    assert_eq!(inspect(&host).units, ["rancher-system-agent.service", "dnf-automatic.timer"]);
    let apt = |value: &str| {
        host.tool("apt-config", &format!("#!/bin/sh\necho \"$2 \\\"{value}\\\";\"\n"));
        inspect(&host)
    };
    assert!(apt("1").apt_upgrades && apt("true").apt_reboots);
    assert!(!apt("0").apt_upgrades && !apt("false").apt_reboots && !apt("").apt_upgrades);
}

#[test]
fn etcd_is_told_by_its_manifest_its_metrics_and_its_own_word() {
    let host = bare();
    host.write(&host.world("answers/health"), r#"{"health":"false","reason":"ALARM NOSPACE"}"#);
    host.write(
        &host.world("answers/metrics"),
        "# HELP etcd_server_version x\netcd_server_version{server_version=\"3.5.9\"} 1\n\
         etcd_mvcc_db_total_size_in_bytes 1.2288e+07\netcd_server_quota_backend_bytes 2.147483648e+09\n",
    );
    let found = inspect(&host);
    assert_eq!((found.etcd_version.as_str(), found.etcd_reason.as_str()), ("3.5.9", "ALARM NOSPACE"));
    assert_eq!((found.etcd_db_bytes, found.etcd_quota_bytes), (12_288_000, 2 << 30));
    let manifest = format!("{}/agent/pod-manifests/etcd.yaml", host.paths.data);
    for text in [
        "spec:\n  containers:\n  - image: index.docker.io/rancher/hardened-etcd:v3.5.21-k3s1-build20250612\n",
        r#"{"spec": {"containers": [{"image": "reg:5000/rancher/hardened-etcd:v3.5.21-k3s1-build20250612"}]}}"#,
    ] {
        host.write(&manifest, text);
        assert_eq!(inspect(&host).etcd_version, "3.5.21");
    }
    host.write(&host.world("answers/health"), "\"\\}],\n<html>");
    host.write(&host.world("answers/metrics"), "\"\\}],\n\u{1}");
    assert_eq!(inspect(&host).etcd_db_bytes, 0);
}

#[test]
fn certificates_are_told_with_their_last_day() {
    let host = bare();
    certificate(&host, "server/tls/serving-kube-apiserver.crt", 30);
    certificate(&host, "server/tls/etcd/server-ca.crt", 3650);
    certificate(&host, "agent/client-kubelet.crt", 5);
    host.write(&format!("{}/server/tls/broken.crt", host.paths.data), "nonsense");
    let now = host.survey().epoch;
    let days = |certificate: &Certificate| (certificate.not_after - now + 3600) / 86_400;
    let found = inspect(&host).certificates;
    let told: Vec<(&str, i64)> =
        found.iter().map(|one| (one.file.as_str(), if one.not_after == 0 { -1 } else { days(one) })).collect();
    let expected = [
        ("server/tls/broken.crt", -1),
        ("server/tls/serving-kube-apiserver.crt", 30),
        ("server/tls/etcd/server-ca.crt", 3650),
        ("agent/client-kubelet.crt", 5),
    ];
    assert_eq!(told, expected);
    assert!(found[2].is_authority() && !found[1].is_authority());
}

#[test]
fn a_host_without_openssl_says_so() {
    let host = bare();
    certificate(&host, "agent/client-kubelet.crt", 5);
    let text = script(&host.envelope(HostCommand::Look(Look::Inspection)));
    let output = host.sh(&text.replace("command -v openssl", "command -v no-such-openssl"));
    let found: Inspection = rke2flow_steps::render::answer(&output).unwrap();
    assert_eq!((found.certificates_unread.as_str(), found.certificates.len()), ("openssl is not installed", 0));
}

#[test]
fn the_room_is_told_for_each_place_with_its_file_system() {
    let host = bare();
    let runtime = format!("{}/data/v1.33.4-0123456789ab/bin", host.paths.data);
    host.write(&format!("{runtime}/containerd"), vec![1u8; 300_000]);
    std::os::unix::fs::symlink(&runtime, format!("{}/bin", host.paths.data)).unwrap();
    let found = inspect(&host);
    assert!((300_000..900_000).contains(&found.release_bytes), "{}", found.release_bytes);
    let places: Vec<DiskUse> = found.disks.iter().map(|disk| disk.holds).collect();
    assert_eq!(places, [DiskUse::Data, DiskUse::State, DiskUse::Bin]);
    assert!(found.disks.iter().all(|disk| disk.free > 0 && disk.mount == found.disks[0].mount), "{:?}", found.disks);
    host.tool(
        "df",
        "#!/bin/sh\necho 'Filesystem 1024-blocks Used Available Capacity Mounted on'\n\
         echo '/dev/mapper/vg-lv 100 40 60 40% /mnt/a \"b\" c'\n",
    );
    let disk = &inspect(&host).disks[0];
    assert_eq!((disk.mount.as_str(), disk.free), ("/mnt/a b c", 60 * 1024));
}
