//! Which server's controllers work: who renews the Lease kube-system/kube-controller-manager.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::api::client::{ApiError, Client};
use crate::api::objects::{micro_stamp, suffix};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
const NAME: &str = "kube-controller-manager";
/// A leader that was silent for so long has lost (client-go's default `LeaseDuration`).
const LASTS: Duration = Duration::from_secs(15);
/// How often a leader renews (its default `RetryPeriod`).
const RENEW: Duration = Duration::from_secs(2);

/// One server's claim to lead.
pub struct Leader {
    identity: String,
    /// The lease as it was last seen changing, by this server's own clock: other clocks are not trusted.
    seen: Option<(Value, Instant)>,
    renewed: Option<Instant>,
}

impl Leader {
    /// Of a process that has just begun, and leads nothing yet.
    pub fn new(node: &str) -> Self {
        Self { identity: format!("{node}_{}", suffix()), seen: None, renewed: None }
    }

    /// Whether this server leads now; renews when it is time.
    pub async fn leads(&mut self, client: &Client) -> Result<bool, ApiError> {
        if self.renewed.is_some_and(|at| at.elapsed() < RENEW) {
            return Ok(true);
        }
        let path = format!("{LEASES}/{NAME}");
        let Some(mut lease) = client.get(&path).await? else {
            let lease = json!({"metadata": {"name": NAME}, "spec": self.spec(0)});
            client.create(LEASES, &lease).await?;
            self.renewed = Some(Instant::now());
            return Ok(true);
        };
        let ours = lease["spec"]["holderIdentity"] == self.identity.as_str();
        if !ours && !self.is_over(&lease["spec"]) {
            self.renewed = None;
            return Ok(false);
        }
        let transitions = lease["spec"]["leaseTransitions"].as_u64().unwrap_or(0) + u64::from(!ours);
        lease["spec"] = self.spec(transitions);
        self.renewed = None;
        client.replace(&path, &lease).await?;
        self.renewed = Some(Instant::now());
        Ok(true)
    }

    fn is_over(&mut self, spec: &Value) -> bool {
        match &self.seen {
            Some((seen, at)) if seen == spec => at.elapsed() > LASTS,
            _ => {
                self.seen = Some((spec.clone(), Instant::now()));
                false
            }
        }
    }

    fn spec(&self, transitions: u64) -> Value {
        json!({
            "holderIdentity": self.identity, "leaseDurationSeconds": LASTS.as_secs(), "leaseTransitions": transitions,
            "renewTime": micro_stamp(),
        })
    }
}
