//! docs/flags.md, made of the definitions that the program itself reads its command line with.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, ArgAction, Command};

use crate::command_line::{PROGRAMS, definition};
use crate::flags::{KLOG_HEADING, LOGS_HEADING};

#[test]
fn the_page_of_flags_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/flags.md");
    let made = page();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &made).expect("docs/ can be written");
    }
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == made,
        "docs/flags.md is not what the program takes; look at what UPDATE_GOLDEN=1 changes"
    );
}

#[test]
fn every_flag_has_a_help_that_stands_alone() {
    for command in definition().get_subcommands() {
        for arg in command.get_arguments() {
            let help = help(arg);
            let flag = format!("{} {}", command.get_name(), name(arg));
            assert!(help.len() > 12, "{flag}: {help:?}");
            for pointing in ["Its ", "The same", "of the same"] {
                assert!(!help.contains(pointing), "{flag}: {help:?}");
            }
        }
    }
}

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    let mut logs: Option<(Vec<String>, Vec<String>)> = None;
    let definition = definition();
    for command in definition.get_subcommands() {
        let program = command.get_name();
        let called = PROGRAMS.iter().find(|(_, command)| *command == program);
        write!(page, "\n## {program}\n\n").expect("a string takes it");
        if let Some((called, _)) = called {
            write!(page, "Also `/{called}` in the image. ").expect("a string takes it");
        }
        let about = command.get_about().expect("every command has one");
        writeln!(page, "{}.", about.to_string().trim_end_matches('.')).expect("a string takes it");
        let (shared, own): (Vec<_>, Vec<_>) = groups(command)
            .into_iter()
            .partition(|(heading, _)| [LOGS_HEADING, KLOG_HEADING].contains(heading));
        for (heading, flags) in own {
            write!(page, "\n### {program}: {heading}\n\n{}", table(&flags)).expect("a string");
        }
        if !shared.is_empty() {
            let tables: Vec<_> = shared.iter().map(|(_, flags)| table(flags)).collect();
            let (known, programs) = logs.get_or_insert_with(|| (tables.clone(), Vec::new()));
            assert!(*known == tables, "the logs of {program} are others");
            programs.push(format!("`{program}`"));
        }
    }
    let (tables, programs) = logs.expect("programs have logs");
    write!(
        page,
        "\n## Logs\n\nOf {}.\n\n{}\n### {KLOG_HEADING}\n\n{}",
        programs.join(", "),
        tables[0],
        tables[1]
    )
    .expect("a string takes it");
    page
}

/// A command's flags under their headings, in the order of its help.
fn groups(command: &Command) -> Vec<(&str, Vec<&Arg>)> {
    let mut groups: Vec<(&str, Vec<&Arg>)> = Vec::new();
    for arg in command.get_arguments() {
        let heading = arg.get_help_heading().unwrap_or("Options");
        match groups.iter_mut().find(|(known, _)| *known == heading) {
            Some((_, flags)) => flags.push(arg),
            None => groups.push((heading, vec![arg])),
        }
    }
    groups
}

fn table(flags: &[&Arg]) -> String {
    if flags.iter().all(|arg| is_foreign(arg)) {
        return foreign_table(flags);
    }
    let mut table = "| flag | value | default | meaning |\n|---|---|---|---|\n".to_owned();
    for arg in flags {
        let mut spellings = vec![format!("`{}`", name(arg))];
        let aliases = arg.get_visible_aliases().unwrap_or_default();
        spellings.extend(aliases.iter().map(|alias| format!("`--{alias}`")));
        spellings.extend(arg.get_short().map(|short| format!("`-{short}`")));
        writeln!(
            table,
            "| {} | {} | {} | {} |",
            spellings.join(", "),
            value(arg),
            default(arg),
            help(arg)
        )
        .expect("a string takes it");
    }
    table
}

/// Of another program, and without effect or refused here.
fn is_foreign(arg: &Arg) -> bool {
    arg.is_hide_short_help_set()
}

fn foreign_table(flags: &[&Arg]) -> String {
    let mut table = "| flag | value | here | meaning there |\n|---|---|---|---|\n".to_owned();
    for arg in flags {
        let help = help(arg);
        let (meaning, here) = help.rsplit_once(" (").expect("it says what happens");
        writeln!(
            table,
            "| `{}` | {} | {} | {meaning} |",
            name(arg),
            arg.get_value_names().expect("it has one")[0],
            here.trim_end_matches(')')
        )
        .expect("a string takes it");
    }
    table
}

