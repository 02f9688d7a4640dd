//! AddOnDeploymentConfig: what it can say about one cluster's agent, each kind of it, given to the
//! addon of that cluster as a user does.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::setting::{
    AGENT_NAMESPACE, PODS, Setting, condition_is, container, eventually, get, has_argument, message,
};

/// Where the agent is moved to.
const OTHER_NAMESPACE: &str = "proxy-agents";

/// A registry that mirrors the image's.
const MIRROR: &str = "mirror.lab.test";

/// Variables, placement, a mirror, limits and an HTTP proxy, all at once.
pub(crate) fn customized(setting: &Setting) -> Result<()> {
    setting.install_at_address(&[])?;
    setting.goes_through("managed", "managed");
    mirror(setting)?;
    configure(setting, &everything(setting, "2"))?;
    let pod = setting.agent_pod(AGENT_NAMESPACE, "an agent as configured", |pod| {
        let agent = container(pod, "proxy-agent")?;
        ensure!(agent["resources"]["limits"]["memory"] == "96Mi", "{agent}");
        Ok(())
    });
    let deployment = deployment(setting, AGENT_NAMESPACE)?;
    ensure!(deployment["spec"]["replicas"] == 2, "{deployment}");

    let spec = &pod["spec"];
    ensure!(spec["nodeSelector"] == json!({"kubernetes.io/hostname": "managed"}));
    let tolerations = spec["tolerations"].as_array().context("no tolerations")?;
    let edge = json!({"key": "edge", "operator": "Exists", "effect": "NoSchedule"});
    ensure!(tolerations.contains(&edge), "{tolerations:?}");
    for name in ["proxy-agent", "addon-agent", "service-proxy"] {
        let container = container(&pod, name)?;
        let image = container["image"].as_str().unwrap_or_default();
        ensure!(
            image.starts_with(&format!("{MIRROR}/cluster-proxy:")),
            "{name}: {image}"
        );
        let limits = &container["resources"]["limits"]["memory"];
        let expected = if name == "proxy-agent" {
            "96Mi"
        } else {
            "80Mi"
        };
        ensure!(limits == expected, "{name}: {limits}");
    }
    let agent = container(&pod, "proxy-agent")?;
    let hub = setting.lab.hub.node_ip().to_string();
    for (name, value) in [
        ("HTTP_PROXY", "http://proxy.lab.test:3128"),
        ("HTTPS_PROXY", "https://proxy.lab.test:3129"),
        ("NO_PROXY", &hub),
    ] {
        let expected = json!({"name": name, "value": value});
        let environment = agent["env"].as_array().context("no env")?;
        ensure!(
            environment.contains(&expected),
            "no {name}: {environment:?}"
        );
    }
    proxy_ca(setting)?;
    let service = ["service", "managed", "-n", AGENT_NAMESPACE];
    let leads_to = get(&setting.lab.managed, &service)?["spec"]["externalName"].clone();
    ensure!(leads_to == "kubernetes.default.svc.lab.test", "{leads_to}");
    Ok(())
}

/// The HTTP proxy's CA is believed towards the hub, and says nothing about who a user is.
fn proxy_ca(setting: &Setting) -> Result<()> {
    let secret = ["secret", "cluster-proxy-ca", "-n", AGENT_NAMESPACE];
    let data = get(&setting.lab.managed, &secret)?["data"].clone();
    let count = |key: &str| -> Result<usize> {
        let encoded = data[key].as_str().with_context(|| format!("no {key}"))?;
        Ok(decoded(encoded)?.matches("BEGIN CERTIFICATE").count())
    };
    ensure!(count("ca.crt")? == 2, "ca.crt: {}", count("ca.crt")?);
    ensure!(count("client-ca.crt")? == 1, "client-ca.crt");
    Ok(())
}

