//! RKE2 on the hosts, as a person would put it there: configuration, installer, units.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rke2flow_steps::distribution::Traits;
use rke2flow_twin::serve::identity::secret_word;

use super::cluster_file::RELEASES;
use super::command::must;
use super::error::{LabError, file};
use super::lab::Lab;
use super::spec::Role;
use super::{Host, program, s3};
use crate::standin::{flavor, release};

/// The stand-in's name in the directory that the hosts share.
const STAND_IN: &str = "lab-rke2";
const TOKEN: &str = "token";
const STRIP_DEADLINE: Duration = Duration::from_secs(60);
const INSTALL_DEADLINE: Duration = Duration::from_secs(120);
/// How long one host's RKE2 may take to start, or to join: joiners wait for each other to be promoted.
const START_DEADLINE: Duration = Duration::from_secs(180);
const TICK: Duration = Duration::from_millis(200);

impl Lab {
    /// Offers another release to the hosts, under `/srv/lab/releases`.
    pub fn add_release(&self, version: &str) -> Result<(), LabError> {
        let releases = self.shared().join("releases");
        fs::create_dir_all(&releases).map_err(file("make", &releases))?;
        release::write(&releases, version).map_err(file("write the release to", &releases.join(version)))
    }

    /// The server token.
    pub fn token(&self) -> Result<String, LabError> {
        let path = self.dir().join(TOKEN);
        Ok(fs::read_to_string(&path).map_err(file("read", &path))?.trim_end().to_owned())
    }

    /// The stand-in and the first release, where the hosts see them.
    pub(super) fn share_rke2(&self) -> Result<(), LabError> {
        let (built, bin) = (program::find(STAND_IN)?, self.shared().join("bin"));
        fs::create_dir_all(&bin).map_err(file("make", &bin))?;
        copy_stripped(&built, &bin.join(STAND_IN))?;
        let token = secret_word::<16>().map_err(|error| LabError::Secret(error.to_string()))?;
        s3::write_secret(&self.dir().join(TOKEN), &token)?;
        self.add_release(&self.spec().version)
    }

    /// Configures and installs RKE2 on every host.
    pub(super) fn install_rke2(&self) -> Result<(), LabError> {
        self.hosts().iter().try_for_each(|host| {
            host.configure()?;
            host.install(&self.spec().version)
        })
    }

    /// Starts RKE2 everywhere: the init server first, then the others together.
    pub fn start_rke2(&self) -> Result<(), LabError> {
        let (init, others): (Vec<_>, Vec<_>) =
            self.hosts().into_iter().partition(|host| host.name() == self.spec().init);
        for together in [init, others] {
            for host in &together {
                host.start_unit()?;
            }
            for host in &together {
                host.await_active(START_DEADLINE)?;
            }
        }
        Ok(())
    }
}

impl Host<'_> {
    /// `rke2-server` or `rke2-agent`.
    pub fn unit(&self) -> &'static str {
        match self.role {
            Role::Server => self.distribution().server_unit,
            Role::Agent => self.distribution().agent_unit,
        }
    }

    /// What its distribution is.
    pub fn distribution(&self) -> &'static Traits {
        flavor::traits(&self.lab.spec().version)
    }

    /// Writes its `/etc/rancher/rke2/config.yaml`, or that of K3s.
    pub fn configure(&self) -> Result<(), LabError> {
        let (config, place) = (self.config()?, format!("/etc/rancher/{}", self.distribution().name));
        let script = format!("umask 077; mkdir -p {place}; cat >{place}/config.yaml");
        self.must_within(&script, config.as_bytes(), INSTALL_DEADLINE).map(drop)
    }

    /// Installs a release that the lab offers. Nothing is enabled or started.
    pub fn install(&self, version: &str) -> Result<(), LabError> {
        let (release, kind) =
            (format!("{RELEASES}/{version}"), if self.role == Role::Server { "server" } else { "agent" });
        let script = match self.distribution().bare_binary {
            false => {
                format!("INSTALL_RKE2_ARTIFACT_PATH={release} INSTALL_RKE2_TYPE={kind} sh {release}/install.sh")
            }
            true => format!(
                "install -m 755 {release}/k3s /usr/local/bin/k3s && \
                 INSTALL_K3S_SKIP_DOWNLOAD=true INSTALL_K3S_SKIP_ENABLE=true INSTALL_K3S_EXEC={kind} \
                 sh {release}/install.sh && systemctl daemon-reload"
            ),
        };
        self.must_within(&script, b"", INSTALL_DEADLINE).map(drop)
    }

    /// Enables its unit and starts it without waiting.
    pub fn start_unit(&self) -> Result<(), LabError> {
        let unit = self.unit();
        self.must(&format!("systemctl enable --quiet {unit} && systemctl start --no-block {unit}")).map(drop)
    }

    /// Waits until its unit is active.
    pub fn await_active(&self, deadline: Duration) -> Result<(), LabError> {
        let until = Instant::now() + deadline;
        loop {
            let asked = self.exec(&format!("systemctl is-active {}", self.unit()))?;
            if asked.success() {
                return Ok(());
            }
            if Instant::now() >= until {
                let what = format!("{} of {} to be active", self.unit(), self.name);
                let seen = format!(", which is {}{}", asked.stdout.trim_end(), self.tail());
                return Err(LabError::Waited { what, seconds: deadline.as_secs(), seen });
            }
            std::thread::sleep(TICK);
        }
    }

    fn config(&self) -> Result<String, LabError> {
        let (lab, address) = (self.lab, self.address()?);
        let mut config = format!("token: {}\nnode-name: {}\nnode-ip: {address}\n", lab.token()?, self.name);
        if self.name != lab.spec().init {
            let port = self.distribution().supervisor_port;
            config.push_str(&format!("server: https://{}:{port}\n", lab.address(&lab.spec().init)?));
        } else if !self.distribution().static_pods {
            // Without it a first server of K3s keeps the cluster in SQLite.
            config.push_str("cluster-init: true\n");
        }
        if self.role == Role::Agent {
            return Ok(config);
        }
        let s3::Credentials { access_key, secret_key } = s3::credentials(lab)?;
        let (endpoint, bucket, folder, region) = (s3::endpoint(lab), s3::BUCKET, s3::FOLDER, s3::REGION);
        Ok(config
            + &format!(
                "tls-san:\n  - {}.lab.internal\nwrite-kubeconfig-mode: \"0600\"\n\
                 etcd-s3: true\netcd-s3-endpoint: {endpoint}\netcd-s3-insecure: true\netcd-s3-region: {region}\n\
                 etcd-s3-bucket: {bucket}\netcd-s3-folder: {folder}\netcd-s3-bucket-lookup-type: path\n\
                 etcd-s3-access-key: {access_key}\netcd-s3-secret-key: {secret_key}\n",
                lab.spec().name
            ))
    }
}

/// A third of the size, which is memory here. Without `strip` the whole is copied.
fn copy_stripped(built: &Path, place: &Path) -> Result<(), LabError> {
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(place).arg(built);
    if must(&mut strip, b"", STRIP_DEADLINE).is_err() {
        fs::copy(built, place).map_err(file("copy", built))?;
    }
    Ok(())
}
