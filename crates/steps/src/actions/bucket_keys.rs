//! Where snapshots and recovery points are in the bucket, and requests for them that hosts may send.

use rke2flow_engine::action::Failure;

use crate::actions::World;
use crate::ports::{Bucket, ObjectInfo};
use crate::transfer::{Grant, Presigned};

/// [`crate::distribution::Traits::upload_mark`] of the cluster.
pub(crate) const CLUSTER_ID: &str = "cluster-id";
/// The same: the node that took the snapshot.
pub(crate) const NODE_NAME: &str = "node-name";
/// The same: [`crate::token::token_hash`] of the token that it was taken under.
pub(crate) const TOKEN_HASH: &str = "token-hash";

/// The bucket with the folder of its snapshots; `None` when the cluster file has none.
pub(crate) struct Folder<'a> {
    bucket: &'a dyn Bucket,
    folder: &'a str,
}

impl<'a> Folder<'a> {
    /// The one of the cluster file.
    pub fn of(world: &'a World) -> Option<Self> {
        let s3 = world.cluster().s3.as_ref()?;
        Some(Self { bucket: world.bucket()?, folder: s3.folder.trim_matches('/') })
    }

    /// The bucket.
    pub fn bucket(&self) -> &'a dyn Bucket {
        self.bucket
    }

    /// The key of a snapshot file. Always the whole name: RKE2 takes the folder as a beginning of keys, by which `prod`
    /// has everything of `prod-eu` too.
    pub fn snapshot(&self, file: &str) -> String {
        match self.folder {
            "" => file.to_owned(),
            folder => format!("{folder}/{file}"),
        }
    }

    /// The key of a recovery point. It is in the directory that RKE2 keeps metadata in, so that it is not taken for a
    /// snapshot (K3S pkg/etcd/s3/s3.go).
    pub fn point(&self, id: &str) -> String {
        format!("{}.json", self.snapshot(&format!(".metadata/rke2flow-{id}")))
    }

    /// What the keys of all recovery points begin with.
    pub fn points(&self) -> String {
        self.snapshot(".metadata/rke2flow-")
    }

    /// The snapshot as the bucket has it.
    pub async fn head(&self, file: &str) -> Result<Option<ObjectInfo>, Failure> {
        Ok(self.bucket.head(&self.snapshot(file)).await?)
    }

    /// A request that a host may send. What makes it a credential is shown in no text from now on.
    pub async fn presign(&self, world: &World, key: &str, grant: &Grant) -> Result<Presigned, Failure> {
        let request = self.bucket.presign(key, grant).await?;
        if let Some(signature) = request.signature() {
            world.access().redactor.learn(signature);
        }
        Ok(request)
    }
}
