//! `kubeconfig` and `credential` as programs: against an embedded hub, and through a real
//! user-server to an embedded managed cluster.

mod hub;
mod user_server;

use std::path::Path;
use std::process::Command;

use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};

/// The program, with a home of its own.
fn program(home: &Path, arguments: &[&str]) -> Command {
    let mut program = Command::new("timeout");
    program
        .arg("60")
        .arg(env!("CARGO_BIN_EXE_cluster-proxy"))
        .args(arguments)
        .env("HOME", home)
        .env_remove("KUBECONFIG");
    for variable in ["HTTPS_PROXY", "https_proxy"] {
        program.env_remove(variable);
    }
    program
}

/// What it prints when all goes well.
fn printed(home: &Path, arguments: &[&str]) -> String {
    printed_by(program(home, arguments))
}

fn printed_by(mut program: Command) -> String {
    let output = program.output().expect("the program starts");
    assert!(output.status.success(), "{program:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The one line and the exit code of a failure. Nothing is printed beside it.
fn failure(home: &Path, arguments: &[&str]) -> (String, Option<i32>) {
    let output = program(home, arguments).output();
    let output = output.expect("the program starts");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(output.stdout.is_empty(), "{arguments:?} printed something");
    assert_eq!(said.lines().count(), 1, "{said}");
    (said, output.status.code())
}

/// A client that reads kubeconfigs as client-go does, exec plugins included.
async fn client(kubeconfig: &Path, context: &str) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let options = KubeConfigOptions {
        context: Some(context.to_owned()),
        ..KubeConfigOptions::default()
    };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    Client::try_from(config.expect("a configuration")).expect("a client")
}
