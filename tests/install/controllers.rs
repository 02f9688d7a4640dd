//! What the manager keeps true, and what it never does.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_identity::TunnelHost;
use cluster_proxy_testkit::eventually_blocking;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::{Value, json};

use crate::{ADDON_NAMESPACE, AGENT_NAMESPACE, Setting};

const PROXY_AGENT_SIGNER: &str = "open-cluster-management.io/proxy-agent-signer";

/// The certificates that OCM's agent got for this cluster say this cluster, and nothing else.
pub(crate) fn certificates_are_per_cluster(setting: &Setting) -> Result<()> {
    let agent = certificate(setting, "proxy-agent-signer")?;
    let name =
        "CN = system:open-cluster-management:cluster:managed:addon:cluster-proxy:agent:proxy-agent";
    ensure!(agent.contains(name), "{agent}");
    ensure!(agent.contains("TLS Web Client Authentication"), "{agent}");
    let server = certificate(setting, "service-proxy-signer")?;
    let host = TunnelHost::of(&"managed".parse()?);
    let sans = server
        .lines()
        .skip_while(|line| !line.contains("Subject Alternative Name"))
        .nth(1)
        .with_context(|| server.clone())?;
    ensure!(sans.trim() == format!("DNS:{host}"), "{sans}");
    ensure!(
        server.contains("TLS Web Server Authentication")
            && !server.contains("TLS Web Client Authentication"),
        "{server}"
    );
    Ok(())
}

fn certificate(setting: &Setting, signer: &str) -> Result<String> {
    let secret = format!("cluster-proxy-open-cluster-management.io-{signer}-client-cert");
    let pem = setting.agent(&[
        "get",
        "secret",
        &secret,
        "-o",
        "go-template={{index .data \"tls.crt\" | base64decode}}",
    ])?;
    openssl(&["x509", "-noout", "-text"], &pem)
}

fn openssl(arguments: &[&str], input: &str) -> Result<String> {
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "openssl {arguments:?}: {output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

pub(crate) fn objects_come_back(setting: &Setting) -> Result<()> {
    let objects = [
        "deployment/cluster-proxy",
        "service/proxy-entrypoint",
        "secret/proxy-server",
        "secret/cluster-proxy-user-server-client",
        "configmap/cluster-proxy-agents",
    ];
    let uid = |object: &str| setting.hub(&["get", object, "-o", "jsonpath={.metadata.uid}"]);
    for object in objects {
        let before = uid(object)?;
        setting.hub(&["delete", object, "--wait=true"])?;
        Setting::eventually(object, || {
            let after = uid(object)?;
            ensure!(after != before, "{object} is still the old one");
            Ok(())
        });
    }
    setting.hub(&["scale", "deployment/cluster-proxy", "--replicas=0"])?;
    Setting::eventually("replicas set back", || {
        let replicas = setting.hub(&[
            "get",
            "deployment/cluster-proxy",
            "-o",
            "jsonpath={.spec.replicas}",
        ])?;
        ensure!(replicas.trim() == "1", "{replicas}");
        Ok(())
    });
    setting.hub(&[
        "rollout",
        "status",
        "deployment/cluster-proxy",
        "--timeout=90s",
    ])?;
    Ok(())
}

/// What OCM's agent of `managed` asked for is approved when it asks again; the same by or for
/// somebody else, and another subject by it, never is (CVE-2026-4740).
pub(crate) fn foreign_requests(setting: &Setting) -> Result<()> {
    let honest = honest_request(setting)?;
    let request = honest["spec"]["request"].as_str().context("no request")?;
    let user = honest["spec"]["username"].as_str().context("no user")?;
    let other = request_of("other")?;
    let other = openssl(&["base64", "-A"], &other)?;
    let foreign_user = user.replace(":managed:", ":other:");
    ensure!(foreign_user != user, "{user}");
    let hostile = [
        ask(setting, user, "managed", "managed", &other)?,
        ask(setting, &foreign_user, "other", "managed", request)?,
        ask(setting, user, "managed", "other", request)?,
    ];
    let again = ask(setting, user, "managed", "managed", request)?;
    Setting::eventually("the honest request is signed", || {
        let csr = csr(setting, &again)?;
        ensure!(
            csr["status"]["certificate"].is_string(),
            "{}",
            csr["status"]
        );
        Ok(())
    });
    for name in hostile {
        let csr = csr(setting, &name)?;
        ensure!(csr["status"] == json!({}), "{name}: {}", csr["status"]);
    }
    Ok(())
}

/// A request for the certificate of another cluster's agent, as PEM.
fn request_of(cluster: &str) -> Result<String> {
    let mut params = CertificateParams::default();
    let name = format!(
        "system:open-cluster-management:cluster:{cluster}:addon:cluster-proxy:agent:proxy-agent"
    );
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(
        DnType::OrganizationName,
        "open-cluster-management:cluster-proxy",
    );
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params.serialize_request(&KeyPair::generate()?)?.pem()?)
}

