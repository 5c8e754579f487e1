//! The report as text for a terminal, and as markdown.

use std::fmt::Write;
use std::time::Duration;

use super::{BudgetVerdict, Report, SegmentKind, WaitKind};
use crate::duration::Span;
use crate::record::Verdict;

/// How many segments of the critical path are shown: the longest ones.
const SEGMENTS_SHOWN: usize = 12;

/// How many lines of skipped actions are shown.
const SKIPPED_SHOWN: usize = 20;

impl Report {
    /// Plain, aligned text.
    pub fn to_text(&self) -> String {
        let mut text = format!("{}\n", self.headline());
        if let Some(line) = self.rollback_line() {
            let _ = writeln!(text, "{line}");
        }
        text.push_str(&align(&self.phase_rows()));
        if let Some(line) = self.recovery_line() {
            let _ = writeln!(text, "\n{line}");
        }
        for section in self.sections() {
            let _ = write!(text, "\n{}\n{}", section.title, align(&section.rows));
        }
        text
    }

    /// Markdown, for a ticket or a post-mortem.
    pub fn to_markdown(&self) -> String {
        let linked = self.rollback_line().map(|line| format!("\n\n{line}")).unwrap_or_default();
        let mut text = format!("# Run {}\n\n{}{linked}\n\n{}", self.run, self.headline(), table(&self.phase_rows()));
        if let Some(line) = self.recovery_line() {
            let _ = writeln!(text, "\n{line}");
        }
        for section in self.sections() {
            let _ = write!(text, "\n## {}\n\n{}", section.title, table(&section.rows));
        }
        text
    }

    fn headline(&self) -> String {
        let ended = match &self.verdict {
            Some(Verdict::Succeeded) => "succeeded".to_owned(),
            Some(Verdict::Aborted) => "was aborted".to_owned(),
            Some(Verdict::Superseded { by }) => format!("was superseded by {by}"),
            None if self.failed.is_empty() => "is open".to_owned(),
            None => "has failed and can be resumed".to_owned(),
        };
        let rehearsal = if self.speed > 1 { format!(" (rehearsal ×{})", self.speed) } else { String::new() };
        let (runbook, cluster, run) = (&self.runbook, &self.cluster, &self.run);
        format!("{runbook} of {cluster}, run {run}: {ended} after {}{rehearsal}", time(self.seconds))
    }

    /// The run before or after this one, when one of them rolls the other back.
    fn rollback_line(&self) -> Option<String> {
        match (&self.rolled_back_by, &self.rolls_back) {
            (Some(child), _) => Some(format!("it failed and is rolled back by run {child}")),
            (None, Some(parent)) => Some(format!("it rolls back run {parent}")),
            (None, None) => None,
        }
    }

