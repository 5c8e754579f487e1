//! Plain HTTP: certificates, redirects, long bodies, nobody there.

use std::sync::Arc;

use rke2flow_steps::access::http::HttpClient;
use rke2flow_steps::ports::{AccessError, Http};

use crate::web::{Authority, serve};

#[tokio::test]
async fn a_certificate_of_the_given_authority_is_accepted_and_any_other_is_not() {
    let (authority, other) = (Authority::new(), Authority::new());
    let dir = tempfile::tempdir().unwrap();
    let (right, wrong) = (dir.path().join("right.pem"), dir.path().join("wrong.pem"));
    authority.write(&right);
    other.write(&wrong);
    let port = serve(Some(&authority), Arc::new(|_| (200, vec![], b"well".to_vec()))).await;
    let url = format!("https://127.0.0.1:{port}/health");
    let answer = HttpClient::new(Some(&right)).unwrap().get(&url).await.unwrap();
    assert_eq!(answer, (200, "well".to_owned()));
    for ca in [Some(wrong.as_path()), None] {
        let error = HttpClient::new(ca).unwrap().get(&url).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot reach {url}: ")) && error.contains("certificate"), "{error}");
    }
}

#[tokio::test]
async fn a_redirect_is_reported_and_not_followed() {
    let port = serve(None, Arc::new(|_| (302, vec![("location", "http://127.0.0.1:1/".to_owned())], vec![]))).await;
    let answer = HttpClient::new(None).unwrap().get(&format!("http://127.0.0.1:{port}/")).await.unwrap();
    assert_eq!(answer.0, 302);
}

#[tokio::test]
async fn only_the_beginning_of_a_long_body_is_kept() {
    let port = serve(None, Arc::new(|_| (500, vec![], vec![b'x'; 10_000_000]))).await;
    let (status, body) = HttpClient::new(None).unwrap().get(&format!("http://127.0.0.1:{port}/")).await.unwrap();
    assert_eq!((status, body.len()), (500, 4096));
}

#[tokio::test]
async fn a_password_in_a_url_is_not_in_the_error() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://user:hunter22@127.0.0.1:{port}/x");
    let error = HttpClient::new(None).unwrap().get(&url).await.unwrap_err();
    assert!(matches!(error, AccessError::Unreachable { .. }));
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("cannot reach http://127.0.0.1:{port}/x: ")) && !text.contains("hunter22"),
        "{text}"
    );
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let client = HttpClient::new(None).unwrap();
    tokio::time::pause();
    let error = client.get(&url).await.unwrap_err().to_string();
    assert!(error.ends_with("no answer within 10 s"), "{error}");
}

#[tokio::test]
async fn a_certificate_file_without_a_certificate_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    for text in [None, Some("nothing")] {
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        let error = HttpClient::new(Some(&file)).err().unwrap();
        assert!(matches!(&error, AccessError::Refused { whom, .. } if whom.contains("ca.pem")), "{error}");
    }
}