/// Without impersonation the agent may be nobody else, and a hub user is told why not.
pub(crate) fn without_impersonation(setting: &Setting) -> Result<()> {
    let role = ["clusterrole", "cluster-proxy-addon-agent-impersonator"];
    let rules = get(&setting.lab.managed, &role)?["rules"].to_string();
    ensure!(!rules.contains("impersonate"), "{rules}");
    let account = format!("system:serviceaccount:{AGENT_NAMESPACE}:cluster-proxy");
    for what in ["users", "groups"] {
        let mut may = setting
            .lab
            .managed
            .kubectl_command(&["auth", "can-i", "impersonate"]);
        let may = may.args([what, "--as", &account]).output()?;
        let said = String::from_utf8_lossy(&may.stdout);
        ensure!(said.trim() == "no", "impersonate {what}: {said}");
    }
    eventually("a hub user is refused", || {
        let answer = setting.ask("managed", PODS)?;
        let message = answer.status_message(403, "Forbidden")?;
        ensure!(
            message.contains("impersonation of hub users is switched off"),
            "{message}"
        );
        Ok(())
    });
    Ok(())
}

/// What nobody can read stands in a condition, and the agent stays as it is.
pub(crate) fn unusable(setting: &Setting) -> Result<()> {
    let before = deployment(setting, AGENT_NAMESPACE)?;
    configure(setting, &everything(setting, "many"))?;
    eventually("the addon says what is wrong", || {
        let addon = setting.addon("managed")?;
        let condition = condition_is(&addon, "ManifestApplied", "False")?;
        let said = message(condition);
        ensure!(said.contains("replicas") && said.contains("many"), "{said}");
        Ok(())
    });
    let after = deployment(setting, AGENT_NAMESPACE)?;
    let generation = |it: &Value| it["metadata"]["generation"].clone();
    ensure!(
        generation(&before) == generation(&after),
        "the agent changed"
    );
    Ok(())
}

/// Repaired, with another namespace: the agent moves, and nothing of it stays in the old one.
pub(crate) fn moved(setting: &Setting) -> Result<()> {
    forget_requests(setting)?;
    configure(setting, &json!({"agentInstallNamespace": OTHER_NAMESPACE}))?;
    setting.agent_pod(OTHER_NAMESPACE, "an agent in the other namespace", |pod| {
        let service_proxy = container(pod, "service-proxy")?;
        has_argument(service_proxy, "--enable-impersonation=true")
    });
    eventually("ManifestApplied again", || {
        condition_is(&setting.addon("managed")?, "ManifestApplied", "True").map(drop)
    });
    nothing_in(setting, AGENT_NAMESPACE);
    setting.goes_through("managed", "managed");
    setting.is_available("managed");
    let binding = format!("cluster-proxy-addon-agent-impersonator:{OTHER_NAMESPACE}");
    get(&setting.lab.managed, &["clusterrolebinding", &binding])?;
    Ok(())
}

/// Without the configuration everything is as before.
pub(crate) fn taken_back(setting: &Setting) -> Result<()> {
    forget_requests(setting)?;
    refer(setting, &json!([]))?;
    setting.agent_pod(AGENT_NAMESPACE, "an agent in its usual namespace", |pod| {
        container(pod, "proxy-agent").map(drop)
    });
    nothing_in(setting, OTHER_NAMESPACE);
    setting.goes_through("managed", "managed");
    setting.is_available("managed");
    Ok(())
}

/// OCM's agent asks for no certificates while ten requests of its addon lie on the hub, from where
/// Kubernetes removes them after an hour: a suite enrols more often than a user does.
pub(crate) fn forget_requests(setting: &Setting) -> Result<()> {
    let of_addon = "open-cluster-management.io/addon-name=cluster-proxy";
    setting
        .lab
        .hub
        .kubectl(&["delete", "csr", "-l", of_addon])?;
    Ok(())
}

/// Waits until nothing of the agent is left in a namespace of the managed cluster.
pub(crate) fn nothing_in(setting: &Setting, namespace: &str) {
    let kinds = "deployments,replicasets,pods,services,secrets,configmaps,serviceaccounts,roles,\
                 rolebindings,networkpolicies,leases";
    eventually(&format!("nothing is left in {namespace}"), || {
        let arguments = ["get", kinds, "-n", namespace, "-o", "name"];
        let found = setting.lab.managed.kubectl(&arguments)?;
        let left: Vec<_> = found
            .lines()
            .filter(|object| !KUBERNETES_OWN.contains(object))
            .collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    });
}

/// In every namespace.
const KUBERNETES_OWN: [&str; 2] = ["configmap/kube-root-ca.crt", "serviceaccount/default"];

