//! The points of a run with several rounds: which one its id means, and how the others are named.

use crate::actions::save_snapshot::base_name;
use crate::point::RecoveryPoint;

/// The point that a name means: its own id, one of its files, or the run that made it. Of a run with several rounds it
/// is the newest point of one version: the way back before the round that failed.
pub(super) fn named<'a>(newest_first: &[&'a RecoveryPoint], name: &str) -> Option<&'a RecoveryPoint> {
    let is_file = |path: &str| path == name || base_name(path) == name;
    let exactly = |point: &RecoveryPoint| point.id == name || point.snapshots.iter().any(|file| is_file(&file.path));
    let own = || newest_first.iter().copied().filter(|point| round_of(point).is_some_and(|(run, _)| run == name));
    newest_first
        .iter()
        .copied()
        .find(|point| exactly(point))
        .or_else(|| own().find(|point| point.mixed().is_none()))
        .or_else(|| own().next())
}

/// The other points of the same run, in words for the person who decides.
pub(super) fn others(newest_first: &[&RecoveryPoint], chosen: &RecoveryPoint) -> Vec<String> {
    let Some((run, _)) = round_of(chosen) else { return Vec::new() };
    let of_run = |point: &&&RecoveryPoint| round_of(point).is_some_and(|(other, _)| other == run);
    let others = newest_first.iter().filter(of_run).filter(|point| point.id != chosen.id);
    let told = others.map(|point| {
        let way = if point.taken_at < chosen.taken_at { "further back" } else { "less far back" };
        format!("`to={}` goes {way}, to {} at {}", point.id, point.version, point.taken_at)
    });
    told.collect()
}

/// The run and the round of a point whose run had several: `261122-0312-k7q2-2`. The last part of a run's own id is
/// longer than one digit.
fn round_of(point: &RecoveryPoint) -> Option<(&str, u32)> {
    let (run, round) = point.id.rsplit_once('-')?;
    let is_round = round.len() == 1 && run.contains('-');
    Some((run, round.parse().ok().filter(|_| is_round)?))
}
