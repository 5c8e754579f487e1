//! The lab's S3 endpoint: a process with an address and a cable of its own, that keeps its objects in memory.
//!
//! It is the twin's: real HTTP, path style, signatures checked.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rke2flow_engine::cluster::{S3, Secret};
use rke2flow_twin::serve::identity::secret_word;
pub use rke2flow_twin::serve::s3::Credentials;
use rke2flow_twin::serve::s3::S3Server;

use super::error::{LabError, file};
use super::lab::Lab;
use super::{boot, network, program};

/// Its cable's name on the switch, and its name in the hosts' `/etc/hosts`.
pub const PORT_NAME: &str = "s3";
/// The bucket that there is.
pub const BUCKET: &str = "etcd-snapshots";
/// The folder of the lab's cluster in it.
pub const FOLDER: &str = "lab";
/// The region that everybody names.
pub const REGION: &str = "us-east-1";

const PORT: u16 = 9000;
const ACCESS_KEY: &str = "s3_access_key";
const SECRET_KEY: &str = "s3_secret_key";
const READER: [&str; 2] = ["s3_reader_access_key", "s3_reader_secret_key"];
const START_DEADLINE: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(10);

/// `10.77.0.2:9000`
pub fn endpoint(lab: &Lab) -> String {
    format!("{}:{PORT}", lab.subnet().s3())
}

/// The account that everybody has.
pub fn credentials(lab: &Lab) -> Result<Credentials, LabError> {
    account(lab.dir(), [ACCESS_KEY, SECRET_KEY])
}

/// An account that may look into the bucket and change nothing.
pub fn reader(lab: &Lab) -> Result<Credentials, LabError> {
    account(lab.dir(), READER)
}

fn account(directory: &Path, [access_key, secret_key]: [&str; 2]) -> Result<Credentials, LabError> {
    let read = |name: &str| {
        let path = directory.join(name);
        fs::read_to_string(&path).map(|text| text.trim_end().to_owned()).map_err(file("read", &path))
    };
    Ok(Credentials { access_key: read(access_key)?, secret_key: read(secret_key)? })
}

/// As the cluster file has it.
pub fn in_cluster_file(lab: &Lab) -> S3 {
    S3 {
        endpoint: format!("http://{}", endpoint(lab)),
        region: REGION.to_owned(),
        bucket: BUCKET.to_owned(),
        folder: FOLDER.to_owned(),
        access_key: Secret::File(lab.dir().join(ACCESS_KEY)),
        secret_key: Secret::File(lab.dir().join(SECRET_KEY)),
        ca: None,
    }
}

/// What the process does: serves until it is killed. The accounts are in the lab's directory.
pub async fn serve(listen: SocketAddr, directory: &Path) -> Result<(), LabError> {
    let (account, reader) = (account(directory, [ACCESS_KEY, SECRET_KEY])?, account(directory, READER)?);
    let listener = tokio::net::TcpListener::bind(listen).await.map_err(file("listen on", &address(listen)))?;
    S3Server::alone(BUCKET, account).with_reader(reader).listen(listener).await;
    Ok(())
}

/// Starts the process, and returns when it listens.
pub(super) fn start(lab: &Lab) -> Result<(), LabError> {
    let secret = |error: rke2flow_twin::serve::ServeError| LabError::Secret(error.to_string());
    for [access_key, secret_key] in [[ACCESS_KEY, SECRET_KEY], READER] {
        write_secret(&lab.dir().join(access_key), &secret_word::<10>().map_err(secret)?)?;
        write_secret(&lab.dir().join(secret_key), &secret_word::<20>().map_err(secret)?)?;
    }
    network::make_host(&lab.spec().name, PORT_NAME, &lab.subnet().s3())?;
    let cgroup = lab.cgroup().child(PORT_NAME);
    cgroup.make().map_err(file("make the cgroup", cgroup.path()))?;
    let log = lab.dir().join("s3.log");
    let arguments = ["s3".into(), endpoint(lab).into(), lab.dir().to_owned()];
    let namespace = network::namespace(&lab.spec().name, PORT_NAME);
    boot::start_in(&namespace, &cgroup, &program::find("rke2flow-lab")?, &arguments, &log)
        .map_err(file("start the S3 endpoint, log", &log))?;
    await_listening(lab, &log)
}

fn await_listening(lab: &Lab, log: &Path) -> Result<(), LabError> {
    let address: SocketAddr = endpoint(lab).parse().map_err(|_| LabError::NoSubnet)?;
    let until = Instant::now() + START_DEADLINE;
    while std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
        if Instant::now() >= until {
            let seen = format!("\n{}", fs::read_to_string(log).unwrap_or_default());
            let what = format!("the S3 endpoint to listen on {address}");
            return Err(LabError::Waited { what, seconds: START_DEADLINE.as_secs(), seen });
        }
        std::thread::sleep(TICK);
    }
    Ok(())
}

/// Writes a secret for nobody but its owner.
pub(super) fn write_secret(path: &Path, secret: &str) -> Result<(), LabError> {
    let mut options = fs::OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    let written =
        opened.and_then(|mut opened| std::io::Write::write_all(&mut opened, format!("{secret}\n").as_bytes()));
    written.map_err(file("write", path))
}

fn address(listen: SocketAddr) -> PathBuf {
    PathBuf::from(listen.to_string())
}
