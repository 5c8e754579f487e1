//! Looks: what a host tells about itself.

use super::bench::{Bench, VERSION};

#[test]
fn a_survey_of_an_empty_host_is_an_answer() {
    let host = Bench::new();
    let survey = host.survey();
    assert_eq!(survey.installed, VERSION);
    assert_eq!((survey.unit.as_str(), survey.unit_restarts, survey.unit_enabled), ("inactive", 2, true));
    assert_eq!(survey.boot, host.read("/proc/sys/kernel/random/boot_id").trim());
    assert!(survey.disk_free > 0 && survey.epoch > 1_600_000_000);
    assert_eq!((survey.shims, survey.etcd_bytes, survey.shipped_charts), (0, 0, 0));
    assert!(survey.claim.is_none() && survey.reset.is_none() && survey.aside.is_empty());
}
