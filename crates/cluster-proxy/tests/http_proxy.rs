//! The programs of the agent's pod with a proxy in their environment.

#![expect(clippy::unwrap_used, reason = "helpers of a test")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cluster_proxy_testkit::http_proxy::{HttpProxy, HttpProxyScript};
use cluster_proxy_testkit::process::Running;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(20);

fn program(role: &str, proxy: &HttpProxy) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cluster-proxy"));
    let url = format!("http://agent:s3cret@{}", proxy.address());
    command
        .arg(role)
        .env("HTTPS_PROXY", url)
        .env_remove("NO_PROXY")
        .env_remove("no_proxy");
    command
}

fn certificates() -> TempDir {
    let folder = TempDir::new().unwrap();
    let made = Command::new(env!("CARGO_BIN_EXE_cluster-proxy"))
        .args(["certs", "--cluster", "managed", "--out"])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    folder
}

fn proxy_agent(folder: &Path, proxy: &HttpProxy) -> Command {
    let mut command = program("proxy-agent", proxy);
    for (flag, file) in [
        ("agent-cert", "clusters/managed/proxy-agent.crt"),
        ("agent-key", "clusters/managed/proxy-agent.key"),
        ("ca-cert", "ca.crt"),
    ] {
        command.arg(format!("--{flag}={}", folder.join(file).display()));
    }
    command.args([
        "--proxy-server-host=hub.test",
        "--proxy-server-port=8443",
        "--health-server-host=127.0.0.1",
        "--health-server-port=0",
    ]);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_agent_asks_the_proxy_of_its_environment() {
    let folder = certificates();
    let proxy = HttpProxy::start(HttpProxyScript::default()).await.unwrap();
    let command = proxy_agent(folder.path(), &proxy);
    let mut agent = Running::start("proxy-agent", command).unwrap();
    let line = agent.wait_for_line("no connection to a proxy-server", LIMIT);
    let line = line.unwrap();
    let said = format!(
        "the HTTP proxy http://{} answered 502 Bad Gateway to CONNECT hub.test:8443",
        proxy.address()
    );
    assert!(line.contains(&said), "{line}");
    assert!(
        agent
            .find_line("the hub is reached through an HTTP proxy")
            .is_some()
    );
    let heads = proxy.heads();
    // `agent:s3cret`
    assert!(heads[0].contains("Basic YWdlbnQ6czNjcmV0"), "{heads:?}");
    agent.terminate().unwrap();
    let shown = agent.find_line("s3cret");
    assert!(shown.is_none(), "{shown:?}");
}
