//! Where things are on the operator's machine: the state directory, the cluster file, who is typing.

use std::env;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

use crate::args::Global;
use crate::exit::Problem;

/// The directory that has `runs/`.
pub fn state_dir(global: &Global) -> Result<PathBuf, Problem> {
    if let Some(directory) = &global.state_dir {
        return std::path::absolute(directory).map_err(|error| {
            Problem::bad_input(format!("cannot use the state directory {}", directory.display())).observed(error)
        });
    }
    let strategy = etcetera::base_strategy::Xdg::new().map_err(|error| {
        Problem::bad_input("cannot find a state directory").observed(error).next("rke2flow --state-dir DIR …")
    })?;
    let state = strategy.state_dir().expect("XDG always has a state directory");
    Ok(state.join("rke2flow"))
}

/// The cluster file: `--cluster`, then `./cluster.ron`, then `$RKE2FLOW_CLUSTER`.
pub fn cluster_path(global: &Global) -> Result<PathBuf, Problem> {
    if let Some(path) = &global.cluster {
        return Ok(path.clone());
    }
    let here = Path::new("cluster.ron");
    if here.exists() {
        return Ok(here.to_owned());
    }
    match env::var_os("RKE2FLOW_CLUSTER").filter(|value| !value.is_empty()) {
        Some(path) => Ok(PathBuf::from(path)),
        None => Err(Problem::bad_input("there is no cluster file")
            .observed("neither --cluster nor ./cluster.ron nor $RKE2FLOW_CLUSTER")
            .next("rke2flow --cluster FILE …\nrke2flow rehearse upgrade   (needs no cluster)")),
    }
}

/// Who is typing: `alice@laptop`.
pub fn who() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| env::var(name).ok().filter(|v| !v.is_empty()));
    let user = user.unwrap_or_else(|| format!("uid{}", rustix::process::getuid().as_raw()));
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let machine = if machine.trim().is_empty() { "localhost" } else { machine.trim() };
    format!("{user}@{machine}")
}
