//! What every restore must leave behind, whichever way it took.

use jiff::Timestamp;

use crate::scene::{NEW, OLD, Scene};
use crate::{cluster, data, writes};

/// What the cluster had when its recovery point was made.
pub struct Before {
    digest: String,
    keys: Vec<String>,
}

impl Before {
    /// What it has now.
    #[track_caller]
    pub fn of(scene: &Scene) -> Self {
        Self { digest: data::digest(scene), keys: data::keys(scene) }
    }

    /// Changes data, and installs another version everywhere: something to come back from.
    #[track_caller]
    pub fn move_on(&self, scene: &Scene) {
        data::write_after(scene);
        self.is_gone(scene);
        for host in scene.hosts() {
            host.install(NEW).unwrap();
        }
    }

    /// Asserts that the data are others now.
    #[track_caller]
    pub fn is_gone(&self, scene: &Scene) {
        assert_ne!(data::digest(scene), self.digest);
    }

    /// Restores in this way, and looks whether all is as it was.
    #[track_caller]
    pub fn comes_back(&self, scene: &Scene, how: impl FnOnce(&Scene)) {
        let (began, resets) = (Timestamp::now(), cluster::resets(scene));
        how(scene);
        assert_eq!(cluster::resets(scene), resets + 1, "resets that were begun");
        self.is_there(scene);
        writes::came_from_one_control_plane(scene, began);
    }

    /// Asserts that the data and the versions are those of before on every host that is on, that all of its servers vote
    /// and nobody else, and that nothing is held.
    #[track_caller]
    pub fn is_there(&self, scene: &Scene) {
        assert_eq!(data::keys(scene), self.keys, "keys that are there now, and that were there before");
        assert_eq!(data::digest(scene), self.digest);
        cluster::runs_version(scene, OLD);
        cluster::every_server_votes(scene);
        cluster::nothing_is_held(scene);
    }
}
