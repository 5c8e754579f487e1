//! Which distribution a release is of, and what is called otherwise then.

use rke2flow_engine::cluster::Distribution;
use rke2flow_steps::distribution::{API_PORT, Traits};

/// The supervisor of K3s behind the API's port, which forwards to it.
const BEHIND_THE_API: u16 = 6444;

/// The distribution of a release: `v1.33.4+k3s1` is of K3s.
pub fn distribution(version: &str) -> Distribution {
    if version.contains("+k3s") { Distribution::K3s } else { Distribution::Rke2 }
}

/// What the distribution of a release is.
pub fn traits(version: &str) -> &'static Traits {
    Traits::of(distribution(version))
}

/// Where the supervisor itself listens.
pub fn supervisor_port(traits: &Traits) -> u16 {
    if traits.supervisor_port == API_PORT { BEHIND_THE_API } else { traits.supervisor_port }
}

/// The port that the API server forwards the supervisor's paths to; `None`: the supervisor has its own.
pub fn forwarded_port(traits: &Traits) -> Option<u16> {
    (traits.supervisor_port == API_PORT).then_some(BEHIND_THE_API)
}
