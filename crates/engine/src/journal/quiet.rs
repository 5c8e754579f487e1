//! Calls whose panics are expected and dealt with: the message that the standard hook prints would only frighten.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether this thread is in such a call.
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Calls, and hands back what a panic says instead of printing it.
pub(super) fn catch<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    hush_expected_panics();
    EXPECTED.set(true);
    let called = catch_unwind(AssertUnwindSafe(call));
    EXPECTED.set(false);
    called.map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
    })
}

/// Puts a hook before the one that is there, once; every other panic is said as before.
fn hush_expected_panics() {
    static HUSHED: Once = Once::new();
    HUSHED.call_once(|| {
        let loud = take_hook();
        set_hook(Box::new(move |info| {
            if !EXPECTED.get() {
                loud(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHILD: &str = "RKE2FLOW_TEST_QUIET_CHILD";

    /// Panics are printed by the process as a whole, so that the test looks at one of its own.
    #[test]
    fn an_expected_panic_is_handed_back_unprinted_and_every_other_one_is_printed() {
        if std::env::var_os(CHILD).is_some() {
            assert_eq!(catch(|| panic!("an expected one")), Err::<(), _>("an expected one".to_owned()));
            assert!(catch_unwind(|| panic!("a defect")).is_err());
            return;
        }
        let name = "journal::quiet::tests::an_expected_panic_is_handed_back_unprinted_and_every_other_one_is_printed";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let ran = child.args(["--exact", name, "--nocapture"]).env(CHILD, "1").output().unwrap();
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(ran.status.success() && said.contains("a defect") && !said.contains("an expected one"), "{said}");
    }
}
