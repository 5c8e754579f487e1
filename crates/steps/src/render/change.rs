//! Scripts that change a host: an outer one that checks the right to act and starts the inner one as a unit of its own.

use rke2flow_engine::cluster::Releases;
use rke2flow_engine::id::HostName;

use crate::command::{Change, Envelope, KEPT_SNAPSHOTS, NodePart, Order};
use crate::distribution::Traits;
use crate::paths::HostPaths;
use crate::render::claim::expect;
use crate::render::look::ports_hex;
use crate::render::release_files;
use crate::render::sheet::Sheet;

/// Bytes that are kept of what a change printed: its end.
const OUTPUT_BYTES: u32 = 64 * 1024;
/// Seconds for one file of a release: 1 GB at 10 Mbit/s.
const FETCH_SECONDS: u32 = 900;
/// Seconds for the installer: it unpacks, and downloads nothing.
const INSTALL_SECONDS: u32 = 300;
/// Seconds for `etcd-snapshot save`: its own limit is 2 min, with S3 5 min more.
const SAVE_SECONDS: u32 = 480;
/// Seconds for one transfer of a snapshot: 5 GiB at 60 Mbit/s.
const TRANSFER_SECONDS: u32 = 720;
/// Seconds for `systemctl stop`; what is left is killed then.
const STOP_SECONDS: u32 = 60;
/// Seconds for `rke2-killall.sh`.
const KILL_SECONDS: u32 = 120;
/// How often processes that belong to nobody are killed, 0.1 s apart: they may start others meanwhile.
const KILL_TRIES: u32 = 50;
/// Seconds for a cluster-reset. It has no limit of its own; the slowest published one took 85 s (rke2#934), and its
/// clean-up of static pods gives up after 5 min.
const RESET_SECONDS: u32 = 600;
/// Seconds for the binary to tell its flags.
const USAGE_SECONDS: u32 = 10;
/// How often one run may move the same part aside.
const ASIDE_MAX: u32 = 99;

/// The outer script: under a lock it compares the claim, looks for a receipt, stages the inner script and starts it.
pub(super) fn script(envelope: &Envelope, order: &Order) -> String {
    let mut sheet = Sheet::new(envelope);
    names(&mut sheet, &envelope.paths, order);
    // Only in this script, which is never on a disk.
    let request = order.change.request();
    sheet.set("handed_text", &order.change.handed()).set("handed_ca", request.map_or("", |request| &request.ca));
    expect(&mut sheet, &order.claim)
        .add(include_str!("sh/claim.sh"))
        .add(include_str!("sh/receipt.sh"))
        .print_by("staged_script", &inner(envelope, order))
        .add(include_str!("sh/order.sh"));
    sheet.finish()
}

/// The inner script, which runs as the order's unit, has the receipt as its only output, and may be cut off anywhere.
pub(super) fn inner(envelope: &Envelope, order: &Order) -> String {
    let mut sheet = Sheet::headed(&format!("# {} {}", order.unit, order.instance), envelope);
    names(&mut sheet, &envelope.paths, order);
    sheet.set("kept_bytes", &OUTPUT_BYTES.to_string());
    values(&mut sheet, envelope, order);
    sheet.add(include_str!("sh/begin.sh"));
    for text in body(&order.change, envelope.paths.distribution()) {
        sheet.add(text);
    }
    sheet.finish()
}

fn names(sheet: &mut Sheet, paths: &HostPaths, order: &Order) {
    sheet
        .set("run", order.run.as_str())
        .set("order_unit", order.unit.as_str())
        .set("receipt", &paths.receipt(&order.run, &order.instance, order.attempt))
        .set("handed", &paths.handed(&order.unit));
}