    fn phase_rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![["phase", "clock", "took", "budget", "verdict"].map(str::to_owned).to_vec()];
        rows.extend(self.phases.iter().map(|phase| {
            vec![
                phase.id.to_string(),
                format!("{:?}", phase.clock).to_lowercase(),
                time(phase.seconds),
                phase.budget_seconds.map_or_else(|| "-".to_owned(), time),
                word(phase.verdict).to_owned(),
            ]
        }));
        rows
    }

    fn recovery_line(&self) -> Option<String> {
        let recovery = self.recovery.as_ref()?;
        let budget = recovery.budget_seconds.map(|budget| format!(" of {}", time(budget))).unwrap_or_default();
        let mut line = format!("time to recover: {}{budget}, {}", time(recovery.seconds), word(recovery.verdict));
        let parts = [
            ("without an engine", recovery.gap_seconds),
            ("at gates", recovery.gate_seconds),
            ("paused", recovery.pause_seconds),
        ];
        for (what, seconds) in parts.into_iter().filter(|(_, seconds)| *seconds > 0.0) {
            let _ = write!(line, ", {} {what}", time(seconds));
        }
        Some(line)
    }

    fn sections(&self) -> Vec<Section> {
        let mut sections = vec![self.steps_section()];
        sections.extend(self.forecast_section());
        sections.extend(self.critical_section());
        let failed = self
            .failed
            .iter()
            .map(|failed| vec![failed.instance.clone(), first_line(&failed.what), first_line(&failed.observed)]);
        sections.extend(Section::of("failed", ["action", "what", "observed"], failed.collect()));
        let mut skipped: Vec<Vec<String>> =
            self.skipped.iter().map(|skipped| vec![skipped.instance.clone(), first_line(&skipped.why)]).collect();
        let hidden = skipped.len().saturating_sub(SKIPPED_SHOWN);
        skipped.truncate(SKIPPED_SHOWN);
        if hidden > 0 {
            skipped.push(vec![format!("and {hidden} more"), String::new()]);
        }
        sections.extend(Section::of("skipped", ["action", "why"], skipped));
        let waived =
            self.waived.iter().map(|waived| vec![waived.guard.clone(), first_line(&waived.reason), waived.who.clone()]);
        sections.extend(Section::of("waived", ["guard", "reason", "who"], waived.collect()));
        let told = self.attention.iter().map(|told| vec![told.instance.clone(), told.text.clone()]);
        sections.extend(Section::of("for you to know", ["action", "what"], told.collect()));
        sections
    }

    fn steps_section(&self) -> Section {
        let row = |step: &super::StepReport| {
            let (done, targets) = (step.done, step.targets);
            let failed = if step.failed > 0 { format!(", {} failed", step.failed) } else { String::new() };
            let attempts = step.attempts.to_string();
            vec![step.id.to_string(), format!("{done}/{targets}{failed}"), attempts, time(step.seconds)]
        };
        let rows: Vec<_> = self.steps.iter().map(row).collect();
        let header = ["step", "targets", "attempts", "took"].map(str::to_owned).to_vec();
        Section { title: "steps".to_owned(), rows: [vec![header], rows].concat() }
    }

    fn forecast_section(&self) -> Option<Section> {
        let forecast = self.forecast.as_ref()?;
        let rows = forecast.rows.iter().map(|row| {
            let late = row.p90_seconds.map_or_else(|| "-".to_owned(), time);
            vec![row.what.clone(), time(row.p50_seconds), late, time(row.seconds), row.verdict().to_owned()]
        });
        let title = format!("against the forecast ({})", forecast.basis);
        Section::of(&title, ["what", "p50", "p90", "took", "verdict"], rows.collect())
    }

    fn critical_section(&self) -> Option<Section> {
        let mut longest: Vec<(usize, f64)> =
            self.critical_path.iter().enumerate().map(|(at, segment)| (at, segment.seconds)).collect();
        longest.sort_by(|a, b| b.1.total_cmp(&a.1));
        longest.truncate(SEGMENTS_SHOWN);
        longest.sort_by_key(|(at, _)| *at);
        let rows = longest.iter().filter(|(_, seconds)| *seconds > 0.0).map(|&(at, seconds)| {
            let what = match &self.critical_path[at].kind {
                SegmentKind::Work { instance, attempt: 1 } => instance.clone(),
                SegmentKind::Work { instance, attempt } => format!("{instance} (attempt {attempt})"),
                SegmentKind::Wait { wait, instance } => format!("{} ({instance})", waited_for(*wait)),
            };
            vec![what, time(seconds)]
        });
        Section::of("critical path", ["what", "took"], rows.collect())
    }
}

struct Section {
    title: String,
    /// The header is the first row.
    rows: Vec<Vec<String>>,
}

impl Section {
    /// `None` without rows.
    fn of<const N: usize>(title: &str, header: [&str; N], rows: Vec<Vec<String>>) -> Option<Self> {
        let header = header.map(str::to_owned).to_vec();
        (!rows.is_empty()).then(|| Self { title: title.to_owned(), rows: [vec![header], rows].concat() })
    }
}

fn waited_for(wait: WaitKind) -> &'static str {
    match wait {
        WaitKind::Gate => "waiting at a gate",
        WaitKind::Pause => "paused",
        WaitKind::EngineGone => "no engine",
        WaitKind::Backoff => "backoff",
        WaitKind::Engine => "engine",
    }
}

fn word(verdict: BudgetVerdict) -> &'static str {
    match verdict {
        BudgetVerdict::NotBegun => "not begun",
        BudgetVerdict::Open => "running",
        BudgetVerdict::NoBudget => "-",
        BudgetVerdict::Within => "within budget",
        BudgetVerdict::Over => "OVER BUDGET",
    }
}

/// Whole seconds from ten seconds on, tenths below.
pub(crate) fn time(seconds: f64) -> String {
    if seconds >= 10.0 {
        return Span::from_secs(seconds.round() as u64).to_string();
    }
    let tenths = Duration::from_millis((seconds * 10.0).round() as u64 * 100);
    format!("{:.1}s", tenths.as_secs_f64())
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// Columns as wide as their widest cell, two spaces apart.
pub(crate) fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// A markdown table; the first row is its header.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
        if at == 0 {
            let _ = writeln!(text, "|{}", " --- |".repeat(row.len()));
        }
    }
    text
}
