//! What people see: times, colours, tables, the progress of a run.

use std::io::IsTerminal;
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use owo_colors::{OwoColorize, Style};

pub mod blast;
pub mod dry_run;
mod failures;
pub mod phases;
pub mod progress;

pub use self::failures::failures;

/// Whether texts are coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// With ANSI sequences.
    On,
    /// Plain.
    Off,
}

impl Colour {
    /// For standard error: on when it is a terminal and `NO_COLOR` is not set (no-color.org).
    pub fn of_stderr() -> Self {
        Self::when(std::io::stderr().is_terminal())
    }

    /// For standard output.
    pub fn of_stdout() -> Self {
        Self::when(std::io::stdout().is_terminal())
    }

    fn when(terminal: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if terminal && !refused { Colour::On } else { Colour::Off }
    }

    /// Good news.
    pub fn good(self, text: &str) -> String {
        self.styled(text, Style::new().green())
    }

    /// Bad news.
    pub fn bad(self, text: &str) -> String {
        self.styled(text, Style::new().red().bold())
    }

    /// Something to look at.
    pub fn warn(self, text: &str) -> String {
        self.styled(text, Style::new().yellow())
    }

    /// What matters less.
    pub fn faint(self, text: &str) -> String {
        self.styled(text, Style::new().dimmed())
    }

    fn styled(self, text: &str, style: Style) -> String {
        match self {
            Colour::On => text.style(style).to_string(),
            Colour::Off => text.to_owned(),
        }
    }
}

/// `08:15`, `1:08:15`: minutes and seconds, hours when there are some.
pub fn minutes(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes:02}:{seconds:02}") }
}

/// `0.4s`, `6.1s`, `42s`, `03:20`: as exact as a person needs it.
pub fn short(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        s if s < 9.95 => format!("{s:.1}s"),
        s if s < 99.5 => format!("{s:.0}s"),
        _ => minutes(duration),
    }
}

/// A table without lines, as kubectl prints them.
pub fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head.iter().map(|cell| (*cell).to_owned()));
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_as_exact_as_a_person_needs() {
        let shown = |millis| short(Duration::from_millis(millis));
        assert_eq!([shown(40), shown(6_100), shown(42_400), shown(200_000)], ["0.0s", "6.1s", "42s", "03:20"]);
        assert_eq!(minutes(Duration::from_secs(4095)), "1:08:15");
    }

    #[test]
    fn a_table_has_aligned_columns_and_no_trailing_blanks() {
        let text = table(&["STEP", "STATE"], [vec!["a".into(), "done".into()], vec!["long".into(), String::new()]]);
        insta::assert_snapshot!(text, @r"
        STEP  STATE
        a     done
        long
        ");
    }
}
