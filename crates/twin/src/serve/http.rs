//! Plain HTTP: the application's health URL, and the releases that hosts fetch.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use rke2flow_engine::cluster::Distribution;
use rke2flow_steps::distribution::Traits;
use semver::Version;
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;

use super::backend::Backend;
use super::net::{Answer, Tasks, answer, serve_http};

/// Path of the application's health URL.
pub const HEARTBEAT: &str = "/heartbeat";

/// Architectures that releases exist for.
const ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];

/// The server of releases and of the health URL.
#[derive(Clone)]
pub struct HttpServer {
    /// Whose application it is.
    pub backend: Arc<dyn Backend>,
    /// Where it listens.
    pub address: SocketAddr,
    /// What runs.
    pub tasks: Tasks,
}

impl HttpServer {
    /// Serves one connection.
    pub async fn serve(self, stream: TcpStream) {
        let Self { backend, address, tasks } = self;
        let handler = move |request: Request<Incoming>| {
            std::future::ready(Some(respond(backend.as_ref(), address, request.method(), request.uri().path())))
        };
        serve_http(&tasks, stream, handler).await;
    }
}

fn respond(backend: &dyn Backend, address: SocketAddr, method: &Method, path: &str) -> Answer {
    let text = "text/plain; charset=utf-8";
    if !matches!(*method, Method::GET | Method::HEAD) {
        return answer(StatusCode::METHOD_NOT_ALLOWED, text, "only GET and HEAD are answered here\n");
    }
    if path == HEARTBEAT {
        // Nobody listens behind it: what an ingress says then.
        let (status, body) =
            backend.application(&format!("http://{address}{path}")).unwrap_or((503, "no pod answers\n".to_owned()));
        return answer(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY), text, body);
    }
    match path.strip_prefix("/releases/").and_then(|rest| rest.split_once('/')) {
        Some((version, file)) => match release_file(&version.replace("%2B", "+").replace("%2b", "+"), file) {
            Some(bytes) => answer(StatusCode::OK, "application/octet-stream", bytes),
            None => answer(StatusCode::NOT_FOUND, text, "no such release or file\n"),
        },
        None => answer(StatusCode::NOT_FOUND, text, "there are /heartbeat and /releases/<version>/<file>\n"),
    }
}

/// The bytes of a release's file: small, and different for each version. `None`: not a release, or not a file of one.
pub fn release_file(version: &str, file: &str) -> Option<Vec<u8>> {
    let semantic = Version::parse(version.strip_prefix('v')?).ok()?;
    let distribution = match semantic.build.as_str() {
        build if build.starts_with("rke2r") => Traits::of(Distribution::Rke2),
        build if build.starts_with("k3s") => Traits::of(Distribution::K3s),
        _ => return None,
    };
    for arch in ARCHITECTURES {
        let names = [distribution.artifact(arch), distribution.images(arch), "install.sh".to_owned()];
        if file == format!("sha256sum-{arch}.txt") {
            return Some(names.map(|name| checksum_line(&name, &content(version, &name))).concat().into_bytes());
        }
        if names.iter().any(|name| name == file) {
            return Some(content(version, file));
        }
    }
    None
}

fn content(version: &str, file: &str) -> Vec<u8> {
    match file {
        "install.sh" => format!("#!/bin/sh\n# installs the staged release {version}\nset -e\n").into_bytes(),
        _ => format!("{file} of {version}\n").into_bytes(),
    }
}

fn checksum_line(name: &str, bytes: &[u8]) -> String {
    let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{digest}  {name}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_of_k3s_is_the_binary() {
        let sums = String::from_utf8(release_file("v1.33.4+k3s1", "sha256sum-arm64.txt").unwrap()).unwrap();
        let binary = release_file("v1.33.4+k3s1", "k3s-arm64").unwrap();
        assert!(sums.contains(&checksum_line("k3s-arm64", &binary)), "{sums}");
        assert_eq!(release_file("v1.33.4+k3s1", "rke2.linux-arm64.tar.gz"), None);
    }

    #[test]
    fn a_release_matches_its_own_checksums() {
        let sums = String::from_utf8(release_file("v1.33.4+rke2r1", "sha256sum-amd64.txt").unwrap()).unwrap();
        let tarball = release_file("v1.33.4+rke2r1", "rke2.linux-amd64.tar.gz").unwrap();
        assert!(sums.contains(&checksum_line("rke2.linux-amd64.tar.gz", &tarball)), "{sums}");
        assert_ne!(Some(tarball), release_file("v1.33.5+rke2r1", "rke2.linux-amd64.tar.gz"));
    }

    #[test]
    fn what_is_no_release_is_not_found() {
        for (version, file) in [
            ("1.33.4+rke2r1", "install.sh"),
            ("v1.33.4", "install.sh"),
            ("v1.33+rke2r1", "install.sh"),
            ("v1.33.4+rke2r1", "../install.sh"),
            ("v1.33.4+rke2r1", "rke2.linux-s390x.tar.gz"),
        ] {
            assert_eq!(release_file(version, file), None, "{version} {file}");
        }
    }
}
