//! What the addon's accounts may do: what is written down here, and of that, all is needed.

mod audit;
mod granted;
mod unused;

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_testkit::lab::Cluster;
use serde_json::{Value, json};

use self::audit::Uses;
use self::granted::granted;
use self::unused::{Unused, unused};
use crate::kubeconfig::from_secret;
use crate::other_cluster::{OTHER, join};
use crate::{ADDON_NAMESPACE, AGENT_NAMESPACE, Setting};

/// In the managed cluster: exactly the listed rights, and none to be somebody else where that is
/// switched off.
pub(crate) fn of_the_agent(setting: &Setting) -> Result<()> {
    let managed = &setting.lab.managed;
    let account = format!("--as=system:serviceaccount:{AGENT_NAMESPACE}:cluster-proxy");
    let rights = |namespace: &str| rules(managed, &[&account], namespace);
    let everywhere = listed(include_str!("rights/agent-everywhere.txt"));
    let own = listed(include_str!("rights/agent-own-namespace.txt"));
    compare(&rights(AGENT_NAMESPACE)?, &(&everywhere | &own))?;
    compare(&rights("kube-system")?, &everywhere)?;

    let hub = &setting.lab.hub;
    hub.apply(NO_IMPERSONATION)?;
    let configs = json!({"spec": {"configs": [{
        "group": "addon.open-cluster-management.io", "resource": "addondeploymentconfigs",
        "namespace": "managed", "name": NO_IMPERSONATION_NAME,
    }]}});
    configure(setting, &configs)?;
    let tells =
        |what: &str| what.starts_with("impersonate ") || what.ends_with("subjectaccessreviews");
    let expected: BTreeSet<_> = everywhere.iter().filter(|it| !tells(it)).cloned().collect();
    Setting::eventually("the rights to be others are gone", || {
        compare(&rights("kube-system")?, &expected)
    });
    configure(setting, &json!({"spec": {"configs": null}}))?;
    Setting::eventually("the rights are back", || {
        compare(&rights("kube-system")?, &everywhere)
    });
    let config = ["delete", "addondeploymentconfig", NO_IMPERSONATION_NAME];
    hub.kubectl(&[&config[..], &["-n", "managed"]].concat())?;
    let rollout = ["rollout", "status", "deployment/cluster-proxy-proxy-agent"];
    let rolled_out = setting.agent(&[&rollout[..], &["--timeout=90s"]].concat());
    rolled_out.or_else(|error| {
        let pods = setting.agent(&["describe", "pods"])?;
        let logs = ["logs", "-l", AGENT_PODS, "--all-containers", "--tail=20"];
        Err(error.context(format!("{pods}\n{}", setting.agent(&logs)?)))
    })?;
    Ok(())
}

const AGENT_PODS: &str = "proxy.open-cluster-management.io/component-name=proxy-agent";

const NO_IMPERSONATION_NAME: &str = "no-impersonation";

/// With the namespace: without one, OCM's default for it holds, and the agent would move.
const NO_IMPERSONATION: &str = "{apiVersion: addon.open-cluster-management.io/v1alpha1, \
    kind: AddOnDeploymentConfig, metadata: {name: no-impersonation, namespace: managed}, \
    spec: {agentInstallNamespace: open-cluster-management-cluster-proxy, \
    customizedVariables: [{name: enableImpersonation, value: 'false'}]}}";

/// Sets which configurations the addon of `managed` names, and waits until they are in force.
fn configure(setting: &Setting, patch: &Value) -> Result<()> {
    let addon = [
        "patch",
        "managedclusteraddon",
        "cluster-proxy",
        "-n",
        "managed",
    ];
    let patch = patch.to_string();
    let merge = ["--type=merge", "--patch", &patch];
    setting.lab.hub.kubectl(&[&addon[..], &merge].concat())?;
    Ok(())
}

