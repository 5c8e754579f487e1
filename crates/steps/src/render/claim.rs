//! Scripts that take or give up the right to act: compare-and-set under a lock on the state directory.

use rke2flow_engine::action::Claim;

use crate::command::{ClaimCommand, Envelope};
use crate::render::sheet::Sheet;

pub(super) fn script(envelope: &Envelope, command: &ClaimCommand) -> String {
    let mut sheet = Sheet::new(envelope);
    sheet.add(include_str!("sh/claim.sh"));
    match command {
        ClaimCommand::Take(claim) => {
            expect(&mut sheet, claim).add(include_str!("sh/claim_take.sh"));
        }
        ClaimCommand::Release(claim) => {
            expect(&mut sheet, claim).add(include_str!("sh/claim_release.sh"));
        }
    }
    sheet.finish()
}

/// The claim that the script is about. Two claims are the same when their JSON is: serde writes fields in one order.
pub(super) fn expect<'a>(sheet: &'a mut Sheet, claim: &Claim) -> &'a mut Sheet {
    let json = serde_json::to_string(claim).expect("a claim is plain texts and a number");
    sheet.set("order_claim", &json).set("order_number", &claim.number.to_string())
}
