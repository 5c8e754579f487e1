//! The control plane of K3s: inside of the unit's own process there, children here that end with it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::process::{Child, Command};

use super::container::IMAGE_VARIABLE;
use super::log;

/// Set for a process that is a part of another one: it ends with it.
pub const PART_VARIABLE: &str = "LAB_PART";
/// How often the parts are looked at.
const LOOK: Duration = Duration::from_millis(200);

/// The parts that run.
#[derive(Debug, Default)]
pub struct Embedded {
    parts: Mutex<BTreeMap<String, Child>>,
}

impl Embedded {
    /// Starts a part, or leaves it alone when it runs.
    pub fn start(&self, logs: &Path, component: &str, image: &str, command: &[String]) -> io::Result<()> {
        let mut parts = self.parts();
        if parts.contains_key(component) {
            return Ok(());
        }
        fs::create_dir_all(logs)?;
        let file = logs.join(format!("{component}.log"));
        let output = fs::OpenOptions::new().create(true).append(true).open(file)?;
        log::info(format!("Running {}", command.join(" ")));
        let child = Command::new(std::env::current_exe()?)
            .arg0(component)
            .args(command.iter().skip(1))
            .env(IMAGE_VARIABLE, image)
            .env(PART_VARIABLE, component)
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()?;
        parts.insert(component.to_owned(), child);
        Ok(())
    }

    /// Waits for a part to end: the process ends with each of them.
    pub async fn watch(&self) -> String {
        loop {
            for (component, child) in self.parts().iter_mut() {
                if let Ok(Some(status)) = child.try_wait() {
                    return format!("{component} exited: {status}");
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn parts(&self) -> MutexGuard<'_, BTreeMap<String, Child>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
