//! What `--help` says beside the flags: usage in lines that fit, and the environment.

use clap::{Arg, Command};

/// Help is read in terminals of this width, and through pipes that tell none.
pub(crate) const COLUMNS: usize = 80;

/// What a command cannot do without, in lines that are not too long.
pub(crate) fn usage(command: &Command) -> String {
    let mut lines = vec![format!("cluster-proxy {} [OPTIONS]", command.get_name())];
    for arg in command.get_arguments().filter(|arg| is_shown(arg)) {
        let arg = spelled(arg);
        let last = lines.last_mut().expect("there is a first");
        if INDENT.len() + last.len() + 1 + arg.len() <= COLUMNS {
            last.push(' ');
            last.push_str(&arg);
        } else {
            lines.push(arg);
        }
    }
    lines.join(&format!("\n{INDENT}"))
}

fn is_shown(arg: &Arg) -> bool {
    arg.is_required_set() || arg.is_positional()
}

fn spelled(arg: &Arg) -> String {
    let value = arg.get_value_names().and_then(|names| names.first());
    let value = value.map_or_else(|| arg.get_id().as_str().to_uppercase(), ToString::to_string);
    match arg.get_long() {
        Some(flag) => format!("--{flag} <{value}>"),
        None if !arg.is_required_set() => format!("[{value}]..."),
        None => format!("<{value}>"),
    }
}

/// The variables that a command reads: those that stand for its flags, and those that have none.
pub(crate) fn environment(command: &Command) -> String {
    let mut variables = Vec::new();
    for arg in command.get_arguments() {
        if let (Some(variable), Some(flag)) = (arg.get_env(), arg.get_long()) {
            let variable = variable.to_string_lossy().into_owned();
            variables.push((variable, format!("--{flag}, where it is not given")));
        }
    }
    let mut add = |name: &str, meaning: &str| variables.push((name.to_owned(), meaning.to_owned()));
    // Those of other programs are hidden, and nothing is reached with them.
    let takes = |flag: &str| {
        let mut own = command
            .get_arguments()
            .filter(|arg| !arg.is_hide_short_help_set());
        own.any(|arg| arg.get_id() == flag)
    };
    if takes("context") {
        add("KUBECONFIG", "--kubeconfig, where it is not given");
    }
    if takes("kubeconfig") {
        add(
            "KUBERNETES_SERVICE_HOST, _PORT",
            "where a pod's kube-apiserver is",
        );
    }
    if takes("kubeconfig") || takes("hub_kubeconfig") || takes("proxy_server_host") {
        add("HTTPS_PROXY, NO_PROXY", PROXY);
        add(
            "ROOT_CA_CERT",
            "CAs of an https:// proxy, beside the system's",
        );
    }
    add(
        "TOKIO_WORKER_THREADS",
        "number of threads [default: half the cores]",
    );
    let width = variables.iter().map(|(name, _)| name.len()).max();
    let width = width.unwrap_or_default();
    let lines = variables
        .iter()
        .map(|(name, meaning)| format!("  {name:width$}  {meaning}"));
    format!("Environment:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

/// A kubeconfig's `proxy-url` goes before it; a pod's own kube-apiserver is reached without.
const PROXY: &str = "an HTTP proxy, and what is reached without";

/// As wide as clap's `Usage: `, and more.
const INDENT: &str = "           ";
