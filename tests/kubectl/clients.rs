//! Other clients of the same kubeconfig or token.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use cluster_proxy_tests::http::curl;
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{
    Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::kubectl::here;
use crate::setting::{MAPPED_USER, NAMESPACE, Setting, WEB, WORKER};

pub(crate) fn curl_versions(setting: &Setting) -> Result<()> {
    let url = format!("{}/managed", setting.installation.url());
    let authorization = format!("Authorization: Bearer {}", setting.token);
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let ask = |path: &str, more: &[&str]| {
            let mut command = setting.lab.hub.command("curl");
            command.arg("--cacert").arg(setting.installation.ca());
            command.args([flag, "-H", &authorization]).args(more);
            curl(command, &[&format!("{url}{path}")])
        };
        let spoken = setting
            .lab
            .hub
            .command("curl")
            .args([
                "--silent",
                "--output",
                "/dev/null",
                "--write-out",
                "%{http_version}",
                flag,
            ])
            .args(["--max-time", "20", "--noproxy", "*", "--cacert"])
            .arg(setting.installation.ca())
            .arg(format!("{url}/version"))
            .output()?;
        ensure!(spoken.stdout == version.as_bytes(), "{flag}: {spoken:?}");

        let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
        let body = format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"generateName":"curl-"}},"data":{{"of":"{MAPPED_USER}"}}}}"#
        );
        let json = ["-H", "Content-Type: application/json"];
        let post = [&json[..], &["--data-binary", &body]].concat();
        let answer = ask(&path, &post)?;
        ensure!(answer.code == 201, "{flag}: {answer:?}");
        let made = answer.json()?;
        let name = made["metadata"]["name"].as_str().context("no name")?;
        let path = format!("{path}/{name}");
        let patch = [
            "-X",
            "PATCH",
            "-H",
            "Content-Type: application/merge-patch+json",
            "--data-binary",
            r#"{"data":{"more":"yes"}}"#,
        ];
        let answer = ask(&path, &patch)?;
        ensure!(
            answer.code == 200 && answer.json()?["data"]["more"] == "yes",
            "{flag}: {answer:?}"
        );
        let answer = ask(&path, &["-X", "DELETE"])?;
        ensure!(answer.code == 200, "{flag}: {answer:?}");
        ask(&path, &[])?.status_message(404, "NotFound")?;
    }
    Ok(())
}

