//! Access against the real thing: OpenSSH's own sshd and ssh-agent, and small TLS and HTTP servers on the loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test whose surroundings are missing has failed")]

mod http_client;
mod kube_client;
mod proxy;
mod s3_bucket;
mod ssh_commands;
mod ssh_config;
mod ssh_host_keys;
mod ssh_links;
mod ssh_logins;
mod ssh_people;
mod sshd;
mod web;
