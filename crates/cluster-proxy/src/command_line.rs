//! The whole command line: every command's flags, read as Go's programs read theirs.

use std::any::TypeId;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::{Arg, ArgAction, CommandFactory as _, FromArgMatches as _, Parser};

use crate::commands::Command;
use crate::foreign_flags::go_bool;
use crate::help;

/// Reach the kube-apiserver of managed clusters that the hub cannot dial.
///
/// Agents in the managed clusters dial out to the hub; requests travel back through those
/// connections. `quickstart` shows it at work on this machine.
#[derive(Debug, Parser)]
#[command(name = "cluster-proxy", version, propagate_version = true)]
#[command(arg_required_else_help = true)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl CommandLine {
    /// Reads `args`, the program's own name first.
    ///
    /// # Errors
    /// clap's, help and version among them.
    pub(crate) fn read(args: Vec<OsString>) -> Result<Self, clap::Error> {
        let args = cluster_proxy_runtime::flags::normalize(with_subcommand(args));
        let matches = definition().try_get_matches_from(args)?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut definition()))
    }
}

/// Names under which this program is one of its commands, with that command's flags: images of the
/// Go cluster-proxy have programs of these names, and charts start them.
pub(crate) const PROGRAMS: &[(&str, &str)] = &[
    ("agent", "addon-agent"),
    ("manager", "manager"),
    ("proxy-agent", "proxy-agent"),
    ("proxy-server", "proxy-server"),
];

/// The command line with the command that the program's own name stands for.
fn with_subcommand(mut args: Vec<OsString>) -> Vec<OsString> {
    let called = args.first().map(Path::new).and_then(Path::file_name);
    let program = PROGRAMS
        .iter()
        .find(|(name, _)| called == Some(OsStr::new(name)));
    if let Some((_, command)) = program {
        args.insert(1, OsString::from(command));
    }
    args
}

/// Every command and flag, as clap takes them.
pub(crate) fn definition() -> clap::Command {
    CommandLine::command()
        // A flag given twice has its last value, as with Go's flag packages: what a chart appends
        // replaces what it rendered. Flags that are lists keep every value.
        .args_override_self(true)
        .max_term_width(help::COLUMNS)
        .mut_subcommands(|command| {
            let (usage, environment) = (help::usage(&command), help::environment(&command));
            command
                .override_usage(usage)
                .mut_args(go_boolean)
                .after_long_help(environment)
        })
}

/// A boolean flag as Go's programs take it: alone, or with `=` and any of Go's spellings.
fn go_boolean(arg: Arg) -> Arg {
    let is_boolean = arg.get_value_parser().type_id() == TypeId::of::<bool>();
    if !is_boolean || !matches!(arg.get_action(), ArgAction::Set | ArgAction::SetTrue) {
        return arg;
    }
    let has_default = !arg.get_default_values().is_empty();
    let arg = arg
        .action(ArgAction::Set)
        .value_parser(go_bool)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .value_name("BOOL");
    if has_default {
        arg
    } else {
        arg.default_value("false")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<CommandLine, String> {
        let args = line.split_whitespace().map(OsString::from).collect();
        CommandLine::read(args).map_err(|error| error.to_string())
    }

    fn matches(line: &str) -> clap::ArgMatches {
        let matches = definition().try_get_matches_from(line.split_whitespace());
        let (_, matches) = matches
            .unwrap_or_else(|error| panic!("{error}"))
            .remove_subcommand()
            .expect("a command");
        matches
    }

    const AGENT: &str = "cluster-proxy proxy-agent --agent-cert=a --agent-key=b --ca-cert=c";
    const SERVICE_PROXY: &str = "cluster-proxy service-proxy --cert=a --key=b";

    #[test]
    fn the_definitions_are_sound() {
        definition().debug_assert();
    }

    #[test]
    fn of_a_repeated_flag_the_last_value_holds() {
        let line = format!("{AGENT} --proxy-server-port=1 --proxy-server-port=2 --agent-cert=d");
        let given = matches(&line);
        assert_eq!(given.get_one::<u16>("proxy_server_port"), Some(&2));
        assert_eq!(
            given.get_one::<std::path::PathBuf>("agent_cert"),
            Some(&"d".into())
        );
        let line = format!("{SERVICE_PROXY} --enable-impersonation --enable-impersonation=false");
        assert!(!matches(&line).get_flag("enable_impersonation"));
        let given = matches("cluster-proxy manager -v2 --v=4 --leader-elect=true --leader-elect=F");
        assert_eq!(given.get_one::<u8>("v"), Some(&4));
        assert!(!given.get_flag("leader_elect"));
    }

    #[test]
    fn a_list_keeps_every_value() {
        let line = format!("{SERVICE_PROXY} --impersonate-extra-key=a --impersonate-extra-key b");
        let given = matches(&line);
        let keys: Vec<&String> = given
            .get_many("impersonate_extra_key")
            .expect("given")
            .collect();
        assert_eq!(keys, ["a", "b"]);
    }

    #[test]
    fn booleans_are_gos() {
        for (given, value) in [
            ("", false),
            ("--sync-forever", true),
            ("--sync-forever=true", true),
            ("--sync_forever=T", true),
            ("--sync-forever --sync-forever=0", false),
        ] {
            let args = format!("{AGENT} {given}");
            let args = args.split_whitespace().map(OsString::from);
            let args = cluster_proxy_runtime::flags::normalize(args);
            let matches = definition().try_get_matches_from(args);
            let (_, matches) = matches
                .unwrap_or_else(|error| panic!("{given}: {error}"))
                .remove_subcommand()
                .expect("a command");
            assert_eq!(matches.get_flag("sync_forever"), value, "{given}");
        }
        assert!(read(&format!("{AGENT} --sync-forever=no")).is_err());
        read(&format!("{SERVICE_PROXY} --enable-impersonation=1")).expect("Go takes it");
    }

    #[test]
    fn every_command_tells_its_version_and_fits_a_terminal() {
        let version = env!("CARGO_PKG_VERSION");
        for command in definition().get_subcommands().map(clap::Command::get_name) {
            let said = read(&format!("cluster-proxy {command} --version")).unwrap_err();
            assert_eq!(said.trim(), format!("cluster-proxy-{command} {version}"));
            let help = read(&format!("cluster-proxy {command} --help")).unwrap_err();
            for line in help.lines() {
                assert!(line.chars().count() <= help::COLUMNS, "{command}: {line}");
            }
        }
        for (program, command) in PROGRAMS {
            let said = read(&format!("/{program} --version")).unwrap_err();
            assert_eq!(said.trim(), format!("cluster-proxy-{command} {version}"));
        }
        let said = read("/cluster-proxy --version").unwrap_err();
        assert_eq!(said.trim(), format!("cluster-proxy {version}"));
    }
}
