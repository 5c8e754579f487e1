//! `rke2 agent`: a node without a control plane.

use std::fs;
use std::time::Duration;

use super::http::Client;
use super::join::trusted;
use super::layout::{API_PORT, Layout};
use super::node::Ending;
use super::settings::Settings;
use super::supervisor::{NODE_NAME, NODE_PASSWORD};
use super::token::Token;
use super::{children, log, manifest, password, runtime, server};
use crate::api::authority::Pair;

/// How often a server is asked that does not answer as it should.
const RETRY: Duration = Duration::from_secs(5);
/// How often the list of API servers is asked for.
const REFRESH: Duration = Duration::from_secs(5);
const REQUEST: Duration = Duration::from_secs(10);

/// Runs an agent until its process is told to end.
pub async fn run(version: &str, settings: Settings) -> Result<(), Ending> {
    let layout = Layout::new(settings.data());
    let missing = |what: &str| Ending::Error(format!("--{what} is required"));
    let url = settings.text("server").ok_or_else(|| missing("server"))?;
    let token = Token::parse(&settings.text("token").ok_or_else(|| missing("token"))?).map_err(Ending::Error)?;
    let (node, address) = (settings.node(), settings.address().map_err(Ending::Error)?);
    log::info(format!("Starting {} agent {version}", settings.distribution().name));
    fs::create_dir_all(layout.agent_etc())?;
    let mut servers = Supervisors::new(&layout, &url, settings.distribution().supervisor_port);
    let identity = loop {
        match servers.identity(&token, &node).await {
            Ok(identity) => break identity,
            Err(why) => log::error(format!("Waiting to retrieve agent configuration; server is not ready: {why}")),
        }
        tokio::time::sleep(RETRY).await;
    };
    runtime::stage(&layout, version)?;
    manifest::remove(&layout.pod_manifests(), "kube-proxy")?;
    children::configure(&layout, version, &node, address, false, &identity)?;
    servers.refresh(&token).await;
    let containerd = children::containerd(&layout)?;
    let kubelet = children::kubelet(&layout)?;
    if settings.distribution().static_pods {
        let image = format!("rancher/hardened-kubernetes:{}-build20250814", runtime::tag(version));
        let command = vec!["kube-proxy".to_owned()];
        manifest::write(&layout.pod_manifests(), "kube-proxy", &image, command, std::collections::BTreeMap::new())?;
    }
    log::info(format!("{} agent is up and running", settings.distribution().name));
    server::notify_ready()?;
    let refreshing = async {
        loop {
            tokio::time::sleep(REFRESH).await;
            servers.refresh(&token).await;
        }
    };
    tokio::select! {
        () = refreshing => Ok(()),
        error = children::watch(&layout, containerd, kubelet) => Err(Ending::Shutdown(error.to_string())),
    }
}

/// The servers that an agent knows: the configured one, and those of the last list, which outlives a restart
/// (K3S `pkg/agent/loadbalancer`).
struct Supervisors {
    configured: String,
    port: u16,
    layout: Layout,
}

impl Supervisors {
    fn new(layout: &Layout, url: &str, port: u16) -> Self {
        Self { configured: url.trim_end_matches('/').to_owned(), port, layout: layout.clone() }
    }

    fn known(&self) -> Vec<String> {
        let list = fs::read_to_string(self.layout.api_servers()).unwrap_or_default();
        let hosts = list.lines().filter_map(|line| line.rsplit_once(':')).map(|(host, _)| host);
        let mut known = vec![self.configured.clone()];
        known.extend(hosts.map(|host| format!("https://{host}:{}", self.port)).filter(|url| *url != self.configured));
        known
    }

    async fn client(&self, token: &Token) -> Result<(Client, String), String> {
        let mut why = String::new();
        for url in self.known() {
            match trusted(&url, token, "node").await {
                Ok(client) => return Ok((client, url)),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    async fn identity(&self, token: &Token, node: &str) -> Result<children::Identity, String> {
        let password = password::of_host().map_err(|error| error.to_string())?;
        let (client, url) = self.client(token).await?;
        let authority = client.get(&format!("{url}/cacerts"), REQUEST).await.map_err(|error| error.to_string())?;
        let client = client.with_header(NODE_NAME, node).with_header(NODE_PASSWORD, &password);
        let url = format!("{url}/v1-rke2/client-kubelet.crt");
        let answer = client.get(&url, REQUEST).await.map_err(|error| error.to_string())?;
        match answer.status.as_u16() {
            200 => {
                let node: Pair = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
                Ok(children::Identity { authority: String::from_utf8_lossy(&authority.body).into_owned(), node })
            }
            403 => Err("Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password' may not match server node-passwd entry, try enabling a unique node name with the --with-node-id flag".to_owned()),
            _ => Err(format!("{url}: {}", answer.status)),
        }
    }

    /// Without an answer the last list stays: its servers may be dead (rke2#1656).
    async fn refresh(&mut self, token: &Token) {
        let list = async {
            let (client, url) = self.client(token).await?;
            let answer =
                client.get(&format!("{url}/v1-rke2/apiservers"), REQUEST).await.map_err(|error| error.to_string())?;
            serde_json::from_slice::<Vec<String>>(&answer.body).map_err(|error| error.to_string())
        };
        match list.await {
            Ok(list) if !list.is_empty() => {
                let text: String = list.iter().map(|server| format!("{server}\n")).collect();
                let file = self.layout.api_servers();
                let fresh = file.with_extension("new");
                if let Err(error) = fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, &file)) {
                    log::warn(format!("cannot write {}: {error}", file.display()));
                }
            }
            Ok(_) => {}
            Err(why) => log::warn(format!("Failed to get list of apiserver addresses from server: {why}")),
        }
        if !self.layout.api_servers().exists() {
            let host = self.configured.trim_start_matches("https://").split(':').next().unwrap_or_default().to_owned();
            // Until a list has come, the server's own API is the one that is known.
            let _ = fs::write(self.layout.api_servers(), format!("{host}:{API_PORT}\n"));
        }
    }
}
