//! What installations and upgrades rely on, stated once more beside the golden files: those are
//! rewritten by one command, these are not.

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_kube_api::names;
use serde_json::{Value, json};

use crate::STORY;
use crate::helm::{Helm, NAMESPACE};

pub(crate) fn check(helm: &Helm) -> Result<()> {
    let story = Objects(helm.objects(STORY)?);
    selectors(&story)?;
    pods(&story)?;
    service(&story)?;
    addon(&story)?;
    accounts(&story)?;
    nothing_more(helm, &story)?;
    entrypoints(helm)
}

/// Objects of one rendering.
struct Objects(Vec<Value>);

impl Objects {
    fn get(&self, kind: &str, name: &str) -> Result<&Value> {
        let wanted = |it: &&Value| it["kind"] == kind && it["metadata"]["name"] == name;
        let found = self.0.iter().find(wanted);
        found.with_context(|| format!("no {kind} {name}"))
    }

    fn deployments(&self) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(|it| it["kind"] == "Deployment")
    }

    fn names(&self, kind: &str) -> Vec<&str> {
        let of_kind = self.0.iter().filter(|it| it["kind"] == kind);
        of_kind
            .filter_map(|it| it["metadata"]["name"].as_str())
            .collect()
    }
}

/// Immutable: with others an upgrade of an installation of the Go cluster-proxy is refused.
fn selectors(story: &Objects) -> Result<()> {
    for (name, component) in [
        ("cluster-proxy-addon-manager", names::MANAGER_COMPONENT),
        (names::USER_SERVER, names::USER_SERVER),
    ] {
        let deployment = story.get("Deployment", name)?;
        let selector = json!({
            names::ADDON_LABEL: names::ADDON_NAME,
            names::COMPONENT_LABEL: component,
        });
        let spec = &deployment["spec"];
        ensure!(
            spec["selector"]["matchLabels"] == selector,
            "{name}: {spec}"
        );
        ensure!(
            spec["template"]["metadata"]["labels"] == selector,
            "{name}: {spec}"
        );
    }
    Ok(())
}

fn pods(story: &Objects) -> Result<()> {
    for deployment in story.deployments() {
        let pod = &deployment["spec"]["template"]["spec"];
        let security = &pod["securityContext"];
        ensure!(security["runAsNonRoot"] == true, "{security}");
        ensure!(
            security["seccompProfile"]["type"] == "RuntimeDefault",
            "{security}"
        );
        ensure!(pod["terminationGracePeriodSeconds"] == 40, "{pod}");
        for container in pod["containers"].as_array().context("no containers")? {
            let security = &container["securityContext"];
            ensure!(security["readOnlyRootFilesystem"] == true, "{security}");
            ensure!(security["allowPrivilegeEscalation"] == false, "{security}");
            ensure!(
                security["capabilities"] == json!({"drop": ["ALL"]}),
                "{security}"
            );
            for probe in ["livenessProbe", "readinessProbe"] {
                ensure!(
                    container[probe]["httpGet"]["port"] == "health",
                    "{container}"
                );
            }
            let tag = format!(":v{}", env!("CARGO_PKG_VERSION"));
            let image = container["image"].as_str().unwrap_or_default();
            ensure!(image.ends_with(&tag), "{image}");
            let environment = container["env"].as_array().context("no environment")?;
            ensure!(
                environment.iter().any(|it| it["name"] == "POD_NAMESPACE"),
                "{container}"
            );
        }
    }
    Ok(())
}

fn service(story: &Objects) -> Result<()> {
    let spec = &story.get("Service", names::USER_SERVER)?["spec"];
    let ports = spec["ports"].as_array().context("no ports")?;
    for wanted in [443, 9092] {
        ensure!(
            ports
                .iter()
                .any(|it| it["port"] == wanted && it["targetPort"] == 9092),
            "{wanted}: {spec}"
        );
    }
    Ok(())
}

