//! Starts everything that a twin serves, and stops it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rke2flow_engine::cluster::{Cluster, Releases, Role};
use russh::keys::PrivateKey;

use super::ServeError;
use super::backend::Backend;
use super::control::Control;
use super::directory::{Directory, KnownHost};
use super::forward::Forward;
use super::http::{HEARTBEAT, HttpServer};
use super::identity::{Identity, secret_word, ssh_key};
use super::kube::{API_PORT, ApiServer};
use super::net::{Tasks, accept, bind};
use super::s3::S3Server;
use super::ssh::SshServer;

/// The user that the twin's key may log in as, unless the backend's cluster names another.
const USER: &str = "root";

/// A twin that is being served. Dropping it stops the servers without waiting for them.
pub struct Running {
    /// The cluster file that an engine reads.
    pub cluster_ron: PathBuf,
    /// An admin kubeconfig for the first server's own port, for `kubectl`.
    pub kubeconfig: PathBuf,
    /// What the cluster file says.
    pub cluster: Cluster,
    /// The control port.
    pub control: SocketAddr,
    directory: Directory,
    tasks: Tasks,
}

impl Running {
    /// Ends when somebody asked for a shutdown, through the control port or [`Running::shutdown`].
    pub async fn stopped(&self) {
        self.tasks.stopped().await;
    }

    /// Stops serving: requests under way have half a second, then every task has ended and `twin.pid` is gone.
    pub async fn shutdown(self) {
        self.tasks.finish().await;
    }

    /// What runs.
    #[cfg(test)]
    pub(super) fn tasks(&self) -> Tasks {
        self.tasks.clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.stop();
        self.directory.release();
    }
}

/// Serves a backend on loopback and writes `dir/cluster.ron` with everything that an engine needs to reach it.
pub async fn up(backend: Arc<dyn Backend>, dir: &Path) -> Result<Running, ServeError> {
    let directory = Directory::claim(dir)?;
    let mut cluster = backend.cluster();
    let identity = Identity::new(&cluster.name)?;
    let tasks = Tasks::default();
    let stage = Stage { backend: &backend, identity: &identity, tasks: &tasks, directory: &directory };
    stage.hosts(&mut cluster).await?;
    stage.store(&mut cluster).await?;
    stage.http(&mut cluster).await?;
    let kubeconfig = stage.kubeconfig(&cluster).await?;
    let control = stage.control().await?;
    let cluster_ron = directory.write_cluster(&cluster)?;
    Ok(Running { cluster_ron, kubeconfig, cluster, control, directory, tasks })
}

/// What is needed to start each kind of server.
struct Stage<'a> {
    backend: &'a Arc<dyn Backend>,
    identity: &'a Identity,
    tasks: &'a Tasks,
    directory: &'a Directory,
}

impl Stage<'_> {
    /// An SSH server per host, at the address that the host has inside the model: Linux has all of 127.0.0.0/8.
    async fn hosts(&self, cluster: &mut Cluster) -> Result<(), ServeError> {
        let client = ssh_key("rke2flow twin")?;
        let mut known = Vec::new();
        for host in &mut cluster.hosts {
            let own = host.address.parse().ok().filter(IpAddr::is_loopback);
            let (listener, address) = bind(own.unwrap_or(Ipv4Addr::LOCALHOST.into())).await?;
            let host_key = ssh_key(host.name.as_str())?;
            known.push(KnownHost { address, key: host_key.public_key().clone() });
            host.address = address.ip().to_string();
            host.ssh.port = Some(address.port());
            if host.role == Role::Server {
                let own = self.identity.kubeconfig(&format!("https://127.0.0.1:{API_PORT}"));
                self.backend.set_kubeconfig(&host.name, own);
            }
            self.ssh_server(&host.name, &client).listen(listener, host_key);
        }
        cluster.ssh.user.get_or_insert_with(|| USER.to_owned());
        cluster.ssh.key = Some(self.directory.write_key(&client)?);
        cluster.ssh.known_hosts = Some(self.directory.write_known_hosts(&known)?);
        Ok(())
    }

    fn ssh_server(&self, host: &rke2flow_engine::id::HostName, client: &PrivateKey) -> SshServer {
        let forward = Forward {
            host: host.clone(),
            backend: self.backend.clone(),
            tls: self.identity.server_config(),
            tasks: self.tasks.clone(),
        };
        SshServer {
            host: host.clone(),
            backend: self.backend.clone(),
            client: client.public_key().clone(),
            forward,
            tasks: self.tasks.clone(),
        }
    }

    /// The object store, when the cluster has one.
    async fn store(&self, cluster: &mut Cluster) -> Result<(), ServeError> {
        let Some(s3) = &mut cluster.s3 else { return Ok(()) };
        let credentials = self.backend.credentials();
        s3.access_key = self.directory.write_secret("s3_access_key", &credentials.access_key)?;
        s3.secret_key = self.directory.write_secret("s3_secret_key", &credentials.secret_key)?;
        let (listener, address) = bind(Ipv4Addr::LOCALHOST.into()).await?;
        s3.endpoint = format!("http://{address}");
        let server = Arc::new(S3Server::new(self.backend.bucket(), credentials));
        let tasks = self.tasks.clone();
        accept(self.tasks, listener, move |stream| server.clone().serve(tasks.clone(), stream));
        Ok(())
    }

    /// Releases and the health URL.
    async fn http(&self, cluster: &mut Cluster) -> Result<(), ServeError> {
        let (listener, address) = bind(Ipv4Addr::LOCALHOST.into()).await?;
        cluster.releases = Releases::Url(format!("http://{address}/releases/{{version}}/{{file}}"));
        cluster.health_urls = vec![format!("http://{address}{HEARTBEAT}")];
        let server = HttpServer { backend: self.backend.clone(), address, tasks: self.tasks.clone() };
        accept(self.tasks, listener, move |stream| server.clone().serve(stream));
        Ok(())
    }

    /// Every server's API on a port of its own, and a kubeconfig for the first.
    async fn kubeconfig(&self, cluster: &Cluster) -> Result<PathBuf, ServeError> {
        let mut first = None;
        for host in cluster.servers() {
            let (listener, address) = bind(Ipv4Addr::LOCALHOST.into()).await?;
            let server = ApiServer {
                host: host.name.clone(),
                backend: self.backend.clone(),
                tls: self.identity.server_config(),
                tasks: self.tasks.clone(),
            };
            accept(self.tasks, listener, move |stream| server.clone().serve(stream));
            first.get_or_insert(address);
        }
        let server = first.map_or_else(|| format!("127.0.0.1:{API_PORT}"), |address| address.to_string());
        self.directory.write_kubeconfig(&self.identity.kubeconfig(&format!("https://{server}")))
    }

    async fn control(&self) -> Result<SocketAddr, ServeError> {
        let (listener, address) = bind(Ipv4Addr::LOCALHOST.into()).await?;
        let token = secret_word::<16>()?;
        self.directory.write_control(address, &token)?;
        let control = Control { backend: self.backend.clone(), token: token.into(), tasks: self.tasks.clone() };
        accept(self.tasks, listener, move |stream| control.clone().serve(stream));
        Ok(address)
    }
}
