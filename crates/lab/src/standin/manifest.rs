//! The manifests of static pods: RKE2 writes them, the kubelet runs what they say.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::container::Spec;
use super::release::hex;

/// Static pods of a server, in the order in which RKE2's own killall names them.
pub const COMPONENTS: [&str; 6] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "cloud-controller-manager", "kube-scheduler", "kube-proxy"];

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pod {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: PodSpec,
}

#[derive(Serialize, Deserialize)]
struct Metadata {
    name: String,
    namespace: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    containers: Vec<Container>,
    #[serde(default)]
    host_network: bool,
    #[serde(default)]
    priority_class_name: String,
}

#[derive(Serialize, Deserialize)]
struct Container {
    name: String,
    image: String,
    command: Vec<String>,
}

/// Writes the manifest of a component. The pod's uid is a hash of it, so that a change makes a new pod
/// (R2 `pkg/executor/staticpod/staticpod.go` writeTemplate).
pub fn write(
    directory: &Path,
    component: &str,
    image: &str,
    command: Vec<String>,
    annotations: BTreeMap<String, String>,
) -> io::Result<()> {
    let mut pod = Pod {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        metadata: Metadata {
            name: component.to_owned(),
            namespace: "kube-system".to_owned(),
            uid: String::new(),
            annotations,
            labels: BTreeMap::from([
                ("component".to_owned(), component.to_owned()),
                ("tier".to_owned(), "control-plane".to_owned()),
            ]),
        },
        spec: PodSpec {
            containers: vec![Container { name: component.to_owned(), image: image.to_owned(), command }],
            host_network: true,
            priority_class_name: "system-cluster-critical".to_owned(),
        },
    };
    pod.metadata.uid = hex(&Sha256::digest(serde_json::to_vec(&pod)?)[..16]);
    fs::create_dir_all(directory)?;
    let path = directory.join(format!("{component}.yaml"));
    let fresh = directory.join(format!(".{component}.yaml.new"));
    // JSON is YAML, and nobody has to guess its quoting.
    fs::write(&fresh, serde_json::to_vec_pretty(&pod)?)?;
    fs::rename(fresh, path)
}

/// Removes the manifest of a component, if there is one.
pub fn remove(directory: &Path, component: &str) -> io::Result<()> {
    match fs::remove_file(directory.join(format!("{component}.yaml"))) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// An annotation of a component's manifest.
pub fn annotation(directory: &Path, component: &str, name: &str) -> Option<String> {
    let pod: Pod = parse(&directory.join(format!("{component}.yaml")))?;
    pod.metadata.annotations.get(name).cloned()
}

/// What the manifests ask for on the node `node`; a file that is no pod asks for nothing.
pub fn wanted(directory: &Path, node: &str) -> Vec<Spec> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml"));
    paths.retain(|path| path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b".")));
    paths.sort();
    paths.iter().filter_map(|path| spec_of(parse(path)?, node)).collect()
}

fn parse(path: &Path) -> Option<Pod> {
    serde_saphyr::from_str(&fs::read_to_string(path).ok()?).ok()
}

fn spec_of(pod: Pod, node: &str) -> Option<Spec> {
    let container = pod.spec.containers.into_iter().next()?;
    Some(Spec {
        namespace: pod.metadata.namespace,
        pod: format!("{}-{node}", pod.metadata.name),
        name: container.name,
        image: container.image,
        uid: pod.metadata.uid,
        is_static: true,
        command: container.command,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid_of(image: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "etcd", image, vec!["etcd".to_owned()], BTreeMap::new()).unwrap();
        let [spec] = &wanted(dir.path(), "server-0")[..] else { panic!("one pod is wanted") };
        assert_eq!((spec.pod.as_str(), spec.image.as_str()), ("etcd-server-0", image));
        spec.uid.clone()
    }

    #[test]
    fn another_image_makes_another_pod_and_the_same_manifest_the_same() {
        assert_ne!(uid_of("etcd:v3.5.21"), uid_of("etcd:v3.6.5"));
        assert_eq!(uid_of("etcd:v3.5.21"), uid_of("etcd:v3.5.21"));
    }
}
