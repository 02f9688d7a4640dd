//! Starts that fail: one line on standard error names flag, file and cause; exit code 64 for a
//! command line that cannot be right, 1 for the rest. And what `--help` and `certs` do.

#![expect(clippy::unwrap_used, reason = "helpers of a test")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// Certificates, a kubeconfig, and files that are none.
struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let out = folder.path().to_str().unwrap();
        let made = cluster_proxy(&["certs", "--out", out, "--cluster", "managed"]);
        assert!(made.status.success(), "{made:?}");
        let files = Self { folder };
        std::fs::write(files.path("text"), "hello").unwrap();
        std::fs::write(files.path("kubeconfig"), files.kubeconfig()).unwrap();
        std::fs::write(files.path("empty.kubeconfig"), "{}").unwrap();
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn kubeconfig(&self) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:1', \
             certificate-authority: {}}}}}]\n\
             users: [{{name: u, user: {{token: t}}}}]\n\
             contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n",
            self.path("ca.crt").display()
        )
    }

    /// A command line that starts, with some flags replaced.
    fn role(&self, role: &str, replaced: &[(&str, &str)]) -> Output {
        let flags: &[(&str, &str)] = match role {
            "proxy-server" => &[
                ("--server-cert", "hub/proxy-server.crt"),
                ("--server-key", "hub/proxy-server.key"),
                ("--server-ca-cert", "ca.crt"),
                ("--cluster-cert", "hub/agent-server.crt"),
                ("--cluster-key", "hub/agent-server.key"),
                ("--cluster-ca-cert", "ca.crt"),
            ],
            "proxy-agent" => &[
                ("--agent-cert", "clusters/managed/proxy-agent.crt"),
                ("--agent-key", "clusters/managed/proxy-agent.key"),
                ("--ca-cert", "ca.crt"),
            ],
            "user-server" => &[
                ("--proxy-ca-cert", "ca.crt"),
                ("--proxy-cert", "hub/user-server-client.crt"),
                ("--proxy-key", "hub/user-server-client.key"),
                ("--server-cert", "hub/user-server.crt"),
                ("--server-key", "hub/user-server.key"),
                ("--service-proxy-ca-cert", "ca.crt"),
                ("--kubeconfig", "kubeconfig"),
            ],
            "service-proxy" => &[
                ("--cert", "clusters/managed/service-proxy.crt"),
                ("--key", "clusters/managed/service-proxy.key"),
                ("--client-ca-cert", "ca.crt"),
                ("--kubeconfig", "kubeconfig"),
            ],
            other => panic!("no role {other}"),
        };
        let mut arguments = vec![role.to_owned()];
        for (flag, file) in flags {
            if !replaced.iter().any(|(replaced, _)| replaced == flag) {
                arguments.push(format!("{flag}={}", self.path(file).display()));
            }
        }
        for (flag, value) in replaced.iter().filter(|(_, value)| !value.is_empty()) {
            arguments.push(format!("{flag}={value}"));
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        cluster_proxy(&arguments)
    }
}

fn cluster_proxy(arguments: &[&str]) -> Output {
    Command::new("timeout")
        .arg("20")
        .arg(env!("CARGO_BIN_EXE_cluster-proxy"))
        .args(arguments)
        .output()
        .unwrap()
}

