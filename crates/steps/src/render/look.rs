//! Scripts that look and change nothing.

use crate::answer::WATCHED_UNITS;
use crate::command::{Envelope, Look};
use crate::distribution::API_PORT;
use crate::paths::HostPaths;
use crate::render::sheet::Sheet;

/// Files in one question.
const FILES_MAX: usize = 64;
/// Seconds that a question spends on digests of files; the caller waits 60.
const HASH_SECONDS: u32 = 40;
/// Bytes of a text in an answer: 48 KiB as base64.
const TEXT_BYTES: u32 = 36 * 1024;
/// Seconds for RKE2's own list of snapshots: it may walk a bucket.
const LIST_SECONDS: u32 = 40;
/// Bytes of that list: as base64 it must fit into an answer.
const LIST_BYTES: u32 = 160 * 1024;
/// Bytes of one part of a recovery point.
const PART_BYTES: u32 = 128 * 1024;
/// Certificates in one answer.
const CERTIFICATES_MAX: u32 = 64;
/// Lines of a log in one answer.
const LOG_LINES_MAX: u32 = 200;
/// Seconds for a person's own probe.
const SCRIPT_SECONDS: u32 = 30;

pub(super) fn script(envelope: &Envelope, look: &Look) -> String {
    let mut sheet = Sheet::new(envelope);
    match look {
        Look::Survey => survey(&mut sheet, &envelope.paths),
        Look::Receipt { run, instance, attempt, unit } => {
            sheet
                .set("receipt", &envelope.paths.receipt(run, instance, *attempt))
                .set("order_unit", unit.as_str())
                .add(include_str!("sh/receipt.sh"))
                .add("\nreceipt_answer\n");
        }
        Look::Files { paths } => files(&mut sheet, paths),
        Look::Snapshots { prefix } => snapshots(&mut sheet, &envelope.paths, prefix),
        Look::Points => {
            sheet.add(include_str!("sh/look_points.sh"));
        }
        Look::SnapshotList => {
            sheet
                .set("list_seconds", &LIST_SECONDS.to_string())
                .set("text_bytes", &LIST_BYTES.to_string())
                .add(include_str!("sh/look_snapshot_list.sh"));
        }
        Look::Point { file, offset } => {
            sheet
                .set("file", file)
                .set("offset", &offset.to_string())
                .set("part_bytes", &PART_BYTES.to_string())
                .add(include_str!("sh/look_point.sh"));
        }
        Look::Identity => {
            sheet.add(include_str!("sh/look_identity.sh"));
        }
        Look::Inspection => {
            sheet
                .set("watched_units", &WATCHED_UNITS.join(" "))
                .set("certificates_max", &CERTIFICATES_MAX.to_string())
                .add(include_str!("sh/list.sh"))
                .add(include_str!("sh/look_inspection.sh"));
        }
        Look::Release { version } => {
            super::release_files(&mut sheet, &envelope.paths);
            sheet
                .set("arch", "")
                .set("release", &envelope.paths.release(version))
                .add(include_str!("sh/list.sh"))
                .add(include_str!("sh/release.sh"))
                .add(include_str!("sh/look_release.sh"));
        }
        Look::Log { unit, lines } => log(&mut sheet, unit, *lines),
        Look::Kubeconfig => {
            sheet.set("text_bytes", &TEXT_BYTES.to_string()).add(include_str!("sh/look_kubeconfig.sh"));
        }
        Look::Script { script } => {
            sheet
                .set("script", script)
                .set("script_seconds", &SCRIPT_SECONDS.to_string())
                .set("text_bytes", &TEXT_BYTES.to_string())
                .add(include_str!("sh/look_script.sh"));
        }
    }
    sheet.finish()
}

/// A server's ports, each in hexadecimal before it: /proc/net/tcp has them so, and no tool needs to be installed for that.
pub(super) fn ports_hex(paths: &HostPaths) -> String {
    let mut ports = vec![2379, 2380, API_PORT, paths.supervisor_port];
    ports.dedup();
    let pairs: Vec<String> = ports.iter().map(|port| format!("{port:04X} {port}")).collect();
    pairs.join(" ")
}

fn snapshots(sheet: &mut Sheet, paths: &HostPaths, prefix: &str) {
    let kept = paths.kept_snapshots();
    sheet
        .set("prefix", prefix)
        .set("kept", &kept)
        .set("kept_json", &json(&kept))
        .add(include_str!("sh/list.sh"))
        .set("snapshots_json", &json(&paths.snapshots()))
        .set("hash_seconds", &HASH_SECONDS.to_string())
        .add(include_str!("sh/files.sh"))
        .add(include_str!("sh/look_snapshots.sh"));
}

fn log(sheet: &mut Sheet, unit: &str, lines: u32) {
    sheet
        .set("log_unit", unit)
        .set("lines", &lines.min(LOG_LINES_MAX).to_string())
        .set("text_bytes", &TEXT_BYTES.to_string())
        .add(include_str!("sh/look_log.sh"));
}

fn survey(sheet: &mut Sheet, paths: &HostPaths) {
    sheet
        .set("ports_hex", &ports_hex(paths))
        .set("systemd", &paths.systemd)
        .add(include_str!("sh/ports.sh"))
        .add(include_str!("sh/list.sh"))
        .add(include_str!("sh/claim.sh"))
        .add(if paths.distribution().flags_in_unit {
            include_str!("sh/unit_flags.sh")
        } else {
            include_str!("sh/no_unit_flags.sh")
        })
        .add(if paths.distribution().static_pods {
            include_str!("sh/no_api_version.sh")
        } else {
            include_str!("sh/api_version.sh")
        })
        .add(include_str!("sh/survey.sh"));
}

fn files(sheet: &mut Sheet, paths: &[String]) {
    sheet
        .set("hash_seconds", &HASH_SECONDS.to_string())
        .add(include_str!("sh/files.sh"))
        .add("printf '{\"files\":['\n");
    for path in paths.iter().take(FILES_MAX) {
        sheet.call("file_info", &[&json(path), path]);
    }
    sheet.add("printf ']}\\n'\n");
}

fn json(text: &str) -> String {
    serde_json::to_string(text).expect("a text is JSON")
}