fn name(arg: &Arg) -> String {
    match arg.get_long() {
        Some(name) => format!("--{name}"),
        None => arg.get_id().as_str().to_uppercase(),
    }
}

/// What its values look like, and that there may be several.
fn value(arg: &Arg) -> String {
    let names = arg.get_value_names().and_then(|names| names.first());
    let kind = names.map_or("BOOL", |name| name.as_str());
    let choices: Vec<_> = arg
        .get_possible_values()
        .iter()
        .map(|choice| choice.get_name().to_owned())
        .collect();
    let kind = if choices.is_empty() {
        kind.to_owned()
    } else {
        choices.join(", ")
    };
    if matches!(arg.get_action(), ArgAction::Append) && arg.get_value_delimiter().is_none() {
        format!("{kind}, repeatable")
    } else {
        kind
    }
}

fn default(arg: &Arg) -> String {
    let defaults: Vec<_> = arg
        .get_default_values()
        .iter()
        .map(|value| value.to_string_lossy())
        .collect();
    let told = whole_help(arg).rsplit_once("[default: ").map(|(_, told)| {
        let (told, _) = told.split_once(']').expect("it is closed");
        told.to_owned()
    });
    let default = match told {
        Some(told) => told,
        None if arg.is_required_set() => "required".to_owned(),
        None if defaults.iter().all(|value| value.is_empty()) => String::new(),
        None => format!("`{}`", defaults.join(",")),
    };
    match arg.get_env() {
        Some(variable) => {
            let variable = format!("`${}`", variable.to_string_lossy());
            if default.is_empty() {
                variable
            } else {
                format!("{variable}, or {default}")
            }
        }
        None => default,
    }
}

fn whole_help(arg: &Arg) -> String {
    let help = arg.get_long_help().or_else(|| arg.get_help());
    help.map(ToString::to_string).unwrap_or_default()
}

/// The help in one line, without what other columns say.
fn help(arg: &Arg) -> String {
    let help = whole_help(arg);
    let mut help = match help.rsplit_once(" [default: ") {
        Some((before, _)) => before.to_owned(),
        None => help,
    };
    for choice in arg.get_possible_values() {
        if let Some(meaning) = choice.get_help() {
            let name = choice.get_name();
            write!(
                help,
                ". `{name}`: {}",
                meaning.to_string().trim_end_matches('.')
            )
            .expect("a string takes it");
        }
    }
    help.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}

const INTRODUCTION: &str = "\
# Flags

Made from what the program itself reads its command line with:
`UPDATE_GOLDEN=1 cargo test -p cluster-proxy flags_page`. `cluster-proxy PROGRAM --help` says the
same, and `--version` the version.

| value | form |
|---|---|
| BOOL | `--flag` alone, or `--flag=true` and `--flag=false` as Go spells them (`1`, `t`, `F`); never apart from its flag |
| DURATION | as Go writes it: `30s`, `1m30s`, `200ms`, `1h0m0s`, `0` |
| HOST:PORT | `127.0.0.1:8000`, `[::1]:8000`, or `:8000` for all addresses |
| FILE | a path; certificates and keys are read again when they change |

`--a_b` is `--a-b`. Of a flag given twice the last value holds, so that what is appended to a
command line replaces what is there; the repeatable ones keep every value.

The exit code of a command line that cannot be right is 64, of every other failure 1; one line on
standard error says which flag, which file, and why.

| variable | meaning |
|---|---|
| `HTTPS_PROXY`, `NO_PROXY`, `ROOT_CA_CERT` | HTTP proxy on the way to the hub and to the servers of kubeconfigs, what is reached without it, and a file with CAs of an https:// proxy; a kubeconfig's `proxy-url` goes before them |
| `KUBERNETES_SERVICE_HOST`, `KUBERNETES_SERVICE_PORT` | where a pod's kube-apiserver is, without `--kubeconfig` |
| `TOKIO_WORKER_THREADS` | number of threads; without it, half the cores |

Flags of konnectivity and of the Go cluster-proxy are in tables of their own. Most are accepted and
have no effect; those whose effect would be missed are refused at the start.
";
