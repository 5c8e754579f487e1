//! Durations as people write them in a runbook: `"90s"`, `"15m"`, `"1h 30m"`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time, written with its unit. Whole milliseconds; at most 365 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(Duration);

const LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);

impl Span {
    /// From seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// As the standard type.
    pub const fn get(self) -> Duration {
        self.0
    }

    /// Reads `"90s"`, `"15m"`, `"1h 30m"`, `"250ms"`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || {
            format!("`{text}` is not a duration: write a number with its unit, such as \"90s\", \"15m\" or \"1h 30m\"")
        };
        let signed: jiff::SignedDuration = text.parse().map_err(|_| expected())?;
        let duration = Duration::try_from(signed).map_err(|_| expected())?;
        if duration > LIMIT {
            return Err(format!("`{text}` is longer than 365 days"));
        }
        Ok(Self(Duration::from_millis(duration.as_millis() as u64)))
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.0.as_millis();
        if total < 1000 {
            return write!(f, "{total}ms");
        }
        let (hours, minutes, seconds, millis) =
            (total / 3_600_000, total / 60_000 % 60, total / 1000 % 60, total % 1000);
        let mut parts = Vec::new();
        for (value, unit) in [(hours, "h"), (minutes, "m"), (seconds, "s"), (millis, "ms")] {
            if value > 0 {
                parts.push(format!("{value}{unit}"));
            }
        }
        f.write_str(&parts.join(" "))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_can_be_read_back() {
        for text in ["90s", "15m", "1h 30m", "250ms", "2h", "1m 1s"] {
            let span = Span::parse(text).unwrap();
            assert_eq!(Span::parse(&span.to_string()).unwrap(), span, "{text}");
        }
    }

    #[test]
    fn a_bare_number_and_a_negative_one_are_refused() {
        for text in ["90", "-5s", "", "soon", "9999d"] {
            assert!(Span::parse(text).is_err(), "{text:?} was accepted");
        }
    }
}