fn addon(story: &Objects) -> Result<()> {
    let addon = story.get("ClusterManagementAddOn", names::ADDON_NAME)?;
    ensure!(
        addon["apiVersion"] == "addon.open-cluster-management.io/v1alpha1",
        "{addon}"
    );
    let (annotation, value) = cluster_proxy_kube_api::addon::LIFECYCLE_ANNOTATION;
    ensure!(
        addon["metadata"]["annotations"][annotation] == value,
        "{addon}"
    );
    let first = &addon["spec"]["supportedConfigs"][0];
    ensure!(
        first["defaultConfig"]["name"] == names::ADDON_NAME,
        "{addon}"
    );
    let placements = json!([{"name": "cluster-proxy-placement", "namespace": NAMESPACE}]);
    let strategy = &addon["spec"]["installStrategy"];
    ensure!(strategy["type"] == "Placements", "{addon}");
    ensure!(strategy["placements"] == placements, "{addon}");
    let binding = story.get("ManagedClusterSetBinding", "global")?;
    ensure!(binding["spec"]["clusterSet"] == "global", "{binding}");
    story.get("Placement", "cluster-proxy-placement")?;
    Ok(())
}

/// The manager and the user-server are two, and nobody has every right on anything.
fn accounts(story: &Objects) -> Result<()> {
    ensure!(
        story.names("ServiceAccount") == [names::SERVICE_ACCOUNT, names::USER_SERVER],
        "{:?}",
        story.names("ServiceAccount")
    );
    for (deployment, account) in [
        ("cluster-proxy-addon-manager", names::SERVICE_ACCOUNT),
        (names::USER_SERVER, names::USER_SERVER),
    ] {
        let pod = &story.get("Deployment", deployment)?["spec"]["template"]["spec"];
        ensure!(pod["serviceAccountName"] == account, "{deployment}: {pod}");
    }
    let manager = "open-cluster-management:cluster-proxy:addon-manager";
    for kind in ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"] {
        story.get(kind, manager)?;
    }
    let roles = ["ClusterRole", "Role"];
    for role in story
        .0
        .iter()
        .filter(|it| roles.iter().any(|kind| it["kind"] == *kind))
    {
        let rules = role["rules"].to_string();
        ensure!(!rules.contains("\"*\""), "a wildcard: {rules}");
        for verb in ["escalate", "bind", "impersonate"] {
            ensure!(!rules.contains(&format!("\"{verb}\"")), "{verb}: {rules}");
        }
    }
    let everywhere = &story.get("ClusterRole", manager)?["rules"];
    ensure!(
        !everywhere.to_string().contains("\"secrets\""),
        "Secrets of every namespace: {everywhere}"
    );
    Ok(())
}

/// Without the user-server nothing of it is there.
fn nothing_more(helm: &Helm, story: &Objects) -> Result<()> {
    let without = Objects(helm.objects(&[])?);
    for object in &without.0 {
        ensure!(
            object["metadata"]["name"] != names::USER_SERVER,
            "there without enableServiceProxy: {object}"
        );
    }
    ensure!(without.names("ServiceAccount") == [names::SERVICE_ACCOUNT]);
    ensure!(
        story.names("ConfigMap").is_empty(),
        "an empty allowlist has a ConfigMap"
    );
    ensure!(
        story.names("NetworkPolicy").is_empty(),
        "policies that nobody asked for"
    );
    Ok(())
}

/// An address goes before a load balancer, and that before the kube-apiserver, whose rights exist
/// only where they are used.
fn entrypoints(helm: &Helm) -> Result<()> {
    let address = "proxyServer.entrypointAddress=hub.example.com";
    let balancer = "proxyServer.entrypointLoadBalancer=true";
    for (sets, kind) in [
        (&[address, balancer][..], "Hostname"),
        (&[balancer], "LoadBalancerService"),
        (&[], "PortForward"),
    ] {
        let objects = Objects(helm.objects(sets)?);
        let configuration = objects.get("ManagedProxyConfiguration", names::ADDON_NAME)?;
        let found = &configuration["spec"]["proxyServer"]["entrypoint"]["type"];
        ensure!(found == kind, "{sets:?}: {found}");
        let role = objects.get(
            "Role",
            "open-cluster-management:cluster-proxy:addon-manager",
        )?;
        let may = role.to_string().contains("pods/portforward");
        ensure!(may == (kind == "PortForward"), "{sets:?}: {role}");
    }
    Ok(())
}
