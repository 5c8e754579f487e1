//! A script that grows line by line. Values get into it by [`Sheet::set`] only, and that quotes them.

use sha2::{Digest as _, Sha256};

use crate::command::Envelope;
use crate::render::envelope::first_line;

/// The shell text of one script.
pub(super) struct Sheet {
    text: String,
}

impl Sheet {
    /// A script for this envelope, with everything that every script knows.
    pub(super) fn new(envelope: &Envelope) -> Self {
        Self::headed(&first_line(envelope), envelope)
    }

    /// The same under another first line.
    pub(super) fn headed(first_line: &str, envelope: &Envelope) -> Self {
        // Nothing runs before the last line of the script: a cut-off upload is a syntax error, or does nothing.
        let mut sheet = Self { text: format!("{first_line}\nmain() {{\n") };
        sheet.places(envelope);
        sheet.add(include_str!("sh/base.sh"));
        sheet
    }

    /// Sets a shell variable to exactly this value.
    pub(super) fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.text.push_str(&format!("{name}={}\n", quote(value)));
        self
    }

    /// Adds shell text of our own. Never a value.
    pub(super) fn add(&mut self, text: &'static str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Adds a function that prints `text`, which ends in a newline, exactly as it is.
    pub(super) fn print_by(&mut self, function: &str, text: &str) -> &mut Self {
        // No text can hold a line that names its own digest, so nothing in it ends the here-document early.
        let digest: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
        self.text.push_str(&format!("\n{function}() {{\n\tcat <<'END-{digest}'\n{text}END-{digest}\n}}\n"));
        self
    }

    /// Adds a call of one of our functions with these arguments.
    pub(super) fn call(&mut self, function: &str, arguments: &[&str]) -> &mut Self {
        let quoted: Vec<String> = arguments.iter().map(|argument| quote(argument)).collect();
        self.text.push_str(&format!("{function} {}\n", quoted.join(" ")));
        self
    }

    /// The script, with the line that starts it.
    pub(super) fn finish(mut self) -> String {
        self.text.push_str("}\nmain \"$@\"\n");
        self.text
    }

    fn places(&mut self, envelope: &Envelope) {
        use crate::command::NodePart::{Cred, Etcd, ShippedCharts, Tls};
        let paths = &envelope.paths;
        let distribution = paths.distribution();
        self.set("name", &paths.name)
            .set("title", distribution.title)
            .set("environment", distribution.environment)
            .set("charts", &distribution.charts.join(" "))
            .set("role", super::role_word(envelope.role))
            .set("unit", &paths.unit(envelope.role))
            .set("data", &paths.data)
            .set("config", &paths.config)
            .set("bin", &paths.bin)
            .set("state", &paths.state)
            .set("supervisor_port", &paths.supervisor_port.to_string())
            .set("hold", &paths.hold())
            .set("claim_file", &paths.claim())
            .set("drop_in", &paths.hold_drop_in(envelope.role))
            .set("override", &paths.server_override())
            .set("token_drop_in", &paths.token_drop_in())
            .set("reset_flag", &paths.reset_flag())
            .set("reset_record", &paths.reset_record())
            .set("snapshots", &paths.snapshots())
            .set("releases", &paths.releases())
            .set("points", &paths.points())
            .set("lost_marks", &paths.lost())
            .set("etcd", &paths.part(Etcd))
            .set("tls", &paths.part(Tls))
            .set("cred", &paths.part(Cred))
            .set("manifests", &paths.part(ShippedCharts));
    }
}

/// One word of `sh` that stands for exactly this text. A NUL, which no shell can hold, becomes U+FFFD.
fn quote(value: &str) -> String {
    let value = value.replace('\0', "\u{fffd}");
    shlex::try_quote(&value).expect("a text without NUL can be quoted").into_owned()
}
