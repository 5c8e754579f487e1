//! No-op steps through the whole engine, onto the disk.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use rke2flow_engine::clock::Clock;
use rke2flow_engine::journal::{FileJournal, RunDirectory};
use rke2flow_engine::record::{Event, Record, Verdict};
use rke2flow_engine::run::{Engine, NewRun, Observer, Outcome, Run};
use rke2flow_engine::state::State;

use super::Figures;
use super::world::{World, chain};

pub fn sequential(directory: &Path, steps: usize, threads: usize, round: usize) -> Figures {
    let figures = measure(directory, chain(&format!("sequential-{threads}-{round}"), steps, 0), steps, threads);
    Figures { one_by_one: true, ..figures }
}

pub fn parallel(directory: &Path, branches: usize, hosts: usize, threads: usize, round: usize) -> Figures {
    let new = chain(&format!("parallel-{threads}-{round}"), branches, hosts);
    measure(directory, new, branches * hosts, threads)
}

/// When the last record was acknowledged.
#[derive(Clone, Default)]
struct Closed(Arc<OnceLock<Instant>>);

impl Observer for Closed {
    fn record(&mut self, record: &Record, _state: &State) {
        if matches!(record.event, Event::RunClosed { .. }) {
            self.0.get_or_init(Instant::now);
        }
    }
}

/// Drives a run to its end; 0 threads: on this one.
pub fn measure(directory: &Path, new: NewRun, steps: usize, threads: usize) -> Figures {
    let runtime = match threads {
        0 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        threads => tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build(),
    };
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        let directory = RunDirectory::create(directory, &new.id).expect("a directory");
        let journal = FileJournal::create(&directory).expect("a journal");
        let syncs = journal.syncs();
        let (clock, world) = (Clock::real(), World::default());
        let run = Run::begin(Box::new(journal), new, &clock).expect("a run");
        let before = syncs.load(Ordering::Relaxed);
        let closed = Closed::default();
        let engine = Engine::new(run, Arc::new(world.clone()), clock).observe(Box::new(closed.clone()));
        let begin = Instant::now();
        let outcome = tokio::spawn(engine.drive()).await.expect("no panic").expect("a run that ends");
        // Afterwards the checkpoint is closed, once per engine.
        let wall = closed.0.get().expect("the run was closed").duration_since(begin);
        assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded));
        let at = world.applied_at();
        assert_eq!(at.len(), steps);
        let each = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
        Figures { steps, wall, each, syncs: syncs.load(Ordering::Relaxed) - before, one_by_one: false }
    })
}
