//! What guards look at: webhooks and who answers them, Longhorn's volumes.

use serde::Deserialize;

use super::Meta;

/// A ValidatingWebhookConfiguration or a MutatingWebhookConfiguration.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct WebhookConfiguration {
    /// Its metadata.
    pub metadata: Meta,
    /// Its webhooks.
    pub webhooks: Vec<Webhook>,
}

/// One webhook.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Webhook {
    /// Its name.
    pub name: String,
    /// `Fail`, which an absent one means too, or `Ignore`.
    pub failure_policy: Option<String>,
    /// Who is asked.
    pub client_config: WebhookClient,
}

/// Whom a webhook asks.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct WebhookClient {
    /// A Service; absent for a URL.
    pub service: Option<ServiceRef>,
}

/// A Service by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct ServiceRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl WebhookConfiguration {
    /// Those that may refuse.
    pub const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    /// Those that may change.
    pub const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
}

impl Webhook {
    /// Whether a request fails when nobody answers.
    pub fn can_block(&self) -> bool {
        self.failure_policy.as_deref() != Some("Ignore")
    }
}

/// Some of the endpoints of a Service.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct EndpointSlice {
    /// Its metadata.
    pub metadata: Meta,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    /// What is known of it.
    pub conditions: EndpointConditions,
}

/// What is known of an endpoint.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct EndpointConditions {
    /// Whether it serves; absent means that it does (Kubernetes API, discovery/v1).
    pub ready: Option<bool>,
}

impl EndpointSlice {
    /// The label with the Service's name.
    pub const SERVICE: &str = "kubernetes.io/service-name";

    /// Path of the slices of a Service.
    pub fn of(service: &ServiceRef) -> String {
        let ServiceRef { namespace, name } = service;
        format!(
            "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?labelSelector={}%3D{name}",
            Self::SERVICE.replace('/', "%2F")
        )
    }

    /// Whether somebody behind it serves.
    pub fn serves(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.conditions.ready != Some(false))
    }
}

/// A volume of Longhorn.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct LonghornVolume {
    /// Its metadata.
    pub metadata: Meta,
    /// What is.
    pub status: LonghornVolumeStatus,
}

/// What a volume of Longhorn is.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct LonghornVolumeStatus {
    /// `attached`, `detached`, …
    pub state: String,
    /// `healthy`, `degraded`, `faulted`, `unknown`.
    pub robustness: String,
}

impl LonghornVolume {
    /// Those of every namespace.
    pub const ALL: &str = "/apis/longhorn.io/v1beta2/volumes";

    /// Whether a node that restarts may take its last good copy: `None`, or how it stands. A detached one is `unknown`.
    pub fn ill(&self) -> Option<String> {
        let LonghornVolumeStatus { state, robustness } = &self.status;
        let ill = match robustness.as_str() {
            "degraded" | "faulted" => true,
            "unknown" => state == "attached",
            _ => false,
        };
        ill.then(|| format!("{robustness}, {state}"))
    }
}
