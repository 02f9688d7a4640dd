//! The story's commands, in its order.

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_tests::http::{Answer, curl};
use cluster_proxy_tests::objects::{addon, condition_is, lists_the_agent};
use serde_json::Value;

use crate::{ADDON_NAMESPACE, Setting, root};

/// The Role and RoleBinding of the story, as they stand there.
const TEST_SA_ROLES: &str = include_str!("../test-sa.yaml");

pub(crate) fn certificates(setting: &Setting) -> Result<()> {
    setting.lab.hub.apply(include_str!("certificates.yaml"))?;
    Setting::eventually("the user-server's certificate", || {
        setting.hub(&["get", "secret", "cluster-proxy-user-serving-cert"])
    });
    Ok(())
}

pub(crate) fn helm_install(setting: &Setting) -> Result<()> {
    let chart = root().join("charts/cluster-proxy");
    let address = format!(
        "proxyServer.entrypointAddress={}",
        setting.lab.hub.node_ip()
    );
    setting.lab.hub.helm(&[
        "install",
        "-n",
        ADDON_NAMESPACE,
        "--create-namespace",
        "cluster-proxy",
        &chart.display().to_string(),
        "--set",
        &address,
        "--set",
        "proxyServer.port=30091",
        "--set",
        "enableServiceProxy=true",
    ])?;
    setting.lab.hub.apply(include_str!("entrypoint.yaml"))?;
    Ok(())
}

pub(crate) fn deployments_and_services(setting: &Setting) -> Result<()> {
    Setting::eventually("cluster-proxy-addon-user 1/1", || {
        let table = setting.hub(&["get", "deploy"])?;
        let row = row(&table, "cluster-proxy-addon-user")?;
        ensure!(row[1] == "1/1" && row[2] == "1" && row[3] == "1", "{table}");
        Ok(())
    });
    let table = setting.hub(&["get", "svc"])?;
    let row = row(&table, "cluster-proxy-addon-user")?;
    ensure!(row[1] == "ClusterIP" && row[3] == "<none>", "{table}");
    ensure!(
        row[4].contains("443/TCP") && row[4].contains("9092/TCP"),
        "{table}"
    );
    Ok(())
}

fn row<'a>(table: &'a str, name: &str) -> Result<Vec<&'a str>> {
    let line = table.lines().find(|line| line.starts_with(name));
    let row: Vec<_> = line
        .with_context(|| table.to_owned())?
        .split_whitespace()
        .collect();
    ensure!(row.len() >= 5, "{table}");
    Ok(row)
}

pub(crate) fn addon_is_available(setting: &Setting) -> Result<()> {
    Setting::eventually("the addon is Available", || {
        let addon = addon(&setting.lab.hub, "managed")?;
        condition_is(&addon, "Available", "True").map(drop)
    });
    Ok(())
}

pub(crate) fn pods_come_back(setting: &Setting) -> Result<()> {
    let hub = &setting.lab.hub;
    hub.apply(
        "{apiVersion: v1, kind: ServiceAccount, metadata: \
         {name: test-sa, namespace: open-cluster-management-hub}}",
    )?;
    setting.lab.managed.apply(TEST_SA_ROLES)?;
    lists_the_agent(&ask(setting, "open-cluster-management-agent")?, "managed")
}

/// Agents may just be reconnecting.
pub(crate) fn pods_come_back_eventually(setting: &Setting) -> Result<()> {
    Setting::eventually("pods come back", || {
        lists_the_agent(&ask(setting, "open-cluster-management-agent")?, "managed")
    });
    Ok(())
}

pub(crate) fn another_namespace(setting: &Setting) -> Result<()> {
    let status = ask(setting, "kube-system")?;
    let message = status["message"].as_str().unwrap_or_default();
    ensure!(
        status["code"] == 403
            && message.contains(
                "\"cluster:hub:system:serviceaccount:open-cluster-management-hub:test-sa\""
            ),
        "{status}"
    );
    Ok(())
}

/// The story's last command, with an image that is at hand.
fn ask(setting: &Setting, namespace: &str) -> Result<Value> {
    let hub = &setting.lab.hub;
    let token = hub.kubectl(&[
        "-n",
        "open-cluster-management-hub",
        "create",
        "token",
        "test-sa",
    ])?;
    let pod = setting.hub(&[
        "get",
        "pods",
        "-l",
        "component=cluster-proxy-addon-user",
        "--field-selector=status.phase=Running",
        "-o",
        "jsonpath={.items[0].metadata.name}",
    ])?;
    let command = format!(
        "curl -s -k -H 'Authorization: Bearer {}' \
         https://cluster-proxy-addon-user.open-cluster-management-addon.svc.cluster.local:9092\
         /managed/api/v1/namespaces/{namespace}/pods",
        token.trim()
    );
    let image = format!("--image={}", setting.lab.tools_image());
    let said = setting.hub(&[
        "debug",
        "-i",
        pod.trim(),
        "--profile=general",
        &image,
        "--image-pull-policy=Never",
        "--",
        "sh",
        "-c",
        &command,
    ])?;
    // kubectl says first which container it is, and nothing else where that had ended before it
    // could attach.
    let said = match said
        .trim()
        .strip_prefix("Defaulting debug container name to ")
    {
        Some(name) if !said.contains('{') => {
            setting.hub(&["logs", pod.trim(), "-c", name.trim_end_matches('.')])?
        }
        _ => said,
    };
    let json = said.find('{').map(|at| &said[at..]).unwrap_or_default();
    serde_json::from_str(json).with_context(|| format!("no answer: {said}"))
}

