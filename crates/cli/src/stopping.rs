//! Ctrl-C and SIGTERM: the first one lets attempts end, the second one stops waiting for them.

use rke2flow_engine::run::Stop;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::screen::Screen;

/// Listens from now on. Dropping what is returned second ends the listening.
pub fn listen(screen: Screen) -> std::io::Result<(watch::Receiver<Stop>, Listening)> {
    let (stop, stopped) = watch::channel(Stop::Run);
    let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let task = tokio::spawn(pass_on(interrupt, terminate, stop, screen));
    Ok((stopped, Listening(task)))
}

/// Keeps listening while it lives.
pub struct Listening(tokio::task::JoinHandle<()>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn pass_on(mut interrupt: Signal, mut terminate: Signal, stop: watch::Sender<Stop>, screen: Screen) {
    for (level, words) in [
        (Stop::Drain, "stopping: nothing new is started, what runs may end; once more to stop waiting for it"),
        (Stop::Now, "stopping now: changes on hosts go on by themselves"),
    ] {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        screen.say(words);
        if stop.send(level).is_err() {
            return;
        }
    }
    // A third signal changes nothing; the sender must live as long as the engine listens.
    std::future::pending::<()>().await;
    drop(stop);
}
