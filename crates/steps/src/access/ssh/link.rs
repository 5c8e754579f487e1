//! The connections of one host: one, unless its sshd allows fewer sessions on it than are wanted at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::connection::{self, Connection};
use super::endpoint::Endpoint;
use super::exec::{self, Broken, Ended};
use super::keys::KeyRing;
use super::settings::SshSettings;
use crate::ports::AccessError;

/// How long an sshd may take to count a session as ended that has ended for us.
const SESSION_ENDS: Duration = Duration::from_millis(50);

/// One host's connections.
pub(super) struct Link {
    pub endpoint: Endpoint,
    /// The lock is held while one opens, so that it opens once.
    open: Mutex<Vec<Arc<Connection>>>,
    /// Sessions at once on one connection, as far as is known (MaxSessions).
    sessions: AtomicUsize,
    /// Told when a session has ended.
    freed: Notify,
}

/// Room for one session on a connection.
struct Place<'a> {
    connection: Arc<Connection>,
    room: Option<OwnedSemaphorePermit>,
    freed: &'a Notify,
}

/// What a host's connections need of the shell.
pub(super) struct Opening<'a> {
    pub settings: &'a SshSettings,
    pub ring: &'a KeyRing,
    /// Logins under way over all hosts.
    pub turns: &'a Semaphore,
}

impl Opening<'_> {
    /// A new connection of its own.
    pub(super) async fn open(&self, endpoint: &Endpoint) -> Result<Connection, AccessError> {
        let _turn = self.turns.acquire().await.expect("the semaphore is never closed");
        connection::open(endpoint, self.settings, self.ring).await
    }
}

impl Link {
    pub(super) fn new(endpoint: Endpoint, settings: &SshSettings) -> Self {
        let sessions = AtomicUsize::new(settings.sessions);
        Self { endpoint, open: Mutex::default(), sessions, freed: Notify::new() }
    }

    /// Sends a script on one of the connections, opened again when it was lost before anything was sent.
    pub(super) async fn execute(&self, script: &str, opening: &Opening<'_>) -> Result<Ended, AccessError> {
        let settings = opening.settings;
        let (mut reopened, mut denied) = (false, 0);
        let deadline = Instant::now() + settings.command;
        loop {
            let mut place = self.place(opening, deadline).await?;
            match exec::run(&place.connection, script, settings, deadline).await {
                Ok(ended) => return Ok(ended),
                Err(Broken::Before(why)) if !reopened => {
                    tracing::debug!(host = %self.endpoint.name, why, "opening the connection again");
                    self.forget(&place.connection).await;
                    reopened = true;
                }
                Err(Broken::Denied(why)) if denied < settings.sessions => {
                    denied += 1;
                    self.denied(&mut place, why).await?;
                }
                Err(broken) => {
                    if broken.lost() {
                        self.forget(&place.connection).await;
                    }
                    return Err(broken.during(&self.endpoint));
                }
            }
        }
    }

    /// The host key of an open connection.
    pub(super) async fn host_key(&self, opening: &Opening<'_>) -> Result<String, AccessError> {
        let deadline = Instant::now() + opening.settings.command;
        Ok(self.place(opening, deadline).await?.connection.host_key.clone())
    }

    async fn place<'a>(&'a self, opening: &Opening<'_>, deadline: Instant) -> Result<Place<'a>, AccessError> {
        loop {
            // Before looking, so that a place that is freed in between is not missed.
            let freed = self.freed.notified();
            if let Some(place) = self.try_place(opening).await? {
                return Ok(place);
            }
            let late = || "other commands are still under way there".to_owned();
            let waited = tokio::time::timeout_at(deadline, freed).await;
            waited.map_err(|_| Broken::Denied(late()).during(&self.endpoint))?;
        }
    }

    async fn try_place(&self, opening: &Opening<'_>) -> Result<Option<Place<'_>>, AccessError> {
        let mut open = self.open.lock().await;
        open.retain(|connection| !connection.is_closed());
        for connection in open.iter() {
            if let Ok(room) = connection.sessions.clone().try_acquire_owned() {
                return Ok(Some(Place { connection: connection.clone(), room: Some(room), freed: &self.freed }));
            }
        }
        let more = self.sessions.load(Ordering::Relaxed) < opening.settings.sessions
            && open.len() < opening.settings.connections;
        if !open.is_empty() && !more {
            return Ok(None);
        }
        let connection = opening.open(&self.endpoint).await?;
        // Read now: what was refused elsewhere while this one opened counts here too.
        let connection = Arc::new(connection.with_room_for(self.sessions.load(Ordering::Relaxed)));
        open.push(connection.clone());
        let room = connection.sessions.clone().try_acquire_owned().expect("a new connection has room");
        Ok(Some(Place { connection, room: Some(room), freed: &self.freed }))
    }

    /// sshd refused a session: the connection carries what it carries now, and no more.
    async fn denied(&self, place: &mut Place<'_>, why: String) -> Result<(), AccessError> {
        let connection = &place.connection;
        if !connection.served.load(Ordering::Relaxed) {
            return Err(self
                .endpoint
                .refused(format!("it allows no sessions (`MaxSessions` of its sshd_config): {why}")));
        }
        let free = connection.sessions.forget_permits(Semaphore::MAX_PERMITS);
        place.room.take().map(OwnedSemaphorePermit::forget).unwrap_or_default();
        let carried = connection.capacity.fetch_sub(free + 1, Ordering::Relaxed).saturating_sub(free + 1);
        self.sessions.fetch_min(carried.max(1), Ordering::Relaxed);
        tracing::debug!(host = %self.endpoint.name, carried, "its sshd allows no further session on this connection");
        if carried == 0 {
            // The one before has ended here and not yet there.
            tokio::time::sleep(SESSION_ENDS).await;
            connection.capacity.store(1, Ordering::Relaxed);
            connection.sessions.add_permits(1);
        }
        Ok(())
    }

    async fn forget(&self, broken: &Arc<Connection>) {
        self.open.lock().await.retain(|connection| !Arc::ptr_eq(connection, broken));
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        drop(self.room.take());
        self.freed.notify_waiters();
    }
}
