//! The one clock that every wait goes through: polls, settling, steadiness, backoff, deadlines.
//!
//! A rehearsal runs `speed` times faster than life: waits are divided by it, and elapsed time is multiplied back, so
//! that what people read is always in the cluster's own time.

use std::time::Duration;

use jiff::Timestamp;

/// Time as a run sees it.
#[derive(Debug, Clone)]
pub struct Clock {
    speed: u32,
    started: tokio::time::Instant,
    wall: Timestamp,
}

impl Clock {
    /// A clock at the speed of life.
    pub fn real() -> Self {
        Self::with_speed(1)
    }

    /// A clock that runs `speed` times faster than life, for rehearsals; 0 is taken as 1.
    pub fn with_speed(speed: u32) -> Self {
        Self { speed: speed.max(1), started: tokio::time::Instant::now(), wall: Timestamp::now() }
    }

    /// How many times faster than life.
    pub fn speed(&self) -> u32 {
        self.speed
    }

    /// Cluster time since this clock was made. Follows tokio's paused time in tests.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed() * self.speed
    }

    /// The wall clock now. Derived from the monotonic clock and the wall time at the start, not multiplied:
    /// what is written down as a date is a real date.
    pub fn now(&self) -> Timestamp {
        let since = jiff::SignedDuration::try_from(self.started.elapsed()).unwrap_or(jiff::SignedDuration::MAX);
        self.wall.checked_add(since).unwrap_or(Timestamp::MAX)
    }

    /// Waits for a cluster-time duration.
    pub async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration / self.speed).await;
    }

    /// Runs `future` for at most a cluster-time duration; `None` when it did not end in time.
    pub async fn timeout<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        tokio::time::timeout(limit / self.speed, future).await.ok()
    }

    /// The moment a cluster-time duration from now, for `tokio::time::sleep_until`.
    pub fn deadline(&self, duration: Duration) -> tokio::time::Instant {
        tokio::time::Instant::now() + duration / self.speed
    }

    /// The cluster time that is left until a deadline; zero when it has passed.
    pub fn left_until(&self, deadline: tokio::time::Instant) -> Duration {
        deadline.saturating_duration_since(tokio::time::Instant::now()) * self.speed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rehearsal_waits_a_fraction_and_reports_the_whole() {
        let clock = Clock::with_speed(50);
        let before = tokio::time::Instant::now();
        clock.sleep(Duration::from_secs(100)).await;
        assert_eq!(before.elapsed(), Duration::from_secs(2));
        assert_eq!(clock.elapsed(), Duration::from_secs(100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_passes() {
        let clock = Clock::real();
        assert_eq!(clock.timeout(Duration::from_secs(5), std::future::pending::<()>()).await, None);
    }
}
