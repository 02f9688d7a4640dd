//! Logs to standard error: one line an event for people, one JSON object an event for programs.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One readable line; colours on a terminal only.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Sends all events of this process to standard error. `level` is a filter such as `info` or
/// `info,cluster_proxy_tunnel=debug`.
///
/// A second call in one process changes nothing: the first one's logs go on.
///
/// # Errors
/// When `level` is not a filter.
pub fn init(level: &str, format: Format) -> Result<(), String> {
    let filter = EnvFilter::try_new(level).map_err(|error| error.to_string())?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let outcome = match format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    if outcome.is_err() {
        tracing::debug!("logs were set up before");
    }
    Ok(())
}

/// The filter that klog's `--v=N` stands for: 0 to 3 are for operators, 4 and 5 for debugging,
/// beyond that every message of ours. Libraries stay at `info`: their frames and headers would bury
/// everything else, and may hold what must not be logged.
#[must_use]
pub fn level_of_verbosity(verbosity: u8) -> &'static str {
    match verbosity {
        0..=3 => "info",
        4 | 5 => "info,cluster_proxy=debug",
        _ => "info,cluster_proxy=trace",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_an_error() {
        assert!(init("info,=", Format::Text).is_err());
        assert_eq!(level_of_verbosity(2), "info");
        for (verbosity, level) in [(4, "debug"), (10, "trace")] {
            let filter = level_of_verbosity(verbosity);
            assert_eq!(filter, format!("info,cluster_proxy={level}"));
            assert!(EnvFilter::try_new(filter).is_ok());
        }
    }
}
