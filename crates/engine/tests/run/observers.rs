//! Who is told what happens, and what becomes of one that fails at it.

use std::sync::{Arc, Mutex};

use rke2flow_engine::record::{Record, Verdict};
use rke2flow_engine::run::{Observer, Outcome};
use rke2flow_engine::state::State;

use crate::world::{Scenario, plan, step};

struct Broken;

impl Observer for Broken {
    fn record(&mut self, _record: &Record, _state: &State) {
        panic!("a defect of the display")
    }
}

#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<&'static str>>>);

impl Observer for Told {
    fn record(&mut self, record: &Record, _state: &State) {
        self.0.lock().unwrap().push(record.event.kind());
    }

    fn notice(&mut self, _text: &str) {
        self.0.lock().unwrap().push("notice");
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_is_left_out_and_the_run_and_the_others_go_on() {
    let (scenario, told) = (Scenario::new(), Told::default());
    let engine = scenario.begin(plan(vec![step("one")])).observe(Box::new(Broken)).observe(Box::new(told.clone()));
    assert_eq!(engine.drive().await.unwrap(), Outcome::Closed(Verdict::Succeeded));
    let told = told.0.lock().unwrap().clone();
    assert_eq!(told.iter().filter(|kind| **kind == "notice").count(), 1, "{told:?}");
    assert_eq!(told.last(), Some(&"RunClosed"));
}
