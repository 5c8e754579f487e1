//! The claim: who may act, compare-and-set.

use rke2flow_engine::id::HostName;
use rke2flow_steps::answer::{ClaimAnswer, ClaimState};
use rke2flow_steps::command::ClaimCommand;

use crate::world::World;

impl World {
    /// Takes or gives up a claim.
    pub(crate) fn claim(&mut self, name: &HostName, command: &ClaimCommand) -> ClaimAnswer {
        let now = self.epoch(self.now);
        let host = self.host_mut(name);
        match (command, &mut host.claim) {
            (ClaimCommand::Take(claim), None) => {
                host.claim = Some(ClaimState { claim: claim.clone(), since: now, released: false });
                ClaimAnswer::Accepted
            }
            (ClaimCommand::Take(claim), Some(held)) if held.claim == *claim => {
                if held.released {
                    *held = ClaimState { claim: claim.clone(), since: now, released: false };
                }
                ClaimAnswer::Accepted
            }
            (ClaimCommand::Take(claim), Some(held)) if claim.number > held.claim.number => {
                *held = ClaimState { claim: claim.clone(), since: now, released: false };
                ClaimAnswer::Accepted
            }
            (ClaimCommand::Release(_), None) => ClaimAnswer::Accepted,
            (ClaimCommand::Release(claim), Some(held)) if held.claim == *claim => {
                held.released = true;
                ClaimAnswer::Accepted
            }
            (_, Some(held)) => ClaimAnswer::Refused(held.clone()),
        }
    }
}