fn everything(setting: &Setting, replicas: &str) -> Value {
    let variable = |name: &str, value: &str| json!({"name": name, "value": value});
    let memory = |container: &str, limit: &str| {
        json!({
            "containerID": format!("deployments:cluster-proxy-proxy-agent:{container}"),
            "resources": {"limits": {"memory": limit}, "requests": {"memory": "16Mi"}},
        })
    };
    json!({
        // Said always: a config that says nothing gets OCM's default, which is another namespace.
        "agentInstallNamespace": AGENT_NAMESPACE,
        "customizedVariables": [
            variable("replicas", replicas),
            variable("serviceDomain", "svc.lab.test"),
            variable("enableImpersonation", "false"),
        ],
        "nodePlacement": {
            "nodeSelector": {"kubernetes.io/hostname": "managed"},
            "tolerations": [{"key": "edge", "operator": "Exists", "effect": "NoSchedule"}],
        },
        "registries": [{"source": "localhost", "mirror": MIRROR}],
        "resourceRequirements": [memory(".+", "80Mi"), memory("proxy-agent", "96Mi")],
        "proxyConfig": {
            "httpProxy": "http://proxy.lab.test:3128",
            "httpsProxy": "https://proxy.lab.test:3129",
            "noProxy": setting.lab.hub.node_ip().to_string(),
            "caBundle": encoded(&proxy_certificate()),
        },
    })
}

/// Writes the configuration and refers to it.
pub(crate) fn configure(setting: &Setting, spec: &Value) -> Result<()> {
    let config = json!({
        "apiVersion": "addon.open-cluster-management.io/v1alpha1",
        "kind": "AddOnDeploymentConfig",
        "metadata": {"name": "edge", "namespace": "managed"},
        "spec": spec,
    });
    setting.lab.hub.apply(&config.to_string())?;
    refer(
        setting,
        &json!([{
            "group": "addon.open-cluster-management.io",
            "resource": "addondeploymentconfigs",
            "namespace": "managed",
            "name": "edge",
        }]),
    )
}

fn refer(setting: &Setting, configs: &Value) -> Result<()> {
    let patch = json!({"spec": {"configs": configs}}).to_string();
    let addon = [
        "patch",
        "managedclusteraddon",
        "cluster-proxy",
        "-n",
        "managed",
    ];
    let how = ["--type=merge", "-p", &patch];
    setting.lab.hub.kubectl(&[&addon[..], &how].concat())?;
    Ok(())
}

fn deployment(setting: &Setting, namespace: &str) -> Result<Value> {
    let name = "cluster-proxy-proxy-agent";
    get(&setting.lab.managed, &["deployment", name, "-n", namespace])
}

/// The image under the mirror's name, as a registry would hand it out.
fn mirror(setting: &Setting) -> Result<()> {
    let folder = setting.folder.path().join("mirrored");
    std::fs::create_dir_all(&folder)?;
    let tar = folder.with_extension("tar");
    let run = |arguments: &[&str]| -> Result<()> {
        let status = Command::new("tar").args(arguments).status()?;
        ensure!(status.success(), "tar {arguments:?}: {status}");
        Ok(())
    };
    let (folder_name, tar_name) = (folder.display().to_string(), tar.display().to_string());
    run(&[
        "-C",
        &folder_name,
        "-xf",
        &setting.image.display().to_string(),
    ])?;
    let index = folder.join("index.json");
    let names = std::fs::read_to_string(&index)?;
    let mirrored = names.replace("\"localhost/", &format!("\"{MIRROR}/"));
    ensure!(
        mirrored != names,
        "the image's own name is another: {names}"
    );
    std::fs::write(&index, mirrored)?;
    run(&["-C", &folder_name, "-cf", &tar_name, "."])?;
    setting.lab.managed.import_image(&tar)
}

/// Of a CA that nobody else knows.
fn proxy_certificate() -> String {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["proxy.lab.test".to_owned()]);
    let certificate = params.and_then(|params| params.self_signed(&key));
    certificate.expect("a certificate").pem()
}

pub(crate) fn encoded(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

pub(crate) fn decoded(text: &str) -> Result<String> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text)?;
    Ok(String::from_utf8(bytes)?)
}
