//! What `init` can be told.

use std::path::PathBuf;

use clap::Args;

/// Where `init` looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitSource {
    /// A server, over SSH.
    Ssh,
    /// The Kubernetes API behind a kubeconfig.
    Kubeconfig,
    /// What `tofu output -json` or `terraform output -json` prints.
    TofuOutput,
}

impl InitSource {
    /// The source of this word.
    pub fn read(word: &str) -> Option<Self> {
        match word {
            "ssh" => Some(Self::Ssh),
            "kubeconfig" => Some(Self::Kubeconfig),
            "tofu-output" | "terraform-output" => Some(Self::TofuOutput),
            _ => None,
        }
    }
}

/// Options of `init`. The file goes to `--cluster`, or to ./cluster.ron.
#[derive(Debug, Clone, Args)]
pub struct InitArgs {
    /// Where to look: `ssh [USER@]HOST[:PORT]`, `kubeconfig [FILE]`, `tofu-output FILE` (`-`: standard input)
    #[arg(long, num_args = 1..=2, required = true, value_names = ["SOURCE", "WHERE"])]
    pub from: Vec<String>,
    /// The cluster's name [default: what its hosts remember, then the directory's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Login name on the hosts
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// SSH port of the hosts
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Private key for the hosts
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// An OpenSSH client configuration instead of ~/.ssh/config
    #[arg(long, value_name = "FILE")]
    pub ssh_config: Option<PathBuf>,
    /// The output that lists the servers (tofu-output)
    #[arg(long, value_name = "OUTPUT")]
    pub servers: Option<String>,
    /// The output that lists the agents (tofu-output)
    #[arg(long, value_name = "OUTPUT")]
    pub agents: Option<String>,
    /// Replace a file that is there
    #[arg(long)]
    pub force: bool,
    /// Accept the server's host key without asking; compare the fingerprint first
    #[arg(long, short = 'y')]
    pub yes: bool,
}