/// The request for the proxy-agent's certificate that OCM made and the manager approved.
fn honest_request(setting: &Setting) -> Result<Value> {
    let list = setting.lab.hub.kubectl(&[
        "get",
        "csr",
        "-l",
        "open-cluster-management.io/addon-name=cluster-proxy",
        "-o",
        "json",
    ])?;
    let list: Value = serde_json::from_str(&list)?;
    let items = list["items"].as_array().context("no items")?;
    let signed = items.iter().find(|csr| {
        csr["spec"]["signerName"] == PROXY_AGENT_SIGNER && csr["status"]["certificate"].is_string()
    });
    signed.cloned().context("no signed request")
}

/// Makes a request as `user`, an agent of `its_cluster`, labelled for `cluster`; its name.
fn ask(
    setting: &Setting,
    user: &str,
    its_cluster: &str,
    cluster: &str,
    request: &str,
) -> Result<String> {
    let csr = json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {
            "generateName": "addon-test-",
            "labels": {
                "open-cluster-management.io/addon-name": "cluster-proxy",
                "open-cluster-management.io/cluster-name": cluster,
            },
        },
        "spec": {
            "request": request,
            "signerName": PROXY_AGENT_SIGNER,
            "usages": ["digital signature", "key encipherment", "client auth"],
        },
    });
    let mut command = setting.lab.hub.kubectl_command(&[
        "create",
        "-f",
        "-",
        "-o",
        "name",
        &format!("--as={user}"),
        &format!("--as-group=system:open-cluster-management:{its_cluster}"),
        "--as-group=system:authenticated",
        // An agent of a cluster that is not there may make no requests at all.
        "--as-group=system:masters",
    ]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(csr.to_string().as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{output:?}");
    let name = String::from_utf8(output.stdout)?;
    let (_, name) = name.trim().rsplit_once('/').context("no name")?;
    Ok(name.to_owned())
}

fn csr(setting: &Setting, name: &str) -> Result<Value> {
    let csr = setting
        .lab
        .hub
        .kubectl(&["get", "csr", name, "-o", "json"])?;
    Ok(serde_json::from_str(&csr)?)
}

/// First `prefer`, and `cluster` once the agent has had its certificate for two minutes.
pub(crate) fn agent_table(setting: &Setting) -> Result<()> {
    let limit = Duration::from_secs(200);
    eventually_blocking(limit, "the table of agents says cluster", || {
        let table = setting.hub(&["get", "configmap", "cluster-proxy-agents", "-o", "json"])?;
        let table: Value = serde_json::from_str(&table)?;
        ensure!(table["data"]["agent-identity"] == "cluster", "{table}");
        let rows = table["data"]["clusters"].as_str().context("no clusters")?;
        let rows: Value = serde_json::from_str(rows)?;
        let expected =
            json!([{"name": "managed", "agentNamespace": AGENT_NAMESPACE, "certificate": true}]);
        ensure!(rows == expected, "{rows}");
        Ok(())
    });
    Ok(())
}

/// What stays on purpose: Helm's CRD, the namespaces, and the manager's Lease, which it cannot
/// give back once Helm has taken its rights.
pub(crate) fn uninstall(setting: &Setting) -> Result<()> {
    let hub = &setting.lab.hub;
    hub.helm(&["uninstall", "-n", ADDON_NAMESPACE, "cluster-proxy"])?;
    let ours = |text: String| -> Vec<String> {
        let lines = text.lines().map(str::trim);
        lines
            .filter(|line| line.contains("cluster-proxy") || line.contains("proxy-"))
            .map(str::to_owned)
            .collect()
    };
    let namespaced = "deployments,services,secrets,configmaps,serviceaccounts,roles,rolebindings,networkpolicies";
    let cluster_wide = "clusterroles,clusterrolebindings";
    // The story's own: its certificates and its NodePort Service.
    let story = [
        "secret/cluster-proxy-ca-secret",
        "secret/cluster-proxy-user-serving-cert",
        "service/proxy-entrypoint-external",
    ];
    Setting::eventually("nothing is left on the hub", || {
        let mut left = ours(setting.hub(&["get", namespaced, "-o", "name"])?);
        left.retain(|object| !story.contains(&object.as_str()));
        left.extend(ours(hub.kubectl(&["get", cluster_wide, "-o", "name"])?));
        let of_cluster = format!("{namespaced},manifestworks,managedclusteraddons");
        left.extend(ours(hub.kubectl(&[
            "get",
            &of_cluster,
            "-n",
            "managed",
            "-o",
            "name",
        ])?));
        let fleet = "clustermanagementaddons,managedproxyconfigurations,placements";
        left.extend(ours(hub.kubectl(&["get", fleet, "-A", "-o", "name"])?));
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    });
    Setting::eventually("nothing is left in the managed cluster", || {
        let mut left = ours(setting.agent(&["get", namespaced, "-o", "name"])?);
        left.extend(ours(setting.lab.managed.kubectl(&[
            "get",
            cluster_wide,
            "-o",
            "name",
        ])?));
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    });
    Ok(())
}
