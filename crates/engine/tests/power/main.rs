//! Power cuts: the journal writes on ext4 on a loop device, the writer is frozen at a random moment, the device's image
//! is copied as it is then, and the copy is mounted and opened. What was acknowledged must be there.
//!
//! What only the page cache had is not in the copy; a kill would have kept it. What ext4 has submitted counts as
//! durable, so this says nothing about a disk that loses its own cache. It needs root, loop devices and mkfs.ext4:
//! required with `RKE2FLOW_LAB=required`. `POWER_SEED` repeats a run, `POWER_CUTS` changes how many.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test whose surroundings are missing has failed")]
#![allow(clippy::print_stdout, reason = "a test program of its own tells what it found, and what it left out")]

mod bench;
mod check;
mod writer;

use std::process::ExitCode;
use std::time::Instant;

use self::bench::{Bench, Chance};
use self::check::Verdict;

const NAME: &str = "no_acknowledged_record_is_lost_by_a_power_cut";
const CUTS: u32 = 50;
/// A cut comes at most so late: before ext4 commits by itself, after 5 s.
const LATEST_MS: u64 = 300;

fn main() -> ExitCode {
    if let Some(work) = writer::asked() {
        return writer::write_until_killed(&work);
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        println!("{NAME}: test");
        return ExitCode::SUCCESS;
    }
    let exact = arguments.iter().any(|argument| argument == "--exact");
    let mut filters = arguments.iter().filter(|argument| !argument.starts_with('-')).peekable();
    if filters.peek().is_some() && !filters.any(|filter| if exact { NAME == filter } else { NAME.contains(&**filter) })
    {
        return ExitCode::SUCCESS;
    }
    if let Err(why) = bench::possible() {
        println!("test {NAME} ... left out: {why}");
        return if std::env::var("RKE2FLOW_LAB").is_ok_and(|word| word == "required") {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        };
    }
    // In a mount namespace of its own nothing stays mounted, whatever happens to this process.
    if !bench::is_alone() {
        return bench::again_alone();
    }
    cut_the_power()
}

fn cut_the_power() -> ExitCode {
    let began = Instant::now();
    let seed = number("POWER_SEED").unwrap_or_else(|| u64::from(std::process::id()) ^ (began_nanos() << 20));
    let cuts = number("POWER_CUTS").map_or(CUTS, |cuts| cuts as u32);
    println!("test {NAME}: {cuts} cuts, POWER_SEED={seed}");
    let (bench, mut chance) = (Bench::new(), Chance(seed));
    let careless = bench.cut(writer::CARELESS, LATEST_MS, seed);
    let seen = check::lost_by_the_careless(&bench, &careless);
    println!("a writer without fdatasync: {seen} of {} acknowledged lines lost", careless.acknowledged);
    if seen == 0 {
        println!("test {NAME} ... FAILED: a cut here takes nothing, so that the cuts below prove nothing");
        return ExitCode::FAILURE;
    }
    let (mut found, mut faults) = (Verdict::default(), 0);
    let mut run = 0;
    for cut in 0..cuts {
        // Every third time the run of the last cut is opened again and goes on, as after a crash.
        if cut == 0 || chance.below(3) != 0 {
            run = cut;
        }
        let moment = 1 + chance.below(LATEST_MS);
        let copy = bench.cut(run, moment, chance.next());
        let verdict = check::check(&bench, &copy);
        if let Some(why) = &verdict.fault {
            faults += 1;
            println!("cut {cut} of run {run} after {moment} ms, {} acknowledged: {why}", copy.acknowledged);
        }
        found.add(&verdict);
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{cuts} cuts in {seconds:.1} s: {} records acknowledged at the cuts, {} lost, {} copies that cannot be opened, {} \
         checkpoints rebuilt, {} torn ends cut off, {} records more than were acknowledged",
        found.acknowledged, found.lost, found.unopenable, found.rebuilt, found.torn, found.more
    );
    let idle = found.acknowledged < u64::from(cuts);
    println!("test {NAME} ... {}", if faults == 0 && !idle { "ok" } else { "FAILED" });
    if idle {
        println!("hardly anything was written: the cuts prove nothing");
    }
    if faults == 0 && !idle { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn began_nanos() -> u64 {
    u64::from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos())
}