/// The shell text of a change, in order.
fn body(change: &Change, distribution: &Traits) -> Vec<&'static str> {
    let release = include_str!("sh/release.sh");
    let aside = include_str!("sh/change/aside.sh");
    let guard = include_str!("sh/change/start_guard.sh");
    let transfer = include_str!("sh/change/transfer.sh");
    let (ports, down) = (include_str!("sh/ports.sh"), include_str!("sh/change/down.sh"));
    match change {
        Change::FetchRelease { .. } => vec![release, include_str!("sh/change/fetch_release.sh")],
        Change::StageSnapshot { .. } => vec![include_str!("sh/change/stage_snapshot.sh")],
        Change::SaveSnapshot { .. } => vec![include_str!("sh/change/save_snapshot.sh")],
        Change::UploadSnapshot { .. } => vec![transfer, include_str!("sh/change/upload_snapshot.sh")],
        Change::FetchSnapshot { .. } => vec![transfer, include_str!("sh/change/fetch_snapshot.sh")],
        Change::InstallVersion { .. } => {
            let rke2 = include_str!("sh/change/install_archive.sh");
            let own = if distribution.bare_binary { include_str!("sh/change/install_binary.sh") } else { rke2 };
            vec![release, own, include_str!("sh/change/install_version.sh")]
        }
        Change::Hold => vec![include_str!("sh/change/hold.sh")],
        Change::ReleaseHold => vec![include_str!("sh/change/release_hold.sh")],
        Change::KillNode { .. } => vec![ports, down, include_str!("sh/change/kill_node.sh")],
        Change::JoinAnew { .. } => vec![
            aside,
            guard,
            include_str!("sh/change/join_anew_guard.sh"),
            ports,
            down,
            include_str!("sh/change/kill_node.sh"),
            include_str!("sh/change/join_anew.sh"),
        ],
        Change::MoveAside { .. } => vec![aside, include_str!("sh/change/move_aside.sh")],
        Change::MoveBack { .. } => vec![aside, ports, down, include_str!("sh/change/move_back.sh")],
        Change::PointAt { .. } => vec![include_str!("sh/change/point_at.sh")],
        Change::ClusterReset { .. } => vec![aside, ports, down, include_str!("sh/change/cluster_reset.sh")],
        Change::StartUnit => vec![guard, include_str!("sh/change/start_unit.sh")],
        Change::RestartUnit => vec![guard, include_str!("sh/change/restart_unit.sh")],
        Change::WritePoint { .. } => vec![include_str!("sh/change/write_point.sh")],
        Change::WriteToken { .. } => vec![include_str!("sh/change/write_token.sh")],
        Change::EnableUnit => vec![include_str!("sh/change/enable_unit.sh")],
        Change::MarkLost { .. } => vec![include_str!("sh/change/mark_lost.sh")],
        Change::ForgetLost { .. } => vec![include_str!("sh/change/forget_lost.sh")],
        Change::CleanUp => vec![include_str!("sh/change/clean_up.sh")],
        Change::Script { .. } => vec![include_str!("sh/change/script.sh")],
    }
}

/// The values that a change's text names.
fn values(sheet: &mut Sheet, envelope: &Envelope, order: &Order) {
    let paths = &envelope.paths;
    match &order.change {
        Change::FetchRelease { version, from, arch } => release_values(sheet, paths, version, from, arch),
        Change::StageSnapshot { .. }
        | Change::SaveSnapshot { .. }
        | Change::UploadSnapshot { .. }
        | Change::FetchSnapshot { .. } => snapshot_values(sheet, &order.change),
        Change::InstallVersion { version, keep_replaced } => install_values(sheet, paths, version, *keep_replaced),
        Change::Hold => {
            // `%` begins a specifier in a unit file.
            let hold = paths.hold().replace('%', "%%");
            let text = format!("# rke2flow {}\n[Unit]\nConditionPathExists=!{hold}", order.run);
            sheet.set("drop_in_text", &text);
        }
        Change::KillNode { grace_seconds } => kill_values(sheet, paths, *grace_seconds),
        Change::JoinAnew { grace_seconds } => {
            aside_values(sheet, paths, order);
            kill_values(sheet, paths, *grace_seconds);
        }
        Change::MoveAside { parts } | Change::MoveBack { parts } => {
            let words: Vec<&str> = parts.iter().map(|part| part_word(*part)).collect();
            aside_values(sheet, paths, order);
            sheet.set("parts", &words.join(" "));
            if matches!(order.change, Change::MoveBack { .. }) {
                down_values(sheet, paths);
            }
        }
        Change::PointAt { server } => {
            // A JSON text is a YAML text.
            let server = serde_json::Value::from(server.as_deref().unwrap_or_default());
            sheet.set("override_text", &format!("# rke2flow {}\nserver: {server}", order.run));
        }
        Change::ClusterReset { snapshot, sha256 } => {
            aside_values(sheet, paths, order);
            down_values(sheet, paths);
            sheet
                .set("snapshot", snapshot)
                .set("sha256", sha256)
                .set("usage_seconds", &USAGE_SECONDS.to_string())
                .set("reset_seconds", &RESET_SECONDS.to_string());
        }
        Change::WritePoint { point } => {
            let json = serde_json::to_string(point).expect("a recovery point has text keys only");
            sheet.set("point_json", &json).set("point_file", &paths.point(&point.id));
        }
        Change::MarkLost { hosts } | Change::ForgetLost { hosts } => {
            // Host names have no blanks.
            let names: Vec<&str> = hosts.iter().map(HostName::as_str).collect();
            sheet.set("lost_hosts", &names.join(" "));
        }
        Change::Script { script } => {
            sheet.set("script", script);
        }
        Change::WriteToken { token: _ } | Change::EnableUnit => {}
        Change::ReleaseHold | Change::StartUnit | Change::RestartUnit | Change::CleanUp => {}
    }
}

