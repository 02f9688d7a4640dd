//! Flags of the admin listener, the same for both of konnectivity's programs.

use cluster_proxy_runtime::admin::Page;
use cluster_proxy_runtime::flags::HostPort;

use crate::role::{AdminPort, Role};

/// Where the admin listener is, but for the port, whose flag has two names.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Operations")]
pub(crate) struct AdminFlags {
    /// Address of the admin listener; empty is 127.0.0.1 too.
    #[arg(long, default_value = LOOPBACK, value_name = "ADDRESS")]
    admin_bind_address: String,
    /// Answer /debug/pprof on the admin listener with 501 and what to use instead: profiles there
    /// are those of Go programs.
    #[arg(long)]
    enable_profiling: bool,
}

impl AdminFlags {
    /// Has `role` serve the listener at the port that the flag of this name gives, or its default.
    pub(crate) fn serve(
        self,
        (flag, port, default): (&'static str, Option<u16>, u16),
        mut pages: Vec<Page>,
        role: &mut Role,
    ) {
        let Self {
            admin_bind_address: host,
            enable_profiling,
        } = self;
        if port == Some(0) {
            return;
        }
        if enable_profiling {
            pages.push(Page::not_implemented("/debug/pprof", NO_PROFILES));
        }
        let host = if host.is_empty() { LOOPBACK } else { &host };
        role.admin(AdminPort {
            flag,
            address: HostPort::new(host, port.unwrap_or(default)),
            required: port.is_some(),
            pages,
        });
    }
}

const LOOPBACK: &str = "127.0.0.1";

const NO_PROFILES: &str = "this program has no Go profiles; profile the process from outside, with \
                           perf record -g -p PID";
