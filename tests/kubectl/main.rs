//! Everything kubectl does, through the user-server with a hub user's token, in two real clusters:
//! by an old and a new kubectl, over WebSocket and over SPDY. What a command says is compared with
//! what the same command says when it asks the managed cluster directly.
//! `CLUSTER_PROXY_LONG=1` leaves connections idle for ten minutes.

mod changing;
mod clients;
mod consoles;
mod conversation;
mod copying;
mod idle;
mod kubectl;
mod looking;
mod setting;
mod stalls;
mod streams;

use std::process::ExitCode;

use crate::setting::Setting;

fn main() -> ExitCode {
    cluster_proxy_tests::run(
        "kubectl",
        Setting::new,
        &[
            (
                "get and its kin print what they print directly",
                looking::as_directly,
            ),
            ("get --raw, with the cluster's prefix", looking::raw),
            ("a list of 5 MB, whole and in chunks", looking::large_lists),
            ("get -w", looking::watch),
            ("auth whoami and can-i", looking::who),
            ("top", looking::top),
            ("apply, diff and delete", changing::apply),
            ("server-side apply of 900 KiB", changing::large_objects),
            ("patch, in all three types", changing::patch),
            ("wait", changing::wait),
            ("rollout restart, status and undo, scale", changing::rollout),
            ("logs -f", streams::logs),
            (
                "exec: exit code, streams apart, 1 MB of stdin",
                streams::exec,
            ),
            (
                "WebSocket and SPDY are what they are said to be",
                streams::transports,
            ),
            ("exec -it: a terminal and its size", streams::terminal),
            ("attach", streams::attach),
            ("run -i --rm", streams::run),
            ("debug", streams::debug),
            ("cp of 10 MB both ways", copying::copy),
            ("port-forward, 32 connections", copying::port_forward),
            ("kubectl proxy", consoles::with_the_cluster_in_the_path),
            ("kubectl proxy --append-server-path", consoles::appending),
            (
                "kubectl proxy under a path prefix",
                consoles::under_a_prefix,
            ),
            ("curl over HTTP/1.1 and HTTP/2", clients::curl_versions),
            ("helm install, upgrade and uninstall", clients::helm),
            ("the Python client", clients::python),
            ("kube-rs", clients::kube_rs),
            ("100 readers that stop, others go on", stalls::others_go_on),
            ("idle streams live on", idle::live_on),
        ],
    )
}