fn snapshot_values(sheet: &mut Sheet, change: &Change) {
    match change {
        Change::StageSnapshot { file, sha256, to } => {
            sheet.set("file", file).set("sha256", sha256).set("to", to);
        }
        Change::SaveSnapshot { name } => {
            sheet.set("snapshot_name", name).set("save_seconds", &SAVE_SECONDS.to_string());
        }
        Change::UploadSnapshot { file, sha256, request: _ } => {
            sheet.set("file", file).set("sha256", sha256).set("transfer_seconds", &TRANSFER_SECONDS.to_string());
        }
        Change::FetchSnapshot { to, size, sha256, request: _ } => {
            sheet
                .set("to", to)
                .set("size", &size.to_string())
                .set("sha256", sha256)
                .set("kept_max", &KEPT_SNAPSHOTS.to_string())
                .set("transfer_seconds", &TRANSFER_SECONDS.to_string());
        }
        _ => {}
    }
}

fn release_values(sheet: &mut Sheet, paths: &HostPaths, version: &str, from: &Releases, arch: &str) {
    // `+` in a URL's path is a space to some servers.
    let filled = |template: &str| template.replace("{version}", &version.replace('+', "%2B"));
    let (template, directory) = match from {
        Releases::Url(template) => (filled(template), String::new()),
        Releases::Directory(directory) => (String::new(), directory.to_string_lossy().into_owned()),
    };
    let distribution = paths.distribution();
    let own = *from == Releases::Url(distribution.releases.to_owned());
    let installer = if own { filled(distribution.installer) } else { String::new() };
    release_files(sheet, paths);
    sheet
        .set("version", version)
        .set("arch", arch)
        .set("release", &paths.release(version))
        .set("template", &template)
        .set("directory", &directory)
        .set("installer", &installer)
        .set("fetch_seconds", &FETCH_SECONDS.to_string());
}

fn install_values(sheet: &mut Sheet, paths: &HostPaths, version: &str, keep_replaced: bool) {
    release_files(sheet, paths);
    sheet
        .set("version", version)
        .set("arch", "")
        .set("release", &paths.release(version))
        .set("systemd", &paths.systemd)
        .set("keep_replaced", if keep_replaced { "true" } else { "false" })
        .set("install_seconds", &INSTALL_SECONDS.to_string());
}

fn kill_values(sheet: &mut Sheet, paths: &HostPaths, grace_seconds: u32) {
    down_values(sheet, paths);
    sheet.set("grace_seconds", &grace_seconds.to_string()).set("stop_seconds", &STOP_SECONDS.to_string());
}

fn down_values(sheet: &mut Sheet, paths: &HostPaths) {
    sheet
        .set("kill_seconds", &KILL_SECONDS.to_string())
        .set("kill_tries", &KILL_TRIES.to_string())
        .set("ports_hex", &ports_hex(paths));
}

fn aside_values(sheet: &mut Sheet, paths: &HostPaths, order: &Order) {
    sheet
        .set("etcd_aside", &paths.aside(NodePart::Etcd, &order.run))
        .set("tls_aside", &paths.aside(NodePart::Tls, &order.run))
        .set("cred_aside", &paths.aside(NodePart::Cred, &order.run))
        .set("manifests_aside", &paths.aside(NodePart::ShippedCharts, &order.run))
        .set("aside_max", &ASIDE_MAX.to_string());
}

fn part_word(part: NodePart) -> &'static str {
    match part {
        NodePart::Etcd => "etcd",
        NodePart::Tls => "tls",
        NodePart::Cred => "cred",
        NodePart::ShippedCharts => "charts",
    }
}
