//! Questions that are being put to a person: one task per open gate.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::{AbortHandle, JoinSet};

use super::{Consent, Consented};
use crate::id::InstanceId;
use crate::state::OpenGate;

pub(super) struct Prompts {
    consent: Arc<dyn Consent>,
    asking: JoinSet<(OpenGate, Consented)>,
    asked: HashMap<InstanceId, AbortHandle>,
}

impl Prompts {
    pub fn new(consent: Arc<dyn Consent>) -> Self {
        Self { consent, asking: JoinSet::new(), asked: HashMap::new() }
    }

    /// Asks at gates that are new, and drops the questions at gates that have been decided otherwise.
    pub fn follow(&mut self, open: &[OpenGate]) {
        if open.is_empty() && self.asked.is_empty() {
            return;
        }
        self.asked.retain(|instance, task| {
            let still_open = open.iter().any(|gate| gate.instance == *instance);
            if !still_open {
                task.abort();
            }
            still_open
        });
        for gate in open {
            if !self.asked.contains_key(&gate.instance) {
                let (consent, gate) = (self.consent.clone(), gate.clone());
                let instance = gate.instance.clone();
                let task = self.asking.spawn(async move {
                    let consented = consent.ask(&gate).await;
                    (gate, consented)
                });
                self.asked.insert(instance, task);
            }
        }
    }

    /// Whether a person is being asked.
    pub fn is_asking(&self) -> bool {
        !self.asking.is_empty()
    }

    /// How the next question ends. `None`: without an answer. It was dropped, because the gate was decided otherwise;
    /// or the prompt panicked, and the gate stays open; or nobody is being asked.
    pub async fn answer(&mut self) -> Option<(OpenGate, Consented)> {
        self.asking.join_next().await?.ok()
    }
}
