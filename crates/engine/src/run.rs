//! Driving a run: one task owns the ledger and decides; attempts are tasks that only send messages.

mod attempt;
mod claims;
mod commands;
mod consent;
mod drive;
mod engine;
mod leave;
mod ledger;
mod observer;
mod open;
mod outcome;
mod prompts;
mod replay;
mod rollback;

pub use claims::{ClaimError, Claims, NoClaims};
pub use consent::{Consent, Consented, NobodyHere};
pub use engine::{Engine, Gates, Revisions, Stop};
pub use observer::Observer;
pub use open::{NewRun, Run};
pub use outcome::{EngineError, GoingOn, Outcome, RunError};
pub use replay::{Replay, Replayed};
pub use rollback::{NoRollback, RollbackOffer};
