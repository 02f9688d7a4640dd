//! Health, logs, and how roles end and come back.

use std::time::Duration;

use anyhow::{Result, ensure};
use cluster_proxy_testkit::eventually_blocking;
use cluster_proxy_testkit::lab::Cluster;
use cluster_proxy_testkit::process::Running;
use cluster_proxy_tests::http::curl;

use crate::requests::{log, pods_come_back};
use crate::setting::Setting;

pub(crate) fn listeners(setting: &Setting) -> Result<()> {
    let lab = &setting.lab;
    let roles: [(&Cluster, u16, &str); 4] = [
        (&lab.hub, 8092, "cluster_proxy_"),
        (&lab.hub, 8000, "cluster_proxy_"),
        (&lab.managed, 8093, "cluster_proxy_"),
        (&lab.managed, 8000, "cluster_proxy_"),
    ];
    for (cluster, port, metric) in roles {
        let get = |path: &str| {
            curl(
                cluster.command("curl"),
                &[&format!("http://127.0.0.1:{port}{path}")],
            )
        };
        for path in ["/healthz", "/readyz"] {
            let answer = get(path)?;
            ensure!(
                answer.code == 200,
                "{}:{port}{path}: {answer:?}",
                cluster.name()
            );
        }
        let metrics = get("/metrics")?;
        ensure!(
            metrics.body.contains(metric),
            "{}:{port}: {}",
            cluster.name(),
            metrics.body
        );
        ensure!(
            metrics.body.starts_with("# HELP "),
            "not Prometheus' text: {}",
            metrics.body
        );
    }
    Ok(())
}

/// Every role's whole output so far holds neither the user's token nor a role's.
pub(crate) fn no_token_in_logs(setting: &Setting) -> Result<()> {
    let installation = setting.installation.borrow();
    let mut secrets = vec![setting.token.clone(), "no-such-token".to_owned()];
    for account in ["cluster-proxy-addon-user", "cluster-proxy"] {
        let file = installation.certificate(&format!("{account}.token"));
        secrets.push(std::fs::read_to_string(file)?.trim().to_owned());
    }
    let roles = [
        &installation.proxy_server,
        &installation.user_server,
        &installation.proxy_agent,
        &installation.service_proxy,
    ];
    for role in roles {
        let said = log(role)?;
        ensure!(!said.is_empty(), "{} said nothing", role.name());
        for secret in &secrets {
            // Any piece of it would do: the signature is its last part.
            let piece = secret.rsplit('.').next().unwrap_or(secret);
            ensure!(
                !said.contains(piece),
                "a token stands in the log of {}",
                role.name()
            );
        }
    }
    Ok(())
}

/// The agent ends: requests fail at once with a reason. It comes back: they succeed at once.
pub(crate) fn agent_comes_back(setting: &Setting) -> Result<()> {
    let status = setting.installation.borrow_mut().proxy_agent.terminate()?;
    ensure!(status.success(), "proxy-agent: {status}");
    eventually_blocking(
        Duration::from_secs(5),
        "the cluster is not connected",
        || {
            let answer = setting.get("version", &setting.token, &[])?;
            let message = answer.status_message(503, "ServiceUnavailable")?;
            ensure!(message.contains("not connected"), "{message}");
            ensure!(
                answer.took < Duration::from_secs(1),
                "took {:?}",
                answer.took
            );
            Ok(())
        },
    );
    setting.installation.borrow_mut().restart_proxy_agent()?;
    eventually_blocking(
        Duration::from_secs(5),
        "the cluster is connected again",
        || pods_come_back(setting),
    );
    Ok(())
}

pub(crate) fn terminate(setting: &Setting) -> Result<()> {
    let mut installation = setting.installation.borrow_mut();
    let installation = &mut *installation;
    let roles: [&mut Running; 4] = [
        &mut installation.user_server,
        &mut installation.service_proxy,
        &mut installation.proxy_agent,
        &mut installation.proxy_server,
    ];
    for role in roles {
        let status = role.terminate_within(Duration::from_secs(15))?;
        ensure!(status.code() == Some(0), "{}: {status}", role.name());
    }
    Ok(())
}

/// The ConfigMap made, changed into one that means nothing, and deleted again, while the user-server
/// runs on.
pub(crate) fn tls_profile(setting: &Setting) -> Result<()> {
    let takes_tls12 = || setting.get("version", &setting.token, &["--tls-max", "1.2"]);
    let profile = |minimum: &str| {
        setting.lab.hub.apply(&format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: ocm-tls-profile, namespace: \
             {INSTALLED_IN}}}, data: {{minTLSVersion: {minimum}}}}}"
        ))
    };
    takes_tls12()?;
    profile("VersionTLS13")?;
    eventually_blocking(CHANGE_LIMIT, "TLS 1.2 is refused", || {
        takes_tls12().is_err()
    });
    let answer = setting.get("version", &setting.token, &[])?;
    ensure!(answer.code == 200, "TLS 1.3: {answer:?}");

    profile("Version9")?;
    let warning = "ocm-tls-profile cannot be used, the last good one stays";
    setting
        .installation
        .borrow()
        .user_server
        .wait_for_line(warning, CHANGE_LIMIT)?;
    ensure!(takes_tls12().is_err(), "a bad profile replaced a good one");

    setting
        .lab
        .hub
        .kubectl(&["delete", "configmap", "ocm-tls-profile", "-n", INSTALLED_IN])?;
    eventually_blocking(CHANGE_LIMIT, "TLS 1.2 is taken again", || {
        takes_tls12().is_ok()
    });
    Ok(())
}

/// Where docs/by-hand.md installs the user-server.
const INSTALLED_IN: &str = "open-cluster-management-addon";

/// For a watch to tell.
const CHANGE_LIMIT: Duration = Duration::from_secs(10);
