//! The cluster file as text, with comments that say what each part is for.

use rke2flow_engine::cluster::Distribution;

use super::found::{Backups, Bucket, Found, Node, Way};

/// The environment variables that the written file asks for.
const ACCESS_KEY: &str = "ETCD_S3_ACCESS_KEY";
const SECRET_KEY: &str = "ETCD_S3_SECRET_KEY";

/// The whole file.
pub(super) fn of(found: &Found) -> String {
    let mut text = format!(
        "// Written by `rke2flow init` from {}. Read it, and change what is wrong.\n(\n    format: 1,\n    name: {}, // \
         written into the claims on the hosts: who works on this cluster from elsewhere must use the same\n",
        one_line(&found.from),
        quoted(&found.name)
    );
    let distribution = match found.distribution {
        Distribution::Rke2 => "Rke2",
        Distribution::K3s => "K3s",
    };
    text.push_str(&format!("    distribution: {distribution},\n"));
    match &found.version {
        Some(version) => {
            text.push_str(&format!("    version: {}, // the default of `upgrade`'s `version`\n", quoted(version)))
        }
        None => text.push_str("    // version: \"v1.33.4+rke2r1\", // the default of `upgrade`'s `version`\n"),
    }
    for note in &found.notes {
        text.push_str(&format!("\n    // Note: {}\n", one_line(note)));
    }
    hosts(&mut text, found);
    ssh(&mut text, &found.ssh);
    s3(&mut text, found.s3.as_ref());
    velero(&mut text, found.velero.as_ref());
    let kubeconfig = quoted(found.kubeconfig.as_deref().unwrap_or("kubeconfig.yaml"));
    text.push_str(&format!(
        "\n    // The API through SSH to a healthy server's own 127.0.0.1:6443, so that no load balancer is in between.\n    \
         kube: Ssh, // or Kubeconfig({kubeconfig})\n\n    // Answer 2xx or 3xx when the applications are well.\n    // \
         health_urls: [\"https://example.com/heartbeat\"],\n)\n"
    ));
    text
}

fn hosts(text: &mut String, found: &Found) {
    text.push_str(
        "\n    // Servers and agents, in the order in which \"one after the other\" takes them. Names are Kubernetes node \
         names;\n    // `address` is what you would type after `ssh`.\n    hosts: [\n",
    );
    let mut push = |node: &Node, role: &str| {
        let arch = node.arch.as_ref().filter(|arch| *arch != "amd64");
        let arch = arch.map(|arch| format!(", arch: {}", quoted(arch))).unwrap_or_default();
        let (name, address) = (quoted(&node.name), quoted(&node.address));
        text.push_str(&format!("        (name: {name}, address: {address}, role: {role}{arch}),\n"));
    };
    found.servers.iter().for_each(|node| push(node, "Server"));
    found.agents.iter().for_each(|node| push(node, "Agent"));
    text.push_str("    ],\n    // init: \"…\", // the server that is reset and restored: the first one\n");
}

fn ssh(text: &mut String, way: &Way) {
    let mut fields: Vec<String> = Vec::new();
    fields.extend(way.user.as_ref().map(|user| format!("user: {}", quoted(user))));
    fields.extend(way.port.map(|port| format!("port: {port}")));
    fields.extend(way.key.as_ref().map(|key| format!("key: {}", quoted(key))));
    fields.extend(way.config.as_ref().map(|config| format!("config: {}", quoted(config))));
    fields.push("known_hosts: \"known_hosts\"".to_owned());
    text.push_str(&format!(
        "\n    // What is left out comes from ~/.ssh/config, then from the defaults: user root (another one needs `sudo -n`), \
         port 22,\n    // the keys of the agent. `rke2flow trust` fills known_hosts.\n    ssh: ({}),\n",
        fields.join(", ")
    ));
}

