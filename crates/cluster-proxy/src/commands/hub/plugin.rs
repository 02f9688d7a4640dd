//! Exec plugins of a kubeconfig (client.authentication.k8s.io), run once.

use std::io::Read as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use cluster_proxy_identity::Token;
use jiff::Timestamp;
use kube::config::{Cluster, ExecAuthCluster, ExecConfig, ExecInteractiveMode};
use serde_json::{Value, json};

/// What a plugin gave.
pub(super) struct PluginAnswer {
    pub(super) credential: PluginCredential,
    pub(super) expires: Option<Timestamp>,
}

/// A token is taken before a certificate.
pub(super) enum PluginCredential {
    Token(Token),
    Certificate { certificate: String, key: String },
}

/// Runs the plugin and reads its answer. No error has a word of what it printed.
pub(super) async fn run(config: ExecConfig, cluster: &Cluster) -> Result<PluginAnswer, String> {
    let cluster = if config.provide_cluster_info {
        let info = ExecAuthCluster::try_from(cluster)
            .map_err(|_| "the cluster's CA, which it asks for, cannot be read".to_owned())?;
        serde_json::to_value(info).map_err(|error| error.to_string())?
    } else {
        Value::Null
    };
    let run = tokio::task::spawn_blocking(move || output(&config, &cluster, PLUGIN_LIMIT));
    let printed = run.await.map_err(|_| "it could not be run".to_owned())??;
    parse(&printed)
}

/// What the plugin prints, within the limit.
fn output(config: &ExecConfig, cluster: &Value, limit: Duration) -> Result<Vec<u8>, String> {
    let program = config.command.as_deref().unwrap_or_default();
    if program.is_empty() {
        return Err("it names no command".to_owned());
    }
    // Whoever runs this program as a plugin may have said that nobody is there to answer.
    let interactive =
        config.interactive_mode != Some(ExecInteractiveMode::Never) && !asked_to_be_silent();
    let mut spec = json!({"interactive": interactive});
    if !cluster.is_null() {
        spec["cluster"] = cluster.clone();
    }
    let info = json!({
        "apiVersion": config.api_version, "kind": "ExecCredential", "spec": spec,
    });
    let mut command = Command::new(program);
    command
        .args(config.args.iter().flatten())
        .env(EXEC_INFO, info.to_string())
        .stdin(if interactive {
            Stdio::inherit()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    for variable in config.env.iter().flatten() {
        if let (Some(name), Some(value)) = (variable.get("name"), variable.get("value")) {
            command.env(name, value);
        }
    }
    let mut child = command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            let hint = config.install_hint.as_deref().unwrap_or_default();
            format!("it is not installed {hint}").trim_end().to_owned()
        }
        _ => error.to_string(),
    })?;
    let answer = answer_of(&mut child, Instant::now() + limit);
    if answer.is_err() {
        // It may have ended meanwhile.
        drop(child.kill());
        drop(child.wait());
    }
    let (printed, status) = answer?;
    if status.success() {
        Ok(printed)
    } else {
        Err(format!("it failed ({status})"))
    }
}

/// Everything it prints, and its end.
fn answer_of(child: &mut Child, end: Instant) -> Result<(Vec<u8>, ExitStatus), String> {
    let late = || format!("no answer within {} s", PLUGIN_LIMIT.as_secs());
    let stdout = child.stdout.take().ok_or("it has no output")?;
    let (sender, receiver) = mpsc::sync_channel(1);
    // Ends with the plugin, which is killed if it is late.
    std::thread::spawn(move || {
        let mut printed = Vec::new();
        let read = stdout.take(MAX_ANSWER_BYTES + 1).read_to_end(&mut printed);
        // Nobody listens once it is too late.
        drop(sender.send(read.map(|_| printed)));
    });
    let printed = receiver
        .recv_timeout(end.saturating_duration_since(Instant::now()))
        .map_err(|_| late())?
        .map_err(|error| error.to_string())?;
    if printed.len() as u64 > MAX_ANSWER_BYTES {
        return Err(format!("it prints more than {MAX_ANSWER_BYTES} bytes"));
    }
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Ok((printed, status));
        }
        if Instant::now() >= end {
            return Err(late());
        }
        std::thread::sleep(END_POLL);
    }
}

