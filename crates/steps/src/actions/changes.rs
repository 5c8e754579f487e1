//! Changes through the Kubernetes API, which knows no claims itself: each is preceded by a look at the claim.

use rke2flow_engine::action::{Context, Failure};
use rke2flow_engine::id::HostName;
use serde_json::Value;

use super::World;
use crate::kinds::Meta;
use crate::objects::{Created, Evicted, Objects};

/// Changes objects for one attempt.
///
/// What is changed was read *before* the claim is looked at, and goes by its uid and version: an engine that was
/// frozen anywhere in between and wakes after another one has acted meets its claim or the other one's change.
pub(crate) struct Changes<'a> {
    world: &'a World,
    context: &'a Context,
    objects: Objects,
}

impl<'a> Changes<'a> {
    pub(super) fn new(world: &'a World, context: &'a Context) -> Self {
        Self { world, context, objects: world.objects().clone() }
    }

    /// Through these objects' own API server.
    pub(crate) fn through(self, objects: &Objects) -> Self {
        Self { objects: objects.clone(), ..self }
    }

    /// Through this server's own API server.
    pub(crate) fn of_server(self, server: &HostName) -> Self {
        Self { objects: self.objects.of_server(server), ..self }
    }

    /// See [`Objects::create`].
    pub(crate) async fn create(&self, path: &str, body: Value) -> Result<Created, Failure> {
        self.world.check_claim(self.context).await?;
        self.objects.create(path, body).await
    }

    /// See [`Objects::patch`].
    pub(crate) async fn patch(&self, path: &str, seen: &Meta, change: Value) -> Result<(), Failure> {
        self.world.check_claim(self.context).await?;
        self.objects.patch(path, seen, change).await
    }

    /// See [`Objects::evict`].
    pub(crate) async fn evict(&self, path: &str, seen: &Meta) -> Result<Evicted, Failure> {
        self.world.check_claim(self.context).await?;
        self.objects.evict(path, seen).await
    }

    /// See [`Objects::delete`].
    pub(crate) async fn delete(&self, path: &str, seen: &Meta) -> Result<(), Failure> {
        self.world.check_claim(self.context).await?;
        self.objects.delete(path, seen).await
    }
}
