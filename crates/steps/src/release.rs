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
    /// How many minor releases lie between this one and a later one; `None` when the other is earlier or of another
    /// major release.
    pub fn minors_to(&self, later: &Release) -> Option<u64> {
        if self.version.major != later.version.major {
            return None;
        }
        later.version.minor.checked_sub(self.version.minor)
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
}