fn parse(printed: &[u8]) -> Result<PluginAnswer, String> {
    // client-go takes YAML too.
    let answer: Value = std::str::from_utf8(printed)
        .ok()
        .and_then(|text| serde_saphyr::from_str(text).ok())
        .ok_or("what it prints is no ExecCredential")?;
    if answer["kind"] != "ExecCredential" {
        return Err("what it prints is no ExecCredential".to_owned());
    }
    let status = &answer["status"];
    let text = |field: &str| status[field].as_str().filter(|text| !text.is_empty());
    let expires = match text("expirationTimestamp") {
        None => None,
        Some(time) => Some(
            time.parse()
                .map_err(|_| "its expirationTimestamp is no RFC 3339 time")?,
        ),
    };
    let credential = match (
        text("token"),
        text("clientCertificateData"),
        text("clientKeyData"),
    ) {
        (Some(token), _, _) => {
            let token = Token::parse(token).map_err(|error| error.to_string())?;
            PluginCredential::Token(token)
        }
        (None, Some(certificate), Some(key)) => PluginCredential::Certificate {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        },
        _ => return Err("it gives neither a token nor a client certificate".to_owned()),
    };
    Ok(PluginAnswer {
        credential,
        expires,
    })
}

/// Whether this program runs as a plugin itself, without anybody who could answer.
fn asked_to_be_silent() -> bool {
    std::env::var(EXEC_INFO)
        .ok()
        .and_then(|info| serde_json::from_str::<Value>(&info).ok())
        .is_some_and(|info| info["spec"]["interactive"] == false)
}

/// The variable that tells a plugin what is wanted.
const EXEC_INFO: &str = "KUBERNETES_EXEC_INFO";

/// A plugin may wait for somebody to log in with a browser.
const PLUGIN_LIMIT: Duration = Duration::from_secs(180);

/// A token has at most 64 KiB, certificates less.
const MAX_ANSWER_BYTES: u64 = 1024 * 1024;

/// Between the end of its output and its own, usually nothing.
const END_POLL: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> ExecConfig {
        ExecConfig {
            api_version: Some("client.authentication.k8s.io/v1".to_owned()),
            command: Some("sh".to_owned()),
            args: Some(vec!["-c".to_owned(), script.to_owned()]),
            interactive_mode: Some(ExecInteractiveMode::Never),
            ..ExecConfig::default()
        }
    }

    async fn failure(script: &str) -> String {
        match run(shell(script), &Cluster::default()).await {
            Ok(_) => panic!("{script} was taken"),
            Err(cause) => cause,
        }
    }

    #[tokio::test]
    async fn token_and_end_are_read_and_the_plugin_is_told_what_is_wanted() {
        let script = r#"case "$KUBERNETES_EXEC_INFO" in
            *'"interactive":false'*) ;; *) exit 3;; esac
            echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":
            {"token":"abc","expirationTimestamp":"2030-01-02T03:04:05Z"}}'"#;
        let answer = run(shell(script), &Cluster::default())
            .await
            .expect("taken");
        assert_eq!(
            answer.expires.map(|it| it.to_string()).as_deref(),
            Some("2030-01-02T03:04:05Z")
        );
        let PluginCredential::Token(token) = answer.credential else {
            panic!("no token");
        };
        assert_eq!(token.expose(), "abc");
    }

    #[tokio::test]
    async fn failures_are_told_without_what_it_printed() {
        let failed = failure("echo s3cret; exit 7").await;
        assert!(
            failed.contains('7') && !failed.contains("s3cret"),
            "{failed}"
        );
        let failed = failure("echo s3cret: [").await;
        assert_eq!(failed, "what it prints is no ExecCredential");
        let failed = failure("echo '{kind: ExecCredential, status: {token: \"s3 cret\"}}'").await;
        assert!(
            failed.contains("characters") && !failed.contains("s3"),
            "{failed}"
        );
        let failed = failure("echo '{kind: ExecCredential, status: {}}'").await;
        assert!(failed.contains("neither"), "{failed}");
        let missing = ExecConfig {
            command: Some("/no/such/plugin".to_owned()),
            install_hint: Some("(get it there)".to_owned()),
            ..ExecConfig::default()
        };
        let missing = run(missing, &Cluster::default())
            .await
            .err()
            .expect("failed");
        assert_eq!(missing, "it is not installed (get it there)");
    }

    #[test]
    fn one_that_never_answers_is_ended() {
        let began = Instant::now();
        let late = output(
            &shell("exec sleep 60"),
            &Value::Null,
            Duration::from_millis(200),
        );
        assert!(late.is_err_and(|cause| cause.contains("no answer")));
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}