/// The one line on standard error; logs aside, which begin with a time stamp.
#[track_caller]
fn complaint(output: &Output, code: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    let lines: Vec<_> = said
        .lines()
        .filter(|line| line.starts_with("cluster-proxy"))
        .collect();
    assert_eq!(lines.len(), 1, "not one line: {said}");
    lines[0].to_owned()
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let files = Files::new();
    let (text, absent) = (files.path("text"), files.path("absent"));
    let (text, absent) = (text.to_str().unwrap(), absent.to_str().unwrap());
    let other_key = files.path("hub/proxy-server.key");
    let other_key = other_key.to_str().unwrap();
    let empty = files.path("empty.kubeconfig");
    let empty = empty.to_str().unwrap();
    for (role, flag, value, cause) in [
        ("proxy-server", "--server-cert", absent, "no such file"),
        ("proxy-server", "--server-key", text, "no PEM private key"),
        (
            "proxy-server",
            "--server-ca-cert",
            text,
            "no PEM certificate",
        ),
        (
            "proxy-server",
            "--cluster-key",
            other_key,
            "does not belong to the certificate",
        ),
        ("proxy-server", "--cluster-ca-cert", absent, "no such file"),
        ("proxy-server", "--agent-table-file", absent, "No such file"),
        ("proxy-server", "--agent-table-file", text, "cannot be read"),
        ("proxy-agent", "--agent-cert", text, "no PEM certificate"),
        (
            "proxy-agent",
            "--agent-key",
            other_key,
            "does not belong to the certificate",
        ),
        ("proxy-agent", "--ca-cert", absent, "no such file"),
        ("user-server", "--server-cert", absent, "no such file"),
        (
            "user-server",
            "--server-key",
            other_key,
            "does not belong to the certificate",
        ),
        ("user-server", "--proxy-ca-cert", text, "no PEM certificate"),
        ("user-server", "--proxy-cert", absent, "no such file"),
        (
            "user-server",
            "--service-proxy-ca-cert",
            text,
            "no PEM certificate",
        ),
        ("user-server", "--kubeconfig", absent, ""),
        ("user-server", "--kubeconfig", empty, ""),
        ("service-proxy", "--cert", absent, "no such file"),
        (
            "service-proxy",
            "--key",
            other_key,
            "does not belong to the certificate",
        ),
        (
            "service-proxy",
            "--client-ca-cert",
            text,
            "no PEM certificate",
        ),
        ("service-proxy", "--kubeconfig", text, ""),
        ("service-proxy", "--hub-kubeconfig", absent, ""),
    ] {
        let line = complaint(&files.role(role, &[(flag, value)]), 1);
        let named = line.contains(flag) && line.contains(value) && line.contains(cause);
        assert!(named, "{role} {flag} {value}: {line}");
    }
}

#[test]
fn command_lines_that_cannot_be_right_are_usage_errors() {
    let files = Files::new();
    for (role, flag, value) in [
        ("proxy-server", "--server-cert", ""),
        ("proxy-server", "--server-port", "70000"),
        ("proxy-server", "--server-count", "0"),
        ("proxy-server", "--proxy-strategies", "desthost"),
        ("proxy-server", "--agent-identity", "none"),
        ("proxy-server", "--graceful-shutdown-timeout", "1"),
        ("proxy-agent", "--ca-cert", ""),
        ("proxy-agent", "--proxy-server-host", "https://hub"),
        ("proxy-agent", "--agent-identifiers", "host=%zz"),
        ("proxy-agent", "--service-proxy-address", "7443"),
        ("user-server", "--host", "a b"),
        ("user-server", "--token-review", "nowhere"),
        ("user-server", "--drain-timeout", "soon"),
        ("service-proxy", "--cert", ""),
        ("service-proxy", "--token-review-cache-ttl", "10"),
        ("service-proxy", "--no-such-flag", "1"),
    ] {
        let line = complaint(&files.role(role, &[(flag, value)]), 64);
        assert!(line.contains(flag), "{role} {flag}={value}: {line}");
    }
    let line = complaint(&cluster_proxy(&["proxy-sever"]), 64);
    assert!(line.contains("proxy-sever"), "{line}");
}

#[test]
fn a_port_in_use_is_named() {
    let files = Files::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (role, flag, address) in [
        ("proxy-server", "--server-port", "--server-bind-address"),
        ("proxy-server", "--agent-port", "--agent-bind-address"),
        ("proxy-server", "--health-port", "--health-bind-address"),
        (
            "proxy-agent",
            "--health-server-port",
            "--health-server-host",
        ),
    ] {
        let mut replaced = vec![(flag, port.as_str()), (address, "127.0.0.1")];
        for (other, value) in [
            ("--server-port", "0"),
            ("--agent-port", "0"),
            ("--health-port", "0"),
        ] {
            if role == "proxy-server" && other != flag {
                replaced.push((other, value));
            }
        }
        let line = complaint(&files.role(role, &replaced), 1);
        assert!(line.contains(flag) && line.contains(&port), "{line}");
        assert!(line.contains("in use"), "{line}");
    }
    let address = format!("127.0.0.1:{port}");
    for (role, flag) in [
        ("user-server", "--health-probe-bind-address"),
        ("service-proxy", "--health-probe-bind-address"),
        ("service-proxy", "--bind-address"),
    ] {
        let line = complaint(&files.role(role, &[(flag, &address), free(flag)]), 1);
        assert!(line.contains(flag) && line.contains("in use"), "{line}");
    }
    let line = complaint(
        &files.role(
            "user-server",
            &[("--server-port", &port), ("--bind-address", "127.0.0.1")],
        ),
        1,
    );
    assert!(
        line.contains("--server-port") && line.contains("in use"),
        "{line}"
    );
}

