//! Flag values as Go programs write them, and Go's ways of writing flags.

use std::ffi::OsString;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A duration in the syntax of Go's `time.ParseDuration`: `1h0m0s`, `1.5s`, `200ms`, `0`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(pub Duration);

impl FromStr for GoDuration {
    type Err = GoDurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        if text.is_empty() {
            return Err(GoDurationError);
        }
        let mut rest = text;
        let mut total = Duration::ZERO;
        while !rest.is_empty() {
            let number_length = rest
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .ok_or(GoDurationError)?;
            let (number, after) = rest.split_at(number_length);
            let unit_length = after
                .find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(after.len());
            let (unit, after) = after.split_at(unit_length);
            let seconds_per_unit = match unit {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(GoDurationError),
            };
            let number: f64 = number.parse().map_err(|_| GoDurationError)?;
            let part = Duration::try_from_secs_f64(number * seconds_per_unit)
                .map_err(|_| GoDurationError)?;
            total = total.checked_add(part).ok_or(GoDurationError)?;
            rest = after;
        }
        Ok(Self(total))
    }
}

impl fmt::Display for GoDuration {
    /// As Go prints it: `1h0m0s`, `1m30s`, `10s`, `200ms`, `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        if seconds == 0 && self.0.subsec_nanos() != 0 {
            return write!(f, "{}ms", f64::from(self.0.subsec_micros()) / 1000.0);
        }
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        let fraction = f64::from(self.0.subsec_millis()) / 1000.0;
        #[expect(clippy::cast_precision_loss, reason = "below 60")]
        let rest = (seconds % 60) as f64 + fraction;
        write!(f, "{rest}s")
    }
}

impl fmt::Debug for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a duration such as 30s, 1m30s or 200ms")]
pub struct GoDurationError;

/// A number of bytes as Kubernetes writes it: `1048576`, `64Mi`, `2Gi`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor = match unit {
            "" => 1,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            _ => return Err(ByteSizeError),
        };
        let number: u64 = number.parse().map_err(|_| ByteSizeError)?;
        number.checked_mul(factor).map(Self).ok_or(ByteSizeError)
    }
}

/// The text is not a number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a number of bytes such as 1048576, 64Mi or 2Gi")]
pub struct ByteSizeError;

/// `host:port`, `:port` (all interfaces) or `[v6]:port`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A name or an address without brackets; empty for all interfaces.
    pub host: String,
    /// The port; 0 asks the system for a free one where something listens.
    pub port: u16,
}

impl HostPort {
    /// Both parts, the host without brackets.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
        }
    }
}

impl FromStr for HostPort {
    type Err = HostPortError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text.rsplit_once(':').ok_or(HostPortError)?;
        let port = port
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| port.parse().ok())
            .flatten()
            .ok_or(HostPortError)?;
        let host = match host.strip_prefix('[') {
            Some(v6) => v6.strip_suffix(']').ok_or(HostPortError)?,
            None if host.contains(':') => return Err(HostPortError),
            None => host,
        };
        if host
            .bytes()
            .any(|b| b.is_ascii_whitespace() || b == b'/' || b == b'@')
        {
            return Err(HostPortError);
        }
        Ok(Self::new(host, port))
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The text is not `host:port`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not host:port, :port or [address]:port")]
pub struct HostPortError;

/// Brings a command line into the spelling that the parser knows: in flag names `_` is `-`, as in
/// every program of Kubernetes (pflag's word separator normalization).
#[must_use]
pub fn normalize(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut flags_over = false;
    args.into_iter()
        .map(|arg| {
            let Some(text) = arg.to_str() else {
                return arg;
            };
            flags_over |= text == "--";
            if flags_over || !text.starts_with("--") {
                return arg;
            }
            match text.split_once('=') {
                Some((name, value)) => format!("{}={value}", name.replace('_', "-")).into(),
                None => text.replace('_', "-").into(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, seconds, printed) in [
            ("1h0m0s", 3600.0, "1h0m0s"),
            ("1h", 3600.0, "1h0m0s"),
            ("90s", 90.0, "1m30s"),
            ("1.5s", 1.5, "1.5s"),
            ("200ms", 0.2, "200ms"),
            ("0", 0.0, "0s"),
            ("0s", 0.0, "0s"),
        ] {
            let duration: GoDuration = text.parse().unwrap();
            assert_eq!(duration.0, Duration::from_secs_f64(seconds), "{text}");
            assert_eq!(duration.to_string(), printed);
        }
        for bad in [
            "",
            "1",
            "s",
            "-1s",
            "1d",
            "1.2.3s",
            "1e400s",
            "99999999999999999999h",
        ] {
            assert!(bad.parse::<GoDuration>().is_err(), "{bad}");
        }
    }

    #[test]
    fn bytes_are_kubernetes() {
        for (text, bytes) in [
            ("0", 0),
            ("5", 5),
            ("3Ki", 3072),
            ("64Mi", 64 << 20),
            ("2Gi", 2 << 30),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)));
        }
        for bad in ["", "Mi", "1M", "1.5Gi", "-1", "+1", "1 Mi", "99999999999Gi"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses() {
        for (text, host, port) in [
            ("a.b:1", "a.b", 1),
            (":8000", "", 8000),
            ("[::1]:7443", "::1", 7443),
        ] {
            let address: HostPort = text.parse().unwrap();
            assert_eq!(address, HostPort::new(host, port));
            assert_eq!(address.to_string(), text);
        }
        for bad in [
            "", "a", "a:", "a:b", "::1:2", "a:65536", "a:+1", "a/b:1", "u@h:1", "[::1:2",
        ] {
            assert!(bad.parse::<HostPort>().is_err(), "{bad}");
        }
    }

    #[test]
    fn underscores_in_flag_names_are_dashes() {
        let args = ["x", "--server_port=a_b", "--a_b", "c_d", "--", "--e_f"].map(OsString::from);
        let expected = ["x", "--server-port=a_b", "--a-b", "c_d", "--", "--e_f"];
        assert_eq!(normalize(args), expected.map(OsString::from));
    }
}