/// A token that the hub bound to a pod says more about its bearer, all of which the managed cluster
/// is told; one of the managed cluster's own is the managed cluster's to review.
pub(crate) fn other_tokens(setting: &Setting) -> Result<()> {
    let hub = &setting.lab.hub;
    let image = setting.lab.tools_image();
    hub.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: bearer, namespace: {HUB_NAMESPACE}}}, \
         spec: {{serviceAccountName: test-sa, terminationGracePeriodSeconds: 0, containers: \
         [{{name: sleep, image: {image}, imagePullPolicy: Never, command: [sleep, '600']}}]}}}}"
    ))?;
    let namespace = ["-n", HUB_NAMESPACE];
    Setting::eventually("the pod has a node", || {
        let pod = ["get", "pod", "bearer", "-o", "jsonpath={.spec.nodeName}"];
        let node = hub.kubectl(&[&namespace[..], &pod].concat())?;
        ensure!(node == "hub", "{node}");
        Ok(())
    });
    let bound = ["--bound-object-kind=Pod", "--bound-object-name=bearer"];
    let token = ["create", "token", "test-sa"];
    let token = hub.kubectl(&[&namespace[..], &token, &bound].concat())?;
    let answer = ask_with(setting, &token, "open-cluster-management-agent")?;
    ensure!(answer.code == 200, "{answer:?}");
    lists_the_agent(&answer.json()?, "managed")?;
    let pod = ["delete", "pod", "bearer", "--wait=false"];
    hub.kubectl(&[&namespace[..], &pod].concat())?;

    let token = ["create", "token", "default", "-n", "kube-system"];
    let token = setting.lab.managed.kubectl(&token)?;
    let answer = ask_with(setting, &token, "kube-system")?;
    let message = answer.status_message(403, "Forbidden")?;
    let user = "\"system:serviceaccount:kube-system:default\"";
    ensure!(message.contains(user), "{message}");
    Ok(())
}

/// By the rights that the agent has got, the managed cluster is asked, and says no.
pub(crate) fn acting_as(setting: &Setting) -> Result<()> {
    let token = test_token(setting)?;
    let more = ["--header", "Impersonate-User: jane"];
    let answer = ask_more(setting, &token, "open-cluster-management-agent", &more)?;
    let message = answer.status_message(403, "Forbidden")?;
    ensure!(
        message.contains("may not impersonate users \"jane\""),
        "{message}"
    );
    Ok(())
}

/// With the hub's objects as Open Cluster Management and the manager keep them.
pub(crate) fn doctor(setting: &Setting) -> Result<()> {
    let folder = tempfile::TempDir::new()?;
    let token = folder.path().join("token");
    std::fs::write(&token, test_token(setting)?)?;
    let secret = ["get", "secret", "cluster-proxy-user-serving-cert", "-o"];
    let key = ["go-template={{index .data \"ca.crt\" | base64decode}}"];
    let ca = folder.path().join("ca.crt");
    std::fs::write(&ca, setting.hub(&[&secret[..], &key].concat())?)?;
    let server = format!("https://{}:9092", user_server_ip(setting)?);
    let steps = Setting::eventually("the way is well", || {
        let mut doctor = setting.lab.hub.command(cluster_proxy_tests::program());
        doctor
            .args(["doctor", "managed", "-o", "json", "--server", &server])
            .args(["--tls-server-name", "cluster-proxy-addon-user"])
            .arg("--certificate-authority")
            .arg(&ca)
            .arg("--token-file")
            .arg(&token)
            .arg("--kubeconfig")
            .arg(setting.lab.hub.kubeconfig());
        let output = doctor.output()?;
        let report: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        ensure!(
            output.status.success() && report["well"] == true,
            "{report:#}"
        );
        let steps = report["steps"].as_array().context("no steps")?;
        let strange = steps.iter().find(|step| step["state"] != "ok");
        ensure!(strange.is_none(), "{report:#}");
        Ok(steps.len())
    });
    ensure!(steps == 14, "{steps} steps");
    Ok(())
}

fn test_token(setting: &Setting) -> Result<String> {
    let token = ["-n", HUB_NAMESPACE, "create", "token", "test-sa"];
    Ok(setting.lab.hub.kubectl(&token)?.trim().to_owned())
}

fn user_server_ip(setting: &Setting) -> Result<String> {
    let service = "service/cluster-proxy-addon-user";
    setting.hub(&["get", service, "-o", "jsonpath={.spec.clusterIP}"])
}

const HUB_NAMESPACE: &str = "open-cluster-management-hub";

/// Asks for the pods of a namespace of `managed`, from the hub's node.
fn ask_with(setting: &Setting, token: &str, namespace: &str) -> Result<Answer> {
    ask_more(setting, token, namespace, &[])
}

fn ask_more(setting: &Setting, token: &str, namespace: &str, more: &[&str]) -> Result<Answer> {
    let ip = user_server_ip(setting)?;
    let url = format!("https://{ip}:9092/managed/api/v1/namespaces/{namespace}/pods");
    let bearer = format!("Authorization: Bearer {}", token.trim());
    let arguments = ["--noproxy", "*", "--insecure", "--header", &bearer, &url];
    let arguments = [&arguments[..], more].concat();
    curl(setting.lab.hub.command("curl"), &arguments)
}