/// The role's other listener on a free port.
fn free(flag: &str) -> (&'static str, &'static str) {
    if flag == "--bind-address" {
        ("--health-probe-bind-address", "127.0.0.1:0")
    } else {
        ("--v", "0")
    }
}

#[test]
fn underscores_and_klog_verbosity_are_taken() {
    let files = Files::new();
    let absent = files.path("absent");
    let output = files.role(
        "proxy-agent",
        &[
            ("--agent_cert", absent.to_str().unwrap()),
            ("--agent-cert", ""),
            ("--v", "2"),
        ],
    );
    let line = complaint(&output, 1);
    assert!(
        line.contains("--agent-cert") && line.contains("no such file"),
        "{line}"
    );
}

#[test]
fn help_teaches() {
    let all = cluster_proxy(&["--help"]);
    assert!(all.status.success());
    let text = String::from_utf8(all.stdout).unwrap();
    for command in [
        "proxy-server",
        "proxy-agent",
        "user-server",
        "service-proxy",
        "certs",
        "quickstart",
    ] {
        assert!(text.contains(command), "{command} is not in {text}");
        let help = cluster_proxy(&[command, "--help"]);
        assert!(help.status.success());
        let help = String::from_utf8(help.stdout).unwrap();
        assert!(
            help.lines().count() > 10 && help.contains("Usage:"),
            "{help}"
        );
    }
}

#[test]
fn certs_adds_and_keeps() {
    let files = Files::new();
    let out = files.folder.path().to_str().unwrap();
    let read = |name: &str| std::fs::read_to_string(files.path(name)).unwrap();
    let (ca, old) = (read("ca.crt"), read("clusters/managed/proxy-agent.crt"));
    let more = [
        "certs",
        "--out",
        out,
        "--cluster",
        "managed",
        "--cluster",
        "second",
        "-o",
        "json",
    ];
    let listed = cluster_proxy(&more);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let state = |name: &str| {
        let file = files.path(name);
        let files = listed["files"].as_array().unwrap().iter();
        let mut found = files.filter(|entry| entry["certificate"] == file.to_str().unwrap());
        found.next().unwrap()["state"].clone()
    };
    assert_eq!(state("clusters/managed/proxy-agent.crt"), "kept");
    assert_eq!(state("clusters/second/proxy-agent.crt"), "made");
    assert_eq!(
        (ca.clone(), old.clone()),
        (read("ca.crt"), read("clusters/managed/proxy-agent.crt"))
    );
    let renewed = cluster_proxy(&["certs", "--out", out, "--cluster", "managed", "--renew"]);
    assert!(renewed.status.success());
    assert_eq!(ca, read("ca.crt"));
    assert_ne!(old, read("clusters/managed/proxy-agent.crt"));
    assert_eq!(mode(&files.path("ca.key")), 0o600);
    assert_eq!(
        mode(&files.path("clusters/second/service-proxy.key")),
        0o600
    );

    std::fs::remove_file(files.path("ca.key")).unwrap();
    let line = complaint(&cluster_proxy(&["certs", "--out", out]), 1);
    assert!(line.contains("ca.crt is there without"), "{line}");
    let line = complaint(
        &cluster_proxy(&["certs", "--out", out, "--cluster", "A/B"]),
        64,
    );
    assert!(line.contains("--cluster"), "{line}");
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}
