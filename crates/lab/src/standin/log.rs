//! The log as RKE2 writes it: logrus' text format on standard error, one line per entry.

use std::io::{self, Write as _};

/// `level=info`.
pub fn info(message: impl AsRef<str>) {
    write("info", message.as_ref());
}

/// `level=warning`.
pub fn warn(message: impl AsRef<str>) {
    write("warning", message.as_ref());
}

/// `level=error`.
pub fn error(message: impl AsRef<str>) {
    write("error", message.as_ref());
}

/// `level=fatal`; the caller ends the process with status 1.
pub fn fatal(message: impl AsRef<str>) {
    write("fatal", message.as_ref());
}

fn write(level: &str, message: &str) {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    let quoted = format!("{message:?}");
    // The reader of the log may be gone: that ends no server.
    let _ = writeln!(io::stderr().lock(), "time=\"{now}\" level={level} msg={quoted}");
}
