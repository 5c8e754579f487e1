//! The control port: how a test, or a rehearsal in another process, judges a twin and interferes with it.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http::header::AUTHORIZATION;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::backend::{Ask, Backend};
use super::directory::{CONTROL_FILE, ControlFile};
use super::net::{Answer, Tasks, answer, read_body, serve_http};

/// The largest question.
const ASK_BYTES: usize = 1 << 20;

/// The largest answer: a whole log.
const ANSWER_BYTES: usize = 256 << 20;

/// How long an answer may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// The server behind the control port.
#[derive(Clone)]
pub struct Control {
    /// Who answers.
    pub backend: Arc<dyn Backend>,
    /// The word that a client must know: the port is open to every user of this machine.
    pub token: Arc<str>,
    /// What runs, and how to stop it.
    pub tasks: Tasks,
}

impl Control {
    /// Serves one connection.
    pub async fn serve(self, stream: TcpStream) {
        let tasks = self.tasks.clone();
        serve_http(&tasks, stream, move |request| self.clone().respond(request).map(Some)).await;
    }

    async fn respond(self, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        let expected = format!("Bearer {}", self.token);
        if head.headers.get(AUTHORIZATION).map(|value| value.as_bytes()) != Some(expected.as_bytes()) {
            return error(StatusCode::UNAUTHORIZED, "the token of control.json is needed");
        }
        let body = match read_body(body, ASK_BYTES).await {
            Ok(body) => body,
            Err(status) => return error(status, "the body is too large, or did not arrive whole"),
        };
        if (head.method.clone(), head.uri.path()) == (Method::POST, "/shutdown") {
            self.tasks.stop();
            return answer(StatusCode::OK, "application/json", "null");
        }
        let Some(ask) = ask_of(&head.method, head.uri.path()) else {
            return error(StatusCode::NOT_FOUND, "GET /judge /log /fingerprint, POST /write /set /fault /shutdown");
        };
        let with = match body.is_empty() {
            true => Value::Null,
            false => match serde_json::from_slice(&body) {
                Ok(with) => with,
                Err(why) => return error(StatusCode::BAD_REQUEST, &format!("the body is not JSON: {why}")),
            },
        };
        match self.backend.control(ask, with).await {
            Ok(value) => answer(StatusCode::OK, "application/json", value.to_string()),
            Err(why) => error(StatusCode::BAD_REQUEST, &why),
        }
    }
}

const ASKS: [Ask; 6] = [Ask::Judge, Ask::Log, Ask::Fingerprint, Ask::Write, Ask::Set, Ask::Fault];

fn ask_of(method: &Method, path: &str) -> Option<Ask> {
    ASKS.into_iter().find(|ask| route(*ask) == (method.clone(), path))
}

fn route(ask: Ask) -> (Method, &'static str) {
    match ask {
        Ask::Judge => (Method::GET, "/judge"),
        Ask::Log => (Method::GET, "/log"),
        Ask::Fingerprint => (Method::GET, "/fingerprint"),
        Ask::Write => (Method::POST, "/write"),
        Ask::Set => (Method::POST, "/set"),
        Ask::Fault => (Method::POST, "/fault"),
    }
}

fn error(status: StatusCode, why: &str) -> Answer {
    answer(status, "application/json", serde_json::json!({ "error": why }).to_string())
}

/// A twin in another process.
#[derive(Debug, Clone)]
pub struct Remote {
    file: ControlFile,
}

/// Why a twin in another process did not answer.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Not a twin's directory.
    #[error("cannot find a twin in {dir}: {why}")]
    NoTwin {
        /// The directory.
        dir: String,
        /// Why.
        why: String,
    },
    /// It is gone, or too slow.
    #[error("the twin does not answer: {0}")]
    Silent(String),
    /// It said no.
    #[error("the twin refuses: {0}")]
    Refused(String),
}

impl Remote {
    /// The twin that wrote this directory.
    pub fn of(dir: &Path) -> Result<Self, RemoteError> {
        let no_twin = |why: String| RemoteError::NoTwin { dir: dir.display().to_string(), why };
        let text = std::fs::read(dir.join(CONTROL_FILE)).map_err(|error| no_twin(error.to_string()))?;
        let file = serde_json::from_slice(&text).map_err(|error| no_twin(error.to_string()))?;
        Ok(Self { file })
    }

    /// Asks, and returns the backend's answer.
    pub async fn ask(&self, ask: Ask, with: Value) -> Result<Value, RemoteError> {
        let (method, path) = route(ask);
        self.call(method, path, with).await
    }

    /// Asks the twin to stop.
    pub async fn shutdown(&self) -> Result<(), RemoteError> {
        self.call(Method::POST, "/shutdown", Value::Null).await.map(|_| ())
    }

    async fn call(&self, method: Method, path: &str, with: Value) -> Result<Value, RemoteError> {
        let exchange = async {
            let stream = TcpStream::connect(self.file.address).await.map_err(silent)?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(silent)?;
            let request = self.request(method, path, with)?;
            let exchange = async {
                let answer = sender.send_request(request).await.map_err(silent)?;
                let status = answer.status();
                let body = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await.map_err(silent)?;
                Ok::<_, RemoteError>((status, body.to_bytes()))
            };
            let driven = async {
                let _ = connection.await;
                std::future::pending::<Infallible>().await
            };
            tokio::select! { answered = exchange => answered, never = driven => match never {} }
        };
        let (status, body) = tokio::time::timeout(ANSWER_DEADLINE, exchange).await.map_err(silent)??;
        let value: Value = serde_json::from_slice(&body).map_err(silent)?;
        match status {
            StatusCode::OK => Ok(value),
            _ => Err(RemoteError::Refused(value["error"].as_str().unwrap_or("without a reason").to_owned())),
        }
    }

    fn request(&self, method: Method, path: &str, with: Value) -> Result<Request<Full<Bytes>>, RemoteError> {
        let body = if with.is_null() { Bytes::new() } else { Bytes::from(with.to_string()) };
        Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, self.file.address.to_string())
            .header(AUTHORIZATION, format!("Bearer {}", self.file.token))
            .header(http::header::CONNECTION, "close")
            .body(Full::new(body))
            .map_err(silent)
    }
}

fn silent(error: impl std::fmt::Display) -> RemoteError {
    RemoteError::Silent(error.to_string())
}
