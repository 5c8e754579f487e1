//! A Kubernetes client whose connections run through SSH to a server's own 127.0.0.1, its certificate checked.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::kube::client::{Body, ConfigExt};
use ::kube::{Client, Config};
use http::Uri;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rke2flow_engine::id::HostName;
use tower::{BoxError, Service, ServiceBuilder};

use super::{CONNECT, REQUESTS_AT_ONCE};
use crate::access::ssh::{SshShell, Tunnel};
use crate::ports::AccessError;

/// Where the API server listens when the kubeconfig names another machine.
const API_PORT: u16 = 6443;
const LOOPBACK: &str = "127.0.0.1";

/// A client for `server`'s own API server.
pub(super) fn client(mut config: Config, shell: Arc<SshShell>, server: HostName) -> Result<Client, ::kube::Error> {
    config.cluster_url = loopback(&config.cluster_url);
    let connector = config.rustls_https_connector_with_connector(Connector { shell, server })?;
    let http: legacy::Client<_, Body> =
        legacy::Client::builder(TokioExecutor::new()).pool_max_idle_per_host(REQUESTS_AT_ONCE).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}

/// Somebody may have put a load balancer into the node's kubeconfig: it is that node that is asked here.
fn loopback(url: &Uri) -> Uri {
    let is_loopback = url.host().is_some_and(|host| matches!(host, LOOPBACK | "localhost" | "[::1]"));
    let port = if is_loopback { url.port_u16().unwrap_or(API_PORT) } else { API_PORT };
    format!("https://{LOOPBACK}:{port}").parse().expect("an address and a port are a URL")
}

#[derive(Clone)]
struct Connector {
    shell: Arc<SshShell>,
    server: HostName,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Tunnel>;
    type Error = AccessError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, AccessError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), AccessError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { shell, server } = self.clone();
        let port = uri.port_u16().unwrap_or(API_PORT);
        Box::pin(async move {
            let opening = shell.open_tunnel(&server, LOOPBACK, port);
            match tokio::time::timeout(CONNECT, opening).await {
                Ok(tunnel) => tunnel.map(TokioIo::new),
                Err(_) => Err(AccessError::Unreachable {
                    whom: server.to_string(),
                    why: format!("no tunnel to {LOOPBACK}:{port} within {} s", CONNECT.as_secs()),
                }),
            }
        })
    }
}

impl Connection for Tunnel {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_that_names_a_load_balancer_still_leads_to_the_node_itself() {
        let leads_to = |url: &str| loopback(&url.parse().unwrap()).to_string();
        assert_eq!(leads_to("https://127.0.0.1:6443"), "https://127.0.0.1:6443/");
        assert_eq!(leads_to("https://127.0.0.1:7443"), "https://127.0.0.1:7443/");
        assert_eq!(leads_to("https://lb.example.com:443"), "https://127.0.0.1:6443/");
    }
}
