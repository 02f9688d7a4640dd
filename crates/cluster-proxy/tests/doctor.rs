//! `doctor` as a program: it says where the way to a managed cluster breaks.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use cluster_proxy_identity::ca::CertificateAuthority;
use cluster_proxy_testkit::quickstart::Quickstart;
use serde_json::Value;
use tempfile::TempDir;

struct Patient {
    quickstart: Quickstart,
    home: TempDir,
}

impl Patient {
    fn new() -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_cluster-proxy"));
        Self {
            quickstart: Quickstart::start(program).expect("it starts"),
            home: TempDir::new().expect("a folder"),
        }
    }

    fn file(&self, name: &str) -> String {
        self.quickstart.folder.join(name).display().to_string()
    }

    fn doctor(&self, arguments: &[&str]) -> Output {
        let mut program = Command::new("timeout");
        program
            .args([
                "60",
                env!("CARGO_BIN_EXE_cluster-proxy"),
                "doctor",
                "--timeout=5s",
            ])
            .args(arguments)
            .env("HOME", self.home.path())
            .env_remove("KUBECONFIG");
        program.output().expect("the program starts")
    }

    /// The report on `cluster`, reached by `server` with these.
    fn report(&self, cluster: &str, server: &str, ca: &str, token: &str) -> (Value, Option<i32>) {
        let output = self.doctor(&[
            cluster,
            "--server",
            server,
            "--certificate-authority",
            ca,
            "--token-file",
            token,
            "-o",
            "json",
        ]);
        let report = serde_json::from_slice(&output.stdout);
        (
            report.unwrap_or_else(|_| panic!("{output:?}")),
            output.status.code(),
        )
    }
}

/// The one step that failed: its name, and all that is said of it.
fn broken(report: &Value) -> (String, String) {
    let steps = report["steps"].as_array().expect("steps");
    let failed: Vec<_> = steps
        .iter()
        .filter(|step| step["state"] == "failed")
        .collect();
    assert_eq!(failed.len(), 1, "{report:#}");
    let after = steps
        .iter()
        .skip_while(|step| step["state"] != "failed")
        .skip(1);
    for step in after {
        assert_eq!(step["state"], "skipped", "{report:#}");
    }
    let step = failed[0];
    assert!(
        step["fault"].is_string() && step["whatToDo"].is_string(),
        "{step}"
    );
    (
        step["name"].as_str().expect("a name").to_owned(),
        step.to_string(),
    )
}

#[test]
fn each_break_is_found_at_its_step() {
    let patient = Patient::new();
    let (server, ca) = (patient.quickstart.server.clone(), patient.file("ca.crt"));
    let token = patient.file("user.token");

    let (report, code) = patient.report("managed", &server, &ca, &token);
    assert_eq!(
        (code, &report["well"]),
        (Some(0), &Value::Bool(true)),
        "{report:#}"
    );
    let steps = report["steps"].as_array().expect("steps");
    let names: Vec<_> = steps
        .iter()
        .map(|step| step["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(
        names,
        [
            "token",
            "hub objects",
            "DNS",
            "TCP",
            "TLS",
            "user-server",
            "token review",
            "hub authorization",
            "tunnel",
            "service-proxy",
            "kube-apiserver",
            "identity there",
        ]
    );
    let last = steps.last().expect("steps").to_string();
    let user = "cluster:hub:system:serviceaccount:open-cluster-management-hub:test-sa";
    assert!(last.contains(user), "{last}");

    let other_ca = patient.home.path().join("other.crt");
    let other = CertificateAuthority::generate().expect("a CA");
    std::fs::write(&other_ca, other.cert_pem()).expect("written");
    let other_ca = other_ca.display().to_string();
    let wrong = patient.home.path().join("wrong.token");
    std::fs::write(&wrong, "a-token-of-nobody").expect("written");
    let wrong = wrong.display().to_string();
    let closed = TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("one");
    let closed = format!("https://{closed}");
    let by_another_name = server.replace("127.0.0.1", "127.0.0.2");
    for (cluster, server, ca, token, at, said) in [
        (
            "managed",
            "https://no-such-host.invalid",
            &ca,
            &token,
            "DNS",
            "your DNS",
        ),
        ("managed", &closed, &ca, &token, "TCP", "refused"),
        ("managed", &server, &other_ca, &token, "TLS", "inspects TLS"),
        ("managed", &server, &ca, &wrong, "token review", "the token"),
        (
            "nowhere",
            &server,
            &ca,
            &token,
            "tunnel",
            "is not connected",
        ),
    ] {
        let (report, code) = patient.report(cluster, server, ca, token);
        assert_eq!(code, Some(1), "{report:#}");
        let (name, step) = broken(&report);
        assert_eq!(name, at, "{report:#}");
        assert!(step.contains(said), "{said}: {step}");
    }
    // Nobody listens on another address of this machine.
    let (report, _) = patient.report("managed", &by_another_name, &ca, &token);
    assert_eq!(broken(&report).0, "TCP");
}

#[test]
fn people_read_lines_and_no_token() {
    let patient = Patient::new();
    let server = &patient.quickstart.server;
    let (ca, token) = (patient.file("ca.crt"), patient.file("user.token"));
    let arguments = [
        "managed",
        "--server",
        server,
        "--certificate-authority",
        &ca,
    ];
    let output = patient.doctor(&[&arguments[..], &["--token-file", &token]].concat());
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success(), "{text}");
    assert!(text.contains("tunnel                ok"), "{text}");
    assert!(text.contains("0 failed"), "{text}");
    assert!(!text.contains('\x1b'), "colour is for terminals: {text}");
    let secret = std::fs::read_to_string(&token).expect("there");
    assert!(
        !text.contains(secret.trim()) && !text.contains("Bearer"),
        "{text}"
    );

    // Without a token the way is walked as far as it can be.
    let output = patient.doctor(&arguments);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.contains("tunnel                skipped"), "{text}");
    assert!(text.contains("user-server           ok"), "{text}");
}
