//! Flags that several commands share, and usage errors in one line.

use std::path::Path;

use clap::{Args, ValueEnum};
use cluster_proxy_identity::tls::FlagFile;
use cluster_proxy_runtime::drain::DrainLimits;
use cluster_proxy_runtime::error::StartError;
use cluster_proxy_runtime::flags::{ByteSize, GoDuration};
use cluster_proxy_runtime::{logs, memory};

use crate::foreign_flags::{ForeignFlag, ForeignFlags, Kind, Table, ignored};

/// Over the flags of logs in `--help`.
pub(crate) const LOGS_HEADING: &str = "Logs";

/// Over klog's that have no effect here.
pub(crate) const KLOG_HEADING: &str = "Logs, as klog has them";

/// What slow readers may make a tunnel's program hold.
#[derive(Debug, Clone, Args)]
pub(crate) struct UnreadFlags {
    /// Bytes that the readers of all connections together may leave unread here, such as 512Mi;
    /// beyond it the connection whose reader has taken nothing for the longest is cut [default: a
    /// quarter of the memory that the container, or else the machine, has].
    #[arg(long, value_name = "BYTES", help_heading = "Operations")]
    unread_limit: Option<ByteSize>,
}

impl UnreadFlags {
    /// The limit.
    pub(crate) fn bytes(&self) -> u64 {
        self.unread_limit
            .map_or_else(default_unread_limit, |limit| limit.0)
    }
}

/// The limit of who sets none.
pub(crate) fn default_unread_limit() -> u64 {
    let share = memory::limit().map_or(LEAST_UNREAD, |memory| memory / UNREAD_SHARE);
    share.max(LEAST_UNREAD)
}

/// A quarter: as much again may hang on the frames that the bytes came in, and half is left for
/// everything else.
const UNREAD_SHARE: u64 = 4;

/// Where memory is tight or unknown: 64 readers whose windows are full.
const LEAST_UNREAD: u64 = 64 * 1024 * 1024;

/// How the program logs.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = LOGS_HEADING)]
pub(crate) struct LogFlags {
    /// What is logged: error, warn, info, debug or trace, or a filter such as
    /// `info,cluster_proxy_tunnel=debug`. Beats --v.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,

    /// How events are written to standard error.
    #[arg(
        long,
        visible_alias = "logging-format",
        value_enum,
        default_value_t = LogFormat::Text,
        value_name = "FORMAT"
    )]
    log_format: LogFormat,

    /// Verbosity as klog counts it: 4 is debug, 6 and more is trace.
    #[arg(long, short = 'v', default_value_t = 0, value_name = "N")]
    v: u8,

    #[command(flatten)]
    klog: ForeignFlags<Klog>,
}

/// The rest of klog's flags: everything goes to standard error here.
#[derive(Debug, Clone)]
struct Klog;

impl Table for Klog {
    const HEADING: &'static str = KLOG_HEADING;
    const FLAGS: &'static [ForeignFlag] = &[
        ignored("vmodule", Kind::Text, "Verbosity by file"),
        ignored("logtostderr", Kind::Bool, "Log to standard error"),
        ignored("alsologtostderr", Kind::Bool, "Log to standard error too"),
        ignored("log-dir", Kind::Text, "Folder of log files"),
        ignored("log-file", Kind::Text, "Log file"),
        ignored(
            "log-file-max-size",
            Kind::Number,
            "Size of the log file in MB",
        ),
        ignored(
            "log-flush-frequency",
            Kind::Duration,
            "Time between flushes",
        ),
        ignored(
            "stderrthreshold",
            Kind::Text,
            "Least severity for standard error",
        ),
        ignored(
            "legacy-stderr-threshold-behavior",
            Kind::Bool,
            "How --stderrthreshold is read",
        ),
        ignored("skip-headers", Kind::Bool, "No headers before messages"),
        ignored("skip-log-headers", Kind::Bool, "No headers in log files"),
        ignored(
            "add-dir-header",
            Kind::Bool,
            "Folder of the source in headers",
        ),
        ignored(
            "one-output",
            Kind::Bool,
            "Each severity to its own file only",
        ),
        ignored("log-backtrace-at", Kind::Text, "Stack trace at file:line"),
    ];
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

impl LogFlags {
    /// Begins to log, at the level of --v unless --log-level says otherwise.
    pub(crate) fn init(&self) -> Result<(), StartError> {
        self.init_at(logs::level_of_verbosity(self.v))
    }

    /// Begins to log errors and warnings, unless a flag says otherwise.
    pub(crate) fn init_quietly(&self) -> Result<(), StartError> {
        self.init_at(if self.v == 0 {
            "warn"
        } else {
            logs::level_of_verbosity(self.v)
        })
    }

    fn init_at(&self, default_level: &str) -> Result<(), StartError> {
        let Self {
            log_level,
            log_format,
            v: _,
            klog,
        } = self;
        let level = log_level.as_deref().unwrap_or(default_level);
        let format = match log_format {
            LogFormat::Text => logs::Format::Text,
            LogFormat::Json => logs::Format::Json,
        };
        logs::init(level, format).map_err(|cause| StartError::usage("--log-level", cause))?;
        klog.check()
    }
}

/// One line from clap's several: what is wrong, and where help is.
#[expect(clippy::print_stderr, reason = "usage errors go to standard error")]
pub(crate) fn print_usage_error(error: &clap::Error) {
    let rendered = error.render().to_string();
    let cause = rendered.split("\n\n").next().unwrap_or_default();
    let cause = cause.split_whitespace().collect::<Vec<_>>().join(" ");
    let cause = cause.strip_prefix("error: ").unwrap_or(&cause);
    eprintln!("cluster-proxy: {cause} (see --help)");
}

/// How long a role takes to end.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Drain")]
pub(crate) struct DrainFlags {
    /// After SIGTERM, go on accepting for this long (readyz answers 503 at once).
    #[arg(long, default_value = "10s", value_name = "DURATION")]
    min_drain_duration: GoDuration,

    /// Then let open requests run for this long before they are cut.
    #[arg(long, default_value = "30s", value_name = "DURATION")]
    drain_timeout: GoDuration,
}

impl DrainFlags {
    pub(crate) fn limits(&self) -> DrainLimits {
        let Self {
            min_drain_duration,
            drain_timeout,
        } = self;
        DrainLimits {
            min: min_drain_duration.0,
            limit: drain_timeout.0,
        }
    }
}

/// A certificate or key file named by a flag.
pub(crate) fn file(flag: &'static str, path: &Path) -> FlagFile {
    FlagFile::new(flag, path)
}
