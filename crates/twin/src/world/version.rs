//! What a version of a distribution brings with it, as far as upgrades and restores care.

/// Minor release of `v1.33.4+rke2r1`; 0 for a text that is not a version.
pub fn minor(version: &str) -> u64 {
    numbers(version).1
}

/// etcd's release in this version: 3.6 since 1.34, and it never opens data of a later one (rke2#9318).
pub fn etcd(version: &str) -> (u64, u64) {
    if minor(version) >= 34 { (3, 6) } else { (3, 5) }
}

/// The patch release of etcd that this version's image has.
pub fn etcd_release(etcd: (u64, u64)) -> &'static str {
    if etcd >= (3, 6) { "3.6.4" } else { "3.5.21" }
}

/// Whether a reset from a `.zip` fails in this version: v1.35.3 to 1.36 (k3s#14526).
pub fn zip_restore_broken(version: &str) -> bool {
    let (_, minor, patch) = numbers(version);
    minor == 36 || (minor == 35 && patch >= 3)
}

/// The version as an image tag: `+` is not allowed there.
pub fn tag(version: &str) -> String {
    version.replace('+', "-")
}

/// The version of an image's tag.
pub fn untag(tag: &str) -> String {
    tag.replacen("-rke2", "+rke2", 1).replacen("-k3s", "+k3s", 1)
}

/// Names of the charts that a server of this version writes into `server/manifests`. A later minor has one more.
pub fn shipped_charts(version: &str) -> Vec<String> {
    if version.contains("+k3s") {
        let mut manifests = ["ccm.yaml", "coredns.yaml", "local-storage.yaml", "metrics-server", "rolebindings.yaml"]
            .map(str::to_owned)
            .to_vec();
        if minor(version) >= 34 {
            manifests.push("traefik.yaml".to_owned());
        }
        return manifests;
    }
    let mut charts: Vec<String> =
        ["canal", "coredns", "ingress-nginx", "metrics-server", "snapshot-controller", "runtimeclasses"]
            .map(|name| format!("rke2-{name}.yaml"))
            .to_vec();
    if minor(version) >= 34 {
        charts.push("rke2-only-since-1.34.yaml".to_owned());
    }
    charts
}

fn numbers(version: &str) -> (u64, u64, u64) {
    match semver::Version::parse(version.trim_start_matches('v')) {
        Ok(parsed) => (parsed.major, parsed.minor, parsed.patch),
        Err(_) => (0, 0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_version_brings_follows_its_number() {
        assert_eq!(etcd("v1.33.9+rke2r1"), (3, 5));
        assert_eq!(etcd("v1.34.1+rke2r1"), (3, 6));
        assert!(!zip_restore_broken("v1.35.2+rke2r1"));
        assert!(zip_restore_broken("v1.35.3+rke2r1"));
        assert!(shipped_charts("v1.34.1+rke2r1").len() > shipped_charts("v1.33.4+rke2r1").len());
    }
}
