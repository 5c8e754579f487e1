//! ServerToken: the server is configured with the cluster's token.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, World, host_of, info};
use crate::command::{Change, HandedToken};

/// Goal: the server is configured with the cluster's token: it can read the snapshot, and it can join.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerToken {}

#[async_trait]
impl Goal for ServerToken {
    const INFO: ActionInfo = info("ServerToken", "the server is configured with the cluster's token", Place::Host, 2);

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let (path, wanted) = (world.access().paths.token_drop_in(), token(world)?.sha256());
        let files = world.hosts().files(host_of(context)?, vec![path.clone()]).await?;
        match files.iter().find(|file| file.path == path) {
            Some(file) if file.sha256 == wanted => Ok(Probe::satisfied()),
            Some(_) => Ok(Probe::pending("the drop-in has another token")),
            None => Ok(Probe::pending("there is no drop-in for the token")),
        }
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        world.order(context, Change::WriteToken { token: token(world)? }).await
    }
}

fn token(world: &World) -> Result<HandedToken, Failure> {
    let token = world.access().token.as_ref();
    let missing = || Failure::permanent("the cluster file has no `token`");
    token.map(|token| HandedToken::new(token.expose_secret())).ok_or_else(missing)
}