/// At the hub, with the certificate that OCM's agent got for the addon: its own Lease, and nothing
/// of another cluster's.
pub(crate) fn of_the_hub_identity(setting: &Setting) -> Result<()> {
    join(setting, OTHER)?;
    let hub = &setting.lab.hub;
    let folder = tempfile::TempDir::new()?;
    let secret = "cluster-proxy-hub-kubeconfig";
    let kubeconfig = from_secret(setting, AGENT_NAMESPACE, secret, folder.path())?;
    let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
    let who = hub.kubectl(&["auth", "whoami", "-o", "json", &kubeconfig])?;
    let who: Value = serde_json::from_str(&who)?;
    let who = &who["status"]["userInfo"];
    let cluster = "system:open-cluster-management:cluster:managed:addon:cluster-proxy";
    ensure!(
        who["username"] == format!("{cluster}:agent:addon-agent"),
        "{who}"
    );
    let groups: BTreeSet<_> = texts(&who["groups"]).into_iter().collect();
    let expected = [
        "open-cluster-management:cluster-proxy",
        "system:authenticated",
        cluster,
    ];
    ensure!(groups == BTreeSet::from(expected), "{who}");

    let everywhere = listed(include_str!("rights/hub-identity-everywhere.txt"));
    let own = listed(include_str!("rights/hub-identity-own-namespace.txt"));
    compare(
        &rules(hub, &[&kubeconfig], "managed")?,
        &(&everywhere | &own),
    )?;
    for namespace in [OTHER, ADDON_NAMESPACE, "kube-system", "default"] {
        compare(&rules(hub, &[&kubeconfig], namespace)?, &everywhere)
            .with_context(|| format!("in {namespace}"))?;
        for resource in FOREIGN {
            for arguments in [&["get", resource][..], &["get", resource, "cluster-proxy"]] {
                let more = ["-n", namespace, &kubeconfig];
                forbidden(hub, &[arguments, &more].concat(), "")?;
            }
        }
        for kind in ["coordination.k8s.io/v1/Lease", "v1/ConfigMap", "v1/Secret"] {
            let (version, kind) = kind.rsplit_once('/').context("no kind")?;
            let metadata = json!({"name": "cluster-proxy", "namespace": namespace});
            let object = json!({"apiVersion": version, "kind": kind, "metadata": metadata});
            let create = ["create", "--validate=false", "-f", "-", &kubeconfig];
            forbidden(hub, &create, &object.to_string())?;
        }
    }
    let lease = "{apiVersion: coordination.k8s.io/v1, kind: Lease, \
                 metadata: {name: cluster-proxy, namespace: managed}}";
    for how in [&["apply", "--server-side"][..], &["replace"]] {
        let file = ["--validate=false", "-f", "-", &kubeconfig];
        hub.kubectl_with_input(&[how, &file].concat(), lease)?;
    }
    let lease = ["lease", "cluster-proxy", "-n", "managed"];
    hub.kubectl(&[&["get"], &lease[..], &[&kubeconfig]].concat())?;
    hub.kubectl(&[&["delete"], &lease[..]].concat())?;
    for arguments in [
        &["get", "secrets", "-n", "managed"][..],
        &["get", "managedclusters"],
        &["get", "csr"],
        &["delete", "lease", "cluster-proxy", "-n", "managed"],
    ] {
        forbidden(hub, &[arguments, &[&kubeconfig]].concat(), "")?;
    }
    Ok(())
}

/// What another cluster's namespace, and the hub's part of the addon, are made of.
const FOREIGN: &[&str] = &[
    "secrets",
    "configmaps",
    "pods",
    "leases",
    "serviceaccounts",
    "roles",
    "manifestworks",
    "managedclusteraddons",
    "events",
];

/// Every right that was granted was used in this suite, or it is written down why it is there all
/// the same; and no request of ours was refused. By the audit logs of both kube-apiservers.
#[expect(clippy::print_stdout, reason = "a test's report")]
pub(crate) fn are_all_used(setting: &Setting) -> Result<()> {
    let mut complaints = Vec::new();
    for cluster in [&setting.lab.hub, &setting.lab.managed] {
        let uses = Uses::read(cluster)?;
        for account in accounts(cluster.name()) {
            let granted = granted(cluster, account)?;
            ensure!(
                !granted.is_empty(),
                "{}: nothing is granted to {account:?}",
                cluster.name()
            );
            for refused in uses.refused(account) {
                complaints.push(format!("{} was refused: {refused}", account.name));
            }
            for right in &granted {
                if uses.contains(account, right, &granted) {
                    continue;
                }
                match unused(account, right) {
                    Unused::Because(reason) => {
                        println!("    {:<12} {right}: not used: {reason}", account.name);
                    }
                    Unused::Unexplained => {
                        complaints.push(format!("{}: {right} was never used", account.name));
                    }
                }
            }
        }
    }
    ensure!(complaints.is_empty(), "\n    {}", complaints.join("\n    "));
    Ok(())
}

