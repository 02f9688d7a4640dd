//! What all roles together write, at the highest level, when they are asked a thousand times.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use cluster_proxy_testkit::quickstart::Quickstart;

/// Of each kind of request.
const ROUNDS: usize = 100;

/// Begins everything that must not be seen again.
const MARK: &str = "s3cret";

/// `(method, path, headers, body)`; `T` is the user's token, `N` the number of the request.
const REQUESTS: [(&str, &str, &[&str], &str); 10] = [
    (
        "GET",
        "/managed/version",
        &["Authorization: Bearer T", "Cookie: a=s3cret-cookie-N"],
        "",
    ),
    (
        "GET",
        "/managed/version",
        &["Authorization: Bearer s3cret-token-N"],
        "",
    ),
    (
        "GET",
        "/managed/version",
        &["Authorization: Basic s3cretN"],
        "",
    ),
    (
        "GET",
        "/nowhere/version",
        &["Authorization: Bearer T", "Cookie: s3cret-N"],
        "",
    ),
    (
        "POST",
        "/managed/api/v1/namespaces/default/configmaps",
        &["Authorization: Bearer T", "Content-Type: application/json"],
        r#"{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"n-N\"},\"data\":{\"a\":\"s3cret-body-N\"}}"#,
    ),
    (
        "PUT",
        "/managed/api/v1/namespaces/default/secrets/a",
        &["Authorization: Bearer T", "Content-Type: application/json"],
        "s3cret-body-N",
    ),
    (
        "POST",
        "/managed/api/v1/namespaces/default/pods",
        &["Authorization: Bearer s3cret-token-N"],
        "s3cret-body-N",
    ),
    (
        "GET",
        "/managed/version",
        &["Authorization: Bearer T", "Impersonate-User: s3cret-N"],
        "",
    ),
    (
        "GET",
        "/managed/api/v1/namespaces/a/services/b:80/proxy-service/",
        &["Authorization: Bearer T", "Cookie: s3cret-N"],
        "",
    ),
    (
        "GET",
        "/managed/version",
        &[
            "X-Remote-User: s3cret-N",
            "Cluster-Proxy-Service: s3cret-N",
            "Authorization: Bearer T",
        ],
        "",
    ),
];

#[test]
fn hard_case_22_a_thousand_requests_leave_no_token_cookie_or_body_in_any_log() {
    let program = Path::new(env!("CARGO_BIN_EXE_cluster-proxy"));
    let quickstart = Quickstart::start_with(program, &["--log-level=trace"]).unwrap();
    let token = std::fs::read_to_string(quickstart.folder.join("user.token")).unwrap();
    let token = token.trim();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("requests");
    std::fs::write(&config, requests(&quickstart, token)).unwrap();
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "120", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    let answers = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    let count = |code: &str| answers.lines().filter(|line| *line == code).count();
    assert_eq!(answers.lines().count(), ROUNDS * REQUESTS.len());
    assert!(count("200") >= 2 * ROUNDS, "{answers}");
    // Those with bodies, which the managed cluster refuses this user.
    assert!(count("403") >= 2 * ROUNDS, "{answers}");
    assert!(count("401") >= 3 * ROUNDS, "{answers}");

    let log = std::fs::read_to_string(quickstart.running.log_path()).unwrap();
    let told = log
        .lines()
        .filter(|line| line.contains(" access: request"))
        .count();
    assert!(told >= ROUNDS * REQUESTS.len(), "{told} requests are told");
    assert!(log.contains("TRACE"), "not the highest level");
    // The quickstart tells its user the token, before the first request.
    for line in log.lines().filter(|line| {
        line.contains(" TRACE ")
            || line.contains(" DEBUG ")
            || line.contains(" INFO ")
            || line.contains(" WARN ")
            || line.contains(" ERROR ")
    }) {
        assert!(!line.contains(MARK), "{line}");
        assert!(!line.contains(token), "{line}");
    }
}

/// All of them as curl's configuration, over connections that are kept.
fn requests(quickstart: &Quickstart, token: &str) -> String {
    let mut text = String::new();
    for round in 0..ROUNDS {
        for (method, path, headers, body) in REQUESTS {
            if !text.is_empty() {
                text.push_str("next\n");
            }
            let number = round.to_string();
            let fill = |part: &str| {
                part.replace('N', &number)
                    .replace("Bearer T", &format!("Bearer {token}"))
            };
            writeln!(text, "url = \"{}{path}\"", quickstart.server)
                .expect("a String takes everything");
            writeln!(
                text,
                "cacert = \"{}\"",
                quickstart.folder.join("ca.crt").display()
            )
            .expect("a String takes everything");
            writeln!(
                text,
                "request = {method}\noutput = /dev/null\nwrite-out = \"%{{http_code}}\\n\""
            )
            .expect("a String takes everything");
            for header in headers {
                writeln!(text, "header = \"{}\"", fill(header)).expect("a String takes everything");
            }
            if !body.is_empty() {
                writeln!(text, "data-raw = \"{}\"", fill(body)).expect("a String takes everything");
            }
        }
    }
    text
}
