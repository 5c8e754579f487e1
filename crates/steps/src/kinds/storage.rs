//! Volumes: what stands for a piece of storage, and where it is attached.

use serde::Deserialize;

use super::{Meta, Pod};

/// A PersistentVolume.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// Its metadata.
    pub metadata: Meta,
    /// What it is.
    pub spec: VolumeSpec,
}

/// What a volume is.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeSpec {
    /// The driver's part; absent for others.
    pub csi: Csi,
    /// What it is bound to.
    pub claim_ref: ClaimRef,
}

/// A driver's volume.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Csi {
    /// `csi.hetzner.cloud`
    pub driver: String,
    /// The driver's own id.
    pub volume_handle: String,
}

/// The claim that a volume is bound to.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct ClaimRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Volume {
    /// The collection.
    pub const ALL: &str = "/api/v1/persistentvolumes";

    /// Its name and its storage: `pvc-1 (csi.hetzner.cloud 4711)`.
    pub fn handle(&self) -> String {
        let Csi { driver, volume_handle } = &self.spec.csi;
        match volume_handle.is_empty() {
            true => self.metadata.name.clone(),
            false => format!("{} ({driver} {volume_handle})", self.metadata.name),
        }
    }

    /// Whether a pod mounts it.
    pub fn is_used_by(&self, pod: &Pod) -> bool {
        let claim = &self.spec.claim_ref;
        let mounts = pod.spec.volumes.iter().any(|volume| volume.persistent_volume_claim.claim_name == claim.name);
        !claim.name.is_empty() && pod.metadata.namespace == claim.namespace && mounts
    }
}

/// A VolumeAttachment.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// Its metadata.
    pub metadata: Meta,
    /// What is attached where.
    pub spec: AttachmentSpec,
}

/// What is attached where.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AttachmentSpec {
    /// The node.
    pub node_name: String,
    /// The volume.
    pub source: AttachmentSource,
}

/// What is attached.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AttachmentSource {
    /// The PersistentVolume's name.
    pub persistent_volume_name: String,
}

impl Attachment {
    /// The collection.
    pub const ALL: &str = "/apis/storage.k8s.io/v1/volumeattachments";
}
