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
        ("proxy-server", "--agent-table-configmap", "no-namespace"),
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
    let socket = files.path("server.sock");
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
        ("proxy-server", "--admin-port", "--admin-bind-address"),
        ("proxy-agent", "--admin-server-port", "--admin-bind-address"),
    ] {
        let mut replaced = vec![(flag, port.as_str()), (address, "127.0.0.1")];
        if role == "proxy-server" && flag != "--server-port" {
            replaced.push(("--uds-name", socket.to_str().unwrap()));
        }
        for (other, value) in [
            ("--server-port", "0"),
            ("--agent-port", "0"),
            ("--health-port", "0"),
            ("--health-server-port", "0"),
        ] {
            let is_agents = other == "--health-server-port";
            if (role == "proxy-agent") == is_agents && other != flag {
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

/// What a chart appends to the flags that it renders replaces them.
#[test]
fn of_a_repeated_flag_the_last_value_holds() {
    let files = Files::new();
    let absent = files.path("absent");
    let line = complaint(
        &files.role(
            "proxy-agent",
            &[
                ("--ca-cert", "/rendered"),
                ("--sync-forever", "true"),
                ("--sync-forever", "false"),
                ("--ca-cert", absent.to_str().unwrap()),
            ],
        ),
        1,
    );
    let named = line.contains(absent.to_str().unwrap());
    assert!(named && line.contains("--ca-cert"), "{line}");
    let mode = [("--mode", "http-connect"), ("--mode", "grpc")];
    let line = complaint(
        &files.role(
            "proxy-server",
            &[&mode[..], &[("--server-cert", "/absent")]].concat(),
        ),
        1,
    );
    assert!(line.contains("--server-cert /absent"), "{line}");
}

/// Every flag of the Go programs that does nothing here, as charts write them.
#[test]
fn flags_of_the_go_programs_are_taken() {
    let files = Files::new();
    let klog = [
        ("--v", "2"),
        ("--vmodule", "server=5"),
        ("--logtostderr", "true"),
        ("--alsologtostderr", "false"),
        ("--log_dir", "/var/log"),
        ("--log-file", "x"),
        ("--log_file_max_size", "1800"),
        ("--stderrthreshold", "2"),
        ("--skip_headers", "T"),
        ("--skip-log-headers", "0"),
        ("--add_dir_header", "false"),
        ("--one-output", "false"),
        ("--log_backtrace_at", ":0"),
        ("--logging-format", "text"),
    ];
    for (role, flag, flags) in [
        (
            "proxy-server",
            "--server-cert",
            "--mode=grpc --uds-name= --delete-existing-uds-file=true --admin-port=8095 \
             --admin-bind-address=127.0.0.1 --keepalive-time=1h --frontend-keepalive-time=1h \
             --enable-profiling=false --enable-contention-profiling=false \
             --warn-on-channel-limit=true --kubeconfig-qps=0.5 --kubeconfig-burst=0 \
             --kube-api-content-type=application/vnd.kubernetes.protobuf --kubeconfig=/nowhere \
             --agent-namespace= --agent-service-account= --authentication-audience= \
             --xfr-channel-size=10 --enable-lease-controller=false --lease-namespace=kube-system \
             --lease-label=k8s-app=konnectivity-server --backend-dial-timeout=0 \
             --tls-min-version=VersionTLS13 \
             --cipher-suites=TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_UNHEARD_OF",
        ),
        (
            "proxy-agent",
            "--agent-cert",
            "--alpn-proto= --admin-bind-address=127.0.0.1 --admin-server-port=8094 \
             --probe-interval=1s --keepalive-time=1h0m0s --service-account-token-path= \
             --xfr-channel-size=150 --count-server-leases=false --lease-namespace=kube-system \
             --lease-label-selector=k8s-app=konnectivity-server --lease-label=a=b \
             --server-count-source=default --kubeconfig= --enable-profiling=false \
             --enable-contention-profiling=false --warn-on-channel-limit=false \
             --kube-api-content-type=application/json",
        ),
        (
            "user-server",
            "--server-cert",
            "--agent-install-namespace=a --kube-api-qps=50 --kube-api-burst=100 \
             --exposed-services-configmap=cluster-proxy-exposed-services",
        ),
        (
            "service-proxy",
            "--cert",
            "--additional-service-ca=/nowhere --max-idle-conns=100 --tls-handshake-timeout=10s \
             --kube-api-qps=50 --kube-api-burst=100 --oidc-issuer-url= --oidc-client-id= \
             --oidc-username-claim=sub --oidc-reserved-name-prefixes=system: \
             --oidc-required-claim=a=b --oidc-required-claim=c=d",
        ),
    ] {
        // The last flag ends the start: everything else was taken.
        let mut given = vec![(flag, "/absent")];
        given.extend(klog);
        given.extend(
            flags
                .split_whitespace()
                .map(|flag| flag.split_once('=').unwrap()),
        );
        let line = complaint(&files.role(role, &given), 1);
        let named = line.contains(flag) && line.contains("no such file");
        assert!(named, "{role}: {line}");
    }
}

#[test]
fn flags_that_only_go_together_name_the_one_that_is_missing() {
    let files = Files::new();
    let account = [
        ("--agent-namespace", "tunnel"),
        ("--agent-service-account", "agent"),
        ("--authentication-audience", "hub"),
    ];
    for missing in 0..3 {
        let mut given = account.to_vec();
        let (flag, _) = given.remove(missing);
        let line = complaint(&files.role("proxy-server", &given), 64);
        assert!(line.contains(flag), "{line}");
    }
    // An empty one is none, as Go's flags have it.
    for (role, given, said) in [
        (
            "proxy-server",
            &[("--cluster-ca-cert", "")][..],
            "--cluster-ca-cert: needed unless agents show tokens",
        ),
        (
            "proxy-server",
            &[
                ("--cluster-ca-cert", ""),
                ("--agent-identity", "cluster"),
                account[0],
                account[1],
                account[2],
            ],
            "a token proves no cluster",
        ),
        (
            "proxy-server",
            &[
                ("--enable-lease-controller", "true"),
                ("--server-id", "not/a name"),
                ("--kubeconfig", "kubeconfig"),
            ],
            "--server-id: \"not/a name\" cannot be part of a Lease's name",
        ),
        (
            "proxy-server",
            &[
                ("--enable-lease-controller", "true"),
                ("--lease-label", "konnectivity"),
                ("--kubeconfig", "kubeconfig"),
            ],
            "--lease-label: \"konnectivity\" is no label",
        ),
        (
            "proxy-agent",
            &[("--agent-cert", ""), ("--agent-key", "")],
            "--agent-cert: needed unless the agent shows a token",
        ),
        (
            "proxy-agent",
            &[("--agent-cert", "")],
            "--agent-cert: needed with --agent-key",
        ),
        (
            "proxy-server",
            &[("--server-port", "0"), ("--uds-name", "")],
            "--server-port=0: clients could connect nowhere: give --uds-name, or a port",
        ),
        (
            "proxy-server",
            &[("--server-cert", "")],
            "--server-cert: needed for --server-port; --server-port=0 with --uds-name does without",
        ),
        (
            "proxy-agent",
            &[("--server-count-source", "min")],
            "--server-count-source: \"min\" is neither default nor max",
        ),
    ] {
        let line = complaint(&files.role(role, given), 64);
        assert!(line.contains(said), "{role}: {line}");
    }
}

#[test]
fn flags_that_would_be_missed_are_refused() {
    let files = Files::new();
    for (role, flag, value) in [
        ("proxy-server", "--keepalive-time", "1"),
        ("proxy-server", "--mode", "grpc+http"),
        ("proxy-server", "--enable-profiling", "yes"),
        ("proxy-server", "--tls-min-version", "1.2"),
        ("proxy-server", "--cipher-suites", "TLS_UNHEARD_OF"),
        ("proxy-agent", "--log-flush-frequency", "often"),
        ("service-proxy", "--max-idle-conns", "many"),
        ("service-proxy", "--oidc-issuer-url", "https://issuer"),
        ("service-proxy", "--oidc-client-id", "client"),
    ] {
        let line = complaint(&files.role(role, &[(flag, value)]), 64);
        assert!(line.contains(flag), "{role} {flag}={value}: {line}");
    }
}

#[test]
fn the_addon_agent_says_what_it_lacks() {
    let files = Files::new();
    let kubeconfig = format!("--kubeconfig={}", files.path("kubeconfig").display());
    let absent = format!("--hub-kubeconfig={}", files.path("absent").display());
    let forward = "--enable-port-forward-proxy";
    for (flags, code, flag, cause) in [
        (&[forward][..], 64, forward, "needs --hub-kubeconfig"),
        (&[forward, &absent], 1, "--hub-kubeconfig", "no such file"),
        (&["--namespace=a/b"], 64, "--namespace", "a/b"),
        (
            &[forward, "--proxy-server-namespace=../x"],
            64,
            "--proxy-server-namespace",
            "../x",
        ),
        (&["--cluster-name=A/B"], 64, "--cluster-name", "A/B"),
        (
            &["--enable-proxy-agent-health-check=maybe"],
            64,
            "--enable-proxy-agent-health-check",
            "maybe",
        ),
    ] {
        let line = [&["addon-agent", &kubeconfig][..], flags].concat();
        let line = complaint(&cluster_proxy(&line), code);
        assert!(line.contains(flag) && line.contains(cause), "{line}");
    }
}

/// The environment of the agent's pod comes from an AddOnDeploymentConfig, which anybody can
/// mistype.
#[test]
fn a_malformed_proxy_in_the_environment_stops_the_start() {
    let files = Files::new();
    let kubeconfig = files.path("kubeconfig").display().to_string();
    let certificates = [
        ("agent-cert", "clusters/managed/proxy-agent.crt"),
        ("agent-key", "clusters/managed/proxy-agent.key"),
        ("ca-cert", "ca.crt"),
    ];
    let certificates =
        certificates.map(|(flag, file)| format!("--{flag}={}", files.path(file).display()));
    let kubeconfig = format!("--kubeconfig={kubeconfig}");
    for (role, flags) in [
        ("proxy-agent", &certificates[..]),
        ("addon-agent", std::slice::from_ref(&kubeconfig)),
    ] {
        for (variable, value, cause) in [
            (
                "HTTPS_PROXY",
                "http://user:s3cret@proxy:port",
                "its port is none",
            ),
            (
                "https_proxy",
                "socks5://user:s3cret@proxy",
                "SOCKS proxies are not",
            ),
        ] {
            let output = Command::new("timeout")
                .args(["20", env!("CARGO_BIN_EXE_cluster-proxy"), role])
                .args(flags)
                .env_remove("HTTPS_PROXY")
                .env(variable, value)
                .output()
                .unwrap();
            let line = complaint(&output, 64);
            assert!(line.contains(variable) && line.contains(cause), "{line}");
            let all = String::from_utf8_lossy(&output.stderr);
            assert!(!all.contains("s3cret"), "{all}");
        }
        let help = String::from_utf8(cluster_proxy(&[role, "--help"]).stdout).unwrap();
        for variable in ["HTTPS_PROXY", "NO_PROXY", "ROOT_CA_CERT"] {
            assert!(help.contains(variable), "{variable} is not in {help}");
        }
    }
}

/// Images of the Go cluster-proxy have programs of these names.
#[test]
fn called_by_another_name_it_is_that_program() {
    let files = Files::new();
    for (name, command, flag) in [
        ("proxy-server", "proxy-server", "--server-cert"),
        ("proxy-agent", "proxy-agent", "--agent-identifiers"),
        ("agent", "addon-agent", "--enable-port-forward-proxy"),
        ("manager", "manager", "--signer-secret-namespace"),
        ("cluster-proxy", "", "quickstart"),
        ("something-else", "", "quickstart"),
    ] {
        let link = files.path(name);
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_cluster-proxy"), &link).unwrap();
        let run = |arguments: &[&str]| {
            let mut program = Command::new("timeout");
            program.arg("20").arg(&link).args(arguments);
            program.output().unwrap()
        };
        let help = run(&["--help"]);
        let text = String::from_utf8(help.stdout).unwrap();
        assert!(
            help.status.success() && text.contains(flag),
            "{name}: {text}"
        );
        let line = complaint(&run(&["--no_such-flag=1"]), 64);
        assert!(line.contains("--no-such-flag"), "{name}: {line}");
        let version = run(&["--version"]);
        let said = String::from_utf8(version.stdout).unwrap();
        let program = if command.is_empty() {
            "cluster-proxy".to_owned()
        } else {
            format!("cluster-proxy-{command}")
        };
        let version_of_it = format!("{program} {}\n", env!("CARGO_PKG_VERSION"));
        assert!(version.status.success() && said == version_of_it, "{said}");
        if command.is_empty() {
            let made = run(&["certs", "--out", files.path(".").to_str().unwrap()]);
            assert!(made.status.success(), "{name}: {made:?}");
        }
    }
    let line = complaint(
        &Command::new(files.path("agent"))
            .args(["--kubeconfig=/absent", "--v=2", "--cluster-name=managed"])
            .output()
            .unwrap(),
        1,
    );
    assert!(
        line.starts_with("cluster-proxy addon-agent: --kubeconfig /absent"),
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
        "addon-agent",
        "manager",
        "certs",
        "completion",
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
fn completion_knows_commands_and_flags() {
    for shell in ["bash", "zsh", "fish"] {
        let script = cluster_proxy(&["completion", shell]);
        let text = String::from_utf8(script.stdout).unwrap();
        assert!(script.status.success(), "{shell}: {text}");
        for part in ["proxy-server", "impersonate-extra-key", "completion"] {
            assert!(text.contains(part), "{shell} knows no {part}");
        }
    }
    let script = "source <(\"$0\" completion bash) && complete -p cluster-proxy";
    let completes = Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_cluster-proxy")])
        .output()
        .unwrap();
    assert!(completes.status.success(), "{completes:?}");
    let line = complaint(&cluster_proxy(&["completion", "tcsh"]), 64);
    assert!(line.contains("tcsh"), "{line}");
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