/// An account of the addon's.
#[derive(Clone, Copy, Debug)]
struct Account {
    name: &'static str,
    user: &'static str,
    /// Those that exist for the addon alone.
    groups: &'static [&'static str],
}

fn accounts(cluster: &str) -> &'static [Account] {
    if cluster == "hub" { HUB } else { MANAGED }
}

const HUB: &[Account] = &[
    Account {
        name: "manager",
        user: "system:serviceaccount:open-cluster-management-addon:cluster-proxy",
        groups: &[],
    },
    Account {
        name: "user-server",
        user: "system:serviceaccount:open-cluster-management-addon:cluster-proxy-addon-user",
        groups: &[],
    },
    Account {
        name: "proxy-server",
        user: "system:serviceaccount:open-cluster-management-addon:cluster-proxy-proxy-server",
        groups: &[],
    },
    Account {
        name: "addon-agent",
        user: "system:open-cluster-management:cluster:managed:addon:cluster-proxy:agent:addon-agent",
        groups: &[
            "system:open-cluster-management:cluster:managed:addon:cluster-proxy",
            "open-cluster-management:cluster-proxy",
        ],
    },
];

const MANAGED: &[Account] = &[Account {
    name: "agent",
    user: "system:serviceaccount:open-cluster-management-cluster-proxy:cluster-proxy",
    groups: &[],
}];

/// The rights of whom `identity` stands for, in a namespace, less what anybody has: one line a
/// verb and resource.
fn rules(cluster: &Cluster, identity: &[&str], namespace: &str) -> Result<BTreeSet<String>> {
    let anybody = ["--as=system:serviceaccount:default:nobody"];
    let all = review(cluster, identity, namespace)?;
    Ok(&all - &review(cluster, &anybody, namespace)?)
}

fn review(cluster: &Cluster, identity: &[&str], namespace: &str) -> Result<BTreeSet<String>> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    });
    let create = ["create", "--validate=false", "-f", "-", "-o", "json"];
    let arguments = [&create[..], identity].concat();
    let review = cluster.kubectl_with_input(&arguments, &review.to_string())?;
    let status: Value = serde_json::from_str(&review)?;
    let status = &status["status"];
    let mut lines = BTreeSet::new();
    for rule in status["resourceRules"].as_array().context("no rules")? {
        let names = texts(&rule["resourceNames"]).join(",");
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    let line = format!("{verb} {group}/{resource} {names}");
                    lines.insert(line.trim_end().to_owned());
                }
            }
        }
    }
    for rule in status["nonResourceRules"].as_array().into_iter().flatten() {
        for url in texts(&rule["nonResourceURLs"]) {
            for verb in texts(&rule["verbs"]) {
                lines.insert(format!("{verb} {url}"));
            }
        }
    }
    Ok(lines)
}

fn texts(list: &Value) -> Vec<&str> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(Value::as_str).collect()
}

/// The lines of a file of rights.
fn listed(text: &str) -> BTreeSet<String> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

fn compare(found: &BTreeSet<String>, expected: &BTreeSet<String>) -> Result<()> {
    let (more, fewer) = (found - expected, expected - found);
    ensure!(
        more.is_empty() && fewer.is_empty(),
        "too much: {more:#?}\nmissing: {fewer:#?}"
    );
    Ok(())
}

fn forbidden(cluster: &Cluster, arguments: &[&str], input: &str) -> Result<()> {
    match cluster.kubectl_with_input(arguments, input) {
        Ok(answer) => anyhow::bail!("kubectl {arguments:?} is allowed: {answer}"),
        Err(error) => {
            let error = format!("{error:#}");
            ensure!(error.contains("(Forbidden)"), "{error}");
            Ok(())
        }
    }
}
