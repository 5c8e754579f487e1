//! A release of RKE2 or K3s, `v1.33.4+rke2r1`: ordered, and counted in minor releases.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// A release. Ordered by version, then by the distribution's own build: `+rke2r2` follows `+rke2r1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    version: semver::Version,
    build: u64,
}

impl Release {
    /// The minor release: 33 of `v1.33.4+rke2r1`.
    pub fn minor(&self) -> u64 {
        self.version.minor
    }

    /// How many minor releases lie between this one and a later one; `None` when the other is earlier or of another
    /// major release.
    pub fn minors_to(&self, later: &Release) -> Option<u64> {
        if self.version.major != later.version.major {
            return None;
        }
        later.version.minor.checked_sub(self.version.minor)
    }

    /// `rke2r` or `k3s`.
    fn distribution(&self) -> &str {
        self.version.build.trim_end_matches(|c: char| c.is_ascii_digit())
    }
}

impl FromStr for Release {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let version = text.strip_prefix('v').and_then(|version| semver::Version::parse(version).ok());
        let version = version.filter(|version| !version.build.is_empty());
        let release = version.and_then(|version| {
            // The last number of `rke2r10`: as text it would come before `rke2r2`.
            let build = version.build.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
            Some(Self { version, build })
        });
        release.ok_or_else(|| format!("`{text}` is no release such as v1.33.4+rke2r1"))
    }
}

impl Ord for Release {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_name = || self.version.build.cmp(&other.version.build);
        self.version.cmp_precedence(&other.version).then(self.build.cmp(&other.build)).then_with(by_name)
    }
}

impl PartialOrd for Release {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.version)
    }
}

/// Whether a cluster can go through these releases one after the other: each is later than the one before, of the same
/// distribution, and at most one minor release further (Kubernetes version skew policy: API servers of one cluster are
/// at most one minor apart). The error says what is wrong.
pub fn check_hops(hops: &[impl AsRef<str>]) -> Result<(), String> {
    let releases: Vec<Release> = hops.iter().map(|hop| hop.as_ref().parse()).collect::<Result<_, _>>()?;
    for pair in releases.windows(2) {
        let [before, after] = pair else { continue };
        if before.distribution() != after.distribution() {
            return Err(format!("{before} and {after} are of two distributions"));
        }
        if after <= before {
            return Err(format!("{after} stands after {before}, and is not later"));
        }
        match before.minors_to(after) {
            Some(0 | 1) => {}
            Some(minors) => {
                let lacking = minors - 1;
                let (major, minor) = (before.version.major, before.version.minor + 1);
                let more = if lacking > 1 { format!(" and {} more", lacking - 1) } else { String::new() };
                return Err(format!(
                    "{before} to {after} is {minors} minor releases at once: one of v{major}.{minor}{more} is missing between them"
                ));
            }
            None => return Err(format!("{before} to {after} is another major release")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(text: &str) -> Release {
        text.parse().unwrap()
    }

    #[test]
    fn releases_are_ordered_as_they_came_out() {
        let ordered = ["v1.32.9+rke2r1", "v1.33.1-rc1+rke2r1", "v1.33.1+rke2r1", "v1.33.1+rke2r2", "v1.33.1+rke2r10"];
        for pair in ordered.windows(2) {
            assert!(release(pair[0]) < release(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn what_is_no_release_is_refused() {
        for text in ["1.33.4+rke2r1", "v1.33", "v1.33.4", "", "latest"] {
            assert!(text.parse::<Release>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn minor_releases_are_counted_forward_only() {
        assert_eq!(release("v1.32.9+rke2r1").minors_to(&release("v1.34.0+rke2r1")), Some(2));
        assert_eq!(release("v1.34.0+rke2r1").minors_to(&release("v1.32.9+rke2r1")), None);
    }

    #[test]
    fn hops_rise_by_one_minor_at_most() {
        let said = |hops: &[&str]| check_hops(hops).unwrap_err();
        check_hops(&["v1.33.4+rke2r1"]).unwrap();
        check_hops(&["v1.33.4+rke2r1", "v1.33.4+rke2r2", "v1.34.1+rke2r1", "v1.35.0+rke2r1"]).unwrap();
        assert_eq!(
            said(&["v1.33.4+rke2r1", "v1.35.1+rke2r1"]),
            "v1.33.4+rke2r1 to v1.35.1+rke2r1 is 2 minor releases at once: one of v1.34 is missing between them"
        );
        assert!(
            said(&["v1.32.4+rke2r1", "v1.35.1+rke2r1"]).ends_with("one of v1.33 and 1 more is missing between them")
        );
        assert!(said(&["v1.34.1+rke2r1", "v1.34.1+rke2r1"]).ends_with("and is not later"));
        assert!(said(&["v1.34.1+rke2r1", "v1.33.4+rke2r1"]).ends_with("and is not later"));
        assert!(said(&["v1.33.4+rke2r1", "v1.34.1+k3s1"]).ends_with("are of two distributions"));
        assert!(said(&["v1.33.4+rke2r1", "v2.0.0+rke2r1"]).ends_with("is another major release"));
    }
}