fn s3(text: &mut String, bucket: Option<&Bucket>) {
    text.push_str(
        "\n    // Where etcd snapshots are uploaded. Secrets are never in this file: Env, File or Command tell where they \
         are.\n",
    );
    let example = Bucket {
        endpoint: "https://fsn1.your-objectstorage.com".to_owned(),
        region: "fsn1".to_owned(),
        bucket: "etcd".to_owned(),
        folder: "production".to_owned(),
    };
    // What was not found is shown as an example, commented out.
    let (bucket, mark) = bucket.map_or((&example, "// "), |bucket| (bucket, ""));
    let mut line = |line: String| text.push_str(&format!("    {mark}{line}\n"));
    line("s3: (".to_owned());
    line(format!("    endpoint: {},", quoted(&bucket.endpoint)));
    if !bucket.region.is_empty() {
        line(format!("    region: {},", quoted(&bucket.region)));
    }
    line(format!("    bucket: {},", quoted(&bucket.bucket)));
    if !bucket.folder.is_empty() {
        line(format!("    folder: {},", quoted(&bucket.folder)));
    }
    line(format!("    access_key: Env({}),", quoted(ACCESS_KEY)));
    line(format!("    secret_key: Env({}), // or Command([\"pass\", \"show\", \"etcd-s3\"])", quoted(SECRET_KEY)));
    line("),".to_owned());
}

fn velero(text: &mut String, backups: Option<&Backups>) {
    text.push_str("\n    // Volumes. Leave it out when there is no Velero.\n");
    let Some(backups) = backups else {
        text.push_str(
            "    // velero: (namespace: \"velero\", location: \"default\", bucket: \"production-velero\"),\n",
        );
        return;
    };
    let mut fields = vec![
        format!("namespace: {}", quoted(&backups.namespace)),
        format!("location: {}", quoted(&backups.location)),
        format!("bucket: {}", quoted(&backups.bucket)),
    ];
    if !backups.prefix.is_empty() {
        fields.push(format!("prefix: {}", quoted(&backups.prefix)));
    }
    text.push_str(&format!("    velero: ({}),\n", fields.join(", ")));
}

/// A RON string: what others wrote must not become anything else.
fn quoted(text: &str) -> String {
    ron::to_string(text).unwrap_or_else(|_| "\"\"".to_owned())
}

/// Inside a comment there are no further lines.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rke2flow_engine::cluster;
    use rke2flow_engine::source::SourceText;

    use super::*;

    fn node(name: &str, address: &str) -> Node {
        Node { name: name.to_owned(), address: address.to_owned(), arch: Some("arm64".to_owned()) }
    }

    #[test]
    fn the_shortest_and_the_longest_file_are_valid_and_say_what_was_found() {
        let short = Found { name: "c".into(), servers: vec![node("s0", "10.0.0.1")], ..Found::default() };
        let long = Found {
            from: "a\nb".into(),
            version: Some("v1.33.4+rke2r1".into()),
            agents: vec![node("a0", "10.0.0.2")],
            ssh: Way { user: Some("deploy".into()), port: Some(2222), key: Some("/k".into()), config: None },
            s3: Some(Bucket { endpoint: "https://s3".into(), bucket: "b\"c".into(), ..Bucket::default() }),
            velero: Some(Backups {
                namespace: "v".into(),
                location: "l".into(),
                bucket: "b".into(),
                prefix: "p".into(),
            }),
            notes: vec!["one\ntwo".into()],
            ..short.clone()
        };
        let read = |found: &Found| cluster::parse(SourceText::new("c", of(found)), Path::new("/")).unwrap().cluster;
        assert_eq!(read(&short).hosts.len(), 1);
        let cluster = read(&long);
        assert_eq!(
            (cluster.hosts.len(), cluster.ssh.port, cluster.hosts[1].arch.as_deref()),
            (2, Some(2222), Some("arm64"))
        );
        assert_eq!(cluster.s3.unwrap().bucket, "b\"c");
        assert_eq!(cluster.velero.unwrap().prefix, "p");
    }
}
