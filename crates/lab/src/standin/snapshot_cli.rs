//! `rke2 etcd-snapshot`: a thin client of the node's own supervisor (K3S `pkg/cli/etcdsnapshot/etcd_snapshot.go`).

use std::fs;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::http::Client;
use super::layout::Layout;
use super::log;
use super::node::Ending;
use super::s3::S3;
use super::settings::Settings;
use super::snapshot::{Outcome, Question};
use super::token::Token;

/// How long the supervisor may take; with a bucket, five minutes more.
const LIMIT: Duration = Duration::from_secs(120);
const S3_LIMIT: Duration = Duration::from_secs(300);

/// Runs `save`, `list` or `delete`.
pub async fn run(settings: &Settings) -> Result<(), Ending> {
    let (verb, names) = match settings.words.split_first() {
        None => ("", &[][..]),
        Some((verb, names)) => (verb.as_str(), names),
    };
    match verb {
        "save" if !names.is_empty() => Err(Ending::Error("this command does not take any arguments".to_owned())),
        "save" => {
            let name = settings.text("etcd-snapshot-name").unwrap_or_else(|| "on-demand".to_owned());
            let answer = ask(settings, "save", vec![name]).await?;
            let outcome: Outcome = serde_json::from_value(answer).map_err(|error| Ending::Error(error.to_string()))?;
            for file in outcome.created {
                log::info(format!("Snapshot {file} saved."));
            }
            Ok(())
        }
        "list" | "ls" | "l" => list(settings).await,
        "delete" if names.is_empty() => Err(Ending::Error("no snapshots given for removal".to_owned())),
        "delete" => delete(settings, names).await,
        _ => Err(Ending::Error(format!("No help topic for '{verb}'"))),
    }
}

async fn list(settings: &Settings) -> Result<(), Ending> {
    let found = ask(settings, "list", Vec::new()).await?;
    match settings.text("output").as_deref() {
        Some("json") => println!("{}", serde_json::to_string_pretty(&found).unwrap_or_default()),
        None | Some("table") => {
            println!("Name Location Size Created");
            for item in found["items"].as_array().into_iter().flatten() {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let (spec, status) = (&item["spec"], &item["status"]);
                println!(
                    "{} {} {} {}",
                    text(&spec["snapshotName"]),
                    text(&spec["location"]),
                    text(&status["size"]),
                    text(&status["creationTime"])
                );
            }
        }
        Some(other) => return Err(Ending::Error(format!("invalid output format: {other}"))),
    }
    Ok(())
}

async fn delete(settings: &Settings, names: &[String]) -> Result<(), Ending> {
    let answer = ask(settings, "delete", names.to_vec()).await?;
    let outcome: Outcome = serde_json::from_value(answer).map_err(|error| Ending::Error(error.to_string()))?;
    for file in &outcome.deleted {
        log::info(format!("Snapshot {file} deleted."));
    }
    for file in names.iter().filter(|file| !outcome.deleted.contains(file)) {
        log::warn(format!("Snapshot {file} not found."));
    }
    Ok(())
}

async fn ask(settings: &Settings, operation: &str, name: Vec<String>) -> Result<Value, Ending> {
    let layout = Layout::new(settings.data());
    let error = |why: &dyn std::fmt::Display| Ending::Error(why.to_string());
    let path = layout.token();
    let text = match settings.text("etcd-token") {
        Some(token) => token,
        None => fs::read_to_string(&path).map_err(|why| error(&format!("open {}: {why}", path.display())))?,
    };
    let token = Token::parse(&text).map_err(Ending::Error)?;
    let port = settings.distribution().supervisor_port;
    let base = settings.text("etcd-server").unwrap_or_else(|| format!("https://127.0.0.1:{port}"));
    let authority = Client::insecure().get(&format!("{base}/cacerts"), LIMIT).await.map_err(|why| error(&why))?.body;
    let authority = String::from_utf8_lossy(&authority);
    token.check(&authority).map_err(Ending::Error)?;
    let client = Client::trusting(&authority).map_err(|why| error(&why))?.with_password(&token.user, &token.password);
    let question = Question {
        operation: operation.to_owned(),
        name,
        dir: settings.text("etcd-snapshot-dir"),
        compress: settings.text("etcd-snapshot-compress").map(|_| settings.is_on("etcd-snapshot-compress")),
        s3: S3::configured(settings),
    };
    let limit = if question.s3.is_some() { LIMIT + S3_LIMIT } else { LIMIT };
    let answer =
        client.ask(Method::POST, &format!("{base}/db/snapshot"), json!(question).to_string().into_bytes(), limit).await;
    let answer = answer.map_err(|why| error(&why))?;
    if answer.status.is_success() {
        return serde_json::from_slice(&answer.body).map_err(|why| error(&why));
    }
    let status: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let message = status["message"].as_str().map_or_else(|| answer.text(), str::to_owned);
    Err(Ending::Error(format!("see server log for details: {message}")))
}