/// client.py beside this file, with the modules that tests/run has installed.
pub(crate) fn python(setting: &Setting) -> Result<()> {
    let modules = std::env::var_os("CLUSTER_PROXY_PYTHON_CLIENT")
        .context("CLUSTER_PROXY_PYTHON_CLIENT is not set (tests/run kubectl)")?;
    let program = setting.file("client.py");
    std::fs::write(&program, include_str!("client.py"))?;
    let output = setting
        .lab
        .hub
        .command("timeout")
        .args(["--kill-after=2", "60", "python3"])
        .arg(program)
        .arg(&setting.kubeconfig)
        .args([NAMESPACE, WORKER, WEB])
        .env("PYTHONPATH", modules)
        .env("NO_PROXY", "*")
        .stdin(Stdio::null())
        .output()
        .context("run python3")?;
    let (printed, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(
        output.status.success() && printed == "all of it works\n",
        "{}: {printed}{errors}",
        output.status
    );
    Ok(())
}

/// A chart of one ConfigMap and one Deployment, waited for.
pub(crate) fn helm(setting: &Setting) -> Result<()> {
    let chart = setting.file("chart");
    std::fs::create_dir_all(chart.join("templates"))?;
    std::fs::write(
        chart.join("Chart.yaml"),
        "apiVersion: v2\nname: small\nversion: 0.1.0\n",
    )?;
    std::fs::write(
        chart.join("templates/all.yaml"),
        include_str!("small-chart.yaml"),
    )?;
    let chart = chart.to_str().context("an odd path")?;
    let home = setting.file("helm");
    let image = format!("image={}", setting.lab.tools_image());
    let helm = |arguments: &[&str]| -> Result<String> {
        let mut command = setting.lab.hub.command("timeout");
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(name, &home);
        }
        let output = command
            .args(["--kill-after=2", "60"])
            .arg(setting.lab.hub.helm_program())
            .args(here(arguments))
            .env("KUBECONFIG", &setting.kubeconfig)
            .env("NO_PROXY", "*")
            .stdin(Stdio::null())
            .output()
            .context("run helm")?;
        ensure!(
            output.status.success(),
            "helm {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    };
    let wait = ["--wait", "--timeout=40s", "--set", image.as_str()];
    let word = || {
        setting.lab.managed.kubectl(&here(&[
            "get",
            "configmap",
            "small",
            "-o",
            "jsonpath={.data.word}",
        ]))
    };
    helm(
        &[
            &["install", "small", chart, "--set", "word=first"],
            &wait[..],
        ]
        .concat(),
    )?;
    ensure!(word()? == "first");
    helm(
        &[
            &["upgrade", "small", chart, "--set", "word=second"],
            &wait[..],
        ]
        .concat(),
    )?;
    ensure!(word()? == "second");
    helm(&["rollback", "small", "1", "--wait", "--timeout=40s"])?;
    ensure!(word()? == "first");
    let listed: serde_json::Value = serde_json::from_str(&helm(&["list", "-o", "json"])?)?;
    ensure!(
        listed[0]["status"] == "deployed" && listed[0]["revision"] == "3",
        "{listed}"
    );
    helm(&["uninstall", "small", "--wait", "--timeout=40s"])?;
    ensure!(word().is_err(), "the chart's ConfigMap is still there");
    Ok(())
}

/// What kube-rs waits for.
const LIMIT: Duration = Duration::from_secs(20);

/// A list, a patch and a watch by kube-rs with its own connections.
pub(crate) fn kube_rs(setting: &Setting) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let all = async { tokio::time::timeout(LIMIT, by_kube_rs(setting)).await };
    runtime.block_on(all).context("no end")?
}

async fn by_kube_rs(setting: &Setting) -> Result<()> {
    let url = format!("{}/managed", setting.installation.url());
    let mut config = kube::Config::new(url.parse()?);
    let ca = CertificateDer::from_pem_file(setting.installation.ca())?;
    config.root_cert = Some(vec![ca.to_vec()]);
    config.auth_info.token = Some(setting.token.clone().into());
    let client = kube::Client::try_from(config)?;

    let pods = Api::<Pod>::namespaced(client.clone(), NAMESPACE);
    let list = pods.list(&ListParams::default().limit(2)).await?;
    ensure!(
        list.items.len() == 2 && list.metadata.continue_.is_some(),
        "{} pods",
        list.items.len()
    );
    let configmaps = Api::<ConfigMap>::namespaced(client, NAMESPACE);
    let named = ListParams::default().fields("metadata.name=of-kube-rs");
    let version = configmaps.list(&named).await?.metadata.resource_version;
    let version = version.context("a list without a version")?;
    let watch = WatchParams::default().fields("metadata.name=of-kube-rs");
    let mut events = configmaps.watch(&watch, &version).await?.boxed();

    let mut wanted = ConfigMap::default();
    wanted.metadata.name = Some("of-kube-rs".to_owned());
    configmaps.create(&PostParams::default(), &wanted).await?;
    let patch = Patch::Merge(serde_json::json!({ "data": { "key": "value" } }));
    configmaps
        .patch("of-kube-rs", &PatchParams::default(), &patch)
        .await?;
    configmaps
        .delete("of-kube-rs", &DeleteParams::default())
        .await?;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.push(match events.next().await.context("the watch ended")?? {
            WatchEvent::Added(_) => "added",
            WatchEvent::Modified(object) => {
                ensure!(object.data.is_some_and(|data| data["key"] == "value"));
                "modified"
            }
            WatchEvent::Deleted(_) => "deleted",
            other => bail!("{other:?}"),
        });
    }
    ensure!(seen == ["added", "modified", "deleted"], "{seen:?}");
    Ok(())
}
