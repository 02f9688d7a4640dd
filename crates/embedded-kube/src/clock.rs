//! Times as Kubernetes writes them (RFC 3339, whole seconds, UTC), and ages as kubectl shows them.

use jiff::Timestamp;

/// Now, as in `creationTimestamp`.
pub(crate) fn now() -> String {
    seconds(Timestamp::now())
}

/// A time as in `creationTimestamp`.
pub(crate) fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A time as `MicroTime`, e.g. of a Lease.
pub(crate) fn microseconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// A time with nanoseconds, as a kubelet stamps log lines.
pub(crate) fn nanoseconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string()
}

/// How long ago a time was, in kubectl's words; `<unknown>` for what is no time.
pub(crate) fn age(time: &str) -> String {
    time.parse::<Timestamp>().map_or_else(
        |_| "<unknown>".to_owned(),
        |time| human(Timestamp::now().as_second() - time.as_second()),
    )
}

/// `HumanDuration` of apimachinery (pkg/util/duration).
pub(crate) fn human(seconds: i64) -> String {
    let minutes = seconds / 60;
    let hours = minutes / 60;
    let days = hours / 24;
    match seconds {
        i64::MIN..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 24 * 8 => two(days, "d", hours % 24, "h"),
        _ if days < 365 * 2 => format!("{days}d"),
        _ if days < 365 * 8 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

fn two(large: i64, large_unit: &str, small: i64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large}{large_unit}")
    } else {
        format!("{large}{large_unit}{small}{small_unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_as_in_kubectl() {
        for (seconds, text) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (119, "119s"),
            (120, "2m"),
            (150, "2m30s"),
            (600, "10m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 60, "3h1m"),
            (9 * 3600, "9h"),
            (50 * 3600, "2d2h"),
            (10 * 86400, "10d"),
            (800 * 86400, "2y70d"),
            (4000 * 86400, "10y"),
        ] {
            assert_eq!(human(seconds), text);
        }
    }

    #[test]
    fn times_have_whole_seconds_in_utc() {
        let time = Timestamp::from_second(1_700_000_000).unwrap();
        assert_eq!(seconds(time), "2023-11-14T22:13:20Z");
        assert_eq!(microseconds(time), "2023-11-14T22:13:20.000000Z");
        assert_eq!(nanoseconds(time), "2023-11-14T22:13:20.000000000Z");
    }
}
