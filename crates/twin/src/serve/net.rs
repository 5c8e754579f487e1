//! Sockets: accept loops with a limit, HTTP/1.1 on any stream, and closing what a host that went down held open.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use rke2flow_engine::id::HostName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ServeError;
use super::backend::Backend;

/// Connections that one listener serves at a time; further ones wait in the kernel's backlog.
pub const CONNECTIONS: usize = 128;

/// How often a connection asks whether its host still listens.
const DOWN_CHECK: Duration = Duration::from_millis(25);

/// A client that has not sent a request's head after this is dropped.
const HEADER_DEADLINE: Duration = Duration::from_secs(30);

/// How long requests under way may go on after a shutdown was asked for.
pub const GRACE: Duration = Duration::from_millis(500);

/// The tasks of everything that is served, and the word to stop.
#[derive(Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Runs a task that ends by itself, or is cut off [`GRACE`] after the word to stop.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            let stopped = async {
                stop.cancelled().await;
                tokio::time::sleep(GRACE).await;
            };
            tokio::select! { () = task => {}, () = stopped => {} }
        });
    }

    /// Gives the word to stop.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Ends when the word to stop was given.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Gives the word to stop and waits for every task.
    pub async fn finish(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Tasks that have not ended.
    pub fn alive(&self) -> usize {
        self.tracker.len()
    }
}

/// Binds an ephemeral port.
pub async fn bind(address: IpAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let listener = TcpListener::bind((address, 0)).await.map_err(|source| ServeError::Bind { address, source })?;
    let bound = listener.local_addr().map_err(|source| ServeError::Bind { address, source })?;
    Ok((listener, bound))
}

/// Accepts connections and serves each in a task of its own, at most [`CONNECTIONS`] at a time.
pub fn accept<S, F>(tasks: &Tasks, listener: TcpListener, serve: S)
where
    S: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (loop_tasks, places) = (tasks.clone(), Arc::new(Semaphore::new(CONNECTIONS)));
    tasks.tracker.spawn(async move {
        loop {
            let accepted = async {
                let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
                (place, listener.accept().await)
            };
            let (place, accepted) =
                tokio::select! { accepted = accepted => accepted, () = loop_tasks.stopped() => return };
            match accepted {
                Ok((stream, _)) => {
                    // Small requests and answers: without this each waits for the other side's delayed ACK.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "a connection ended before it began");
                        continue;
                    }
                    let served = serve(stream);
                    loop_tasks.spawn(async move {
                        served.await;
                        drop(place);
                    });
                }
                // Out of descriptors, or a client that gave up while waiting: neither is a reason to spin.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(DOWN_CHECK).await;
                }
            }
        }
    });
}

/// The server is gone while a client still asks: the connection ends without an answer.
#[derive(Debug, thiserror::Error)]
#[error("nothing listens here any more")]
struct HungUp;

/// Serves HTTP/1.1 on a stream until the client goes or the word to stop is given. A handler that returns `None` ends the
/// connection.
pub async fn serve_http<I, H, F>(tasks: &Tasks, stream: I, handler: H)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Option<Answer>> + Send + 'static,
{
    let service = hyper::service::service_fn(move |request| {
        let answered = handler(request);
        async move { answered.await.ok_or(HungUp) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    // Half-close: a client that has said all may still wait for the answer, as `ssh -W` with a piped request does.
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_DEADLINE).half_close(true);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = tasks.stopped() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection broke");
    }
}

/// Ends when a host is off or cut off, or, with a port, when nothing listens there any more.
pub async fn until_down(backend: &dyn Backend, host: &HostName, port: Option<u16>) {
    while backend.reachable(host) && port.is_none_or(|port| backend.listening(host, port)) {
        tokio::time::sleep(DOWN_CHECK).await;
    }
}

/// An answer with its whole body.
pub type Answer = Response<Full<Bytes>>;

/// An answer with a content type.
pub fn answer(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    if let Ok(value) = content_type.parse() {
        answer.headers_mut().insert(http::header::CONTENT_TYPE, value);
    }
    answer
}

/// Reads a body of at most `limit` bytes; 413 or 400 otherwise.
pub async fn read_body(body: Incoming, limit: usize) -> Result<Bytes, StatusCode> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Err(_) => Err(StatusCode::BAD_REQUEST),
    }
}
