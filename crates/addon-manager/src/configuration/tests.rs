use cluster_proxy_identity::certificate::CertificateFacts;
use cluster_proxy_kube_api::managed_proxy_configuration::PROXY_SERVER_DEPLOYED;
use cluster_proxy_kube_api::names::MANAGER_LEASE;
use cluster_proxy_runtime::drain::{Drain, DrainLimits};
use cluster_proxy_runtime::readiness::Readiness;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};

use std::time::Instant;

use super::*;
use crate::Manager;
use crate::crd::{self, Definition};
use crate::fleet_testing::Fleet;
use crate::leader_election::Candidate;
use crate::metrics::Metrics;
use crate::testing::{Hub, NAMESPACE, soon};

fn configuration(entrypoint: Value) -> Value {
    json!({
        "apiVersion": "proxy.open-cluster-management.io/v1alpha1",
        "kind": "ManagedProxyConfiguration",
        "metadata": {"name": CONFIGURATION_NAME},
        "spec": {
            "authentication": {"signer": {"type": "SelfSigned"}},
            "proxyServer": {
                "image": "example.com/cluster-proxy:1", "namespace": NAMESPACE,
                "entrypoint": entrypoint,
            },
            "proxyAgent": {"image": "example.com/cluster-proxy:1"},
            "userServer": {"additionalSANs": ["hub.example.com"]},
        },
    })
}

fn hostname(host: &str) -> Value {
    json!({"type": "Hostname", "hostname": {"value": host}, "port": 30091})
}

/// A hub with the definition of the configuration, and a manager that leads it.
async fn managed() -> Hub {
    managed_and_measured().await.0
}

async fn managed_and_measured() -> (Hub, Metrics, Drain) {
    let hub = Hub::start().await;
    let drain = hub.drain.child();
    let config = Hub::config("one");
    let manager = Manager::new(
        hub.connection.clone(),
        config,
        &mut Registry::default(),
        &Readiness::new(),
    );
    let metrics = manager.metrics().clone();
    drain.spawn(manager.run(drain.clone()));
    soon("the definition", || {
        hub.kube.get(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            "",
            "managedproxyconfigurations.proxy.open-cluster-management.io",
        )
    })
    .await;
    (hub, metrics, drain)
}

fn condition(hub: &Hub, kind: &str) -> Option<Value> {
    let object = hub.kube.get(
        "proxy.open-cluster-management.io/v1alpha1",
        "ManagedProxyConfiguration",
        "",
        CONFIGURATION_NAME,
    )?;
    let conditions = object["status"]["conditions"].as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == kind)
        .cloned()
}

fn facts(secret: &Value) -> Option<CertificateFacts> {
    let field: ByteString = serde_json::from_value(secret["data"]["tls.crt"].clone()).ok()?;
    CertificateFacts::of_pem(&field.0).ok()
}

#[tokio::test]
async fn certificates_follow_the_configuration() {
    let (hub, metrics, drain) = managed_and_measured().await;
    hub.apply(configuration(hostname("hub.example.com")));
    let signed = soon("ProxyServerSecretSigned", || {
        condition(&hub, PROXY_SERVER_SECRET_SIGNED).filter(|it| it["status"] == "True")
    })
    .await;
    assert_eq!(signed["reason"], "SuccessfullySigned");
    let message = signed["message"].as_str().unwrap();
    assert!(message.starts_with("Expiry:20"), "{message}");

    let agent_server = facts(&hub.secret("agent-server").unwrap()).unwrap();
    let expected = [
        "127.0.0.1",
        "hub.example.com",
        "localhost",
        "proxy-entrypoint.open-cluster-management-addon",
        "proxy-entrypoint.open-cluster-management-addon.svc",
    ];
    assert!(agent_server.sans.iter().eq(expected), "{agent_server:?}");
    assert!(agent_server.server && !agent_server.client);
    let user_client = hub.secret(USER_SERVER_CLIENT_SECRET).unwrap();
    let user_client = facts(&user_client).unwrap();
    assert_eq!(
        user_client.common_names,
        [cluster_proxy_identity::USER_SERVER_COMMON_NAME]
    );
    let serving = facts(&hub.secret(USER_SERVING_SECRET).unwrap()).unwrap();
    assert!(serving.sans.contains("cluster-proxy-addon-user"));
    assert!(serving.sans.contains("hub.example.com"));
    assert!(facts(&hub.secret("proxy-client").unwrap()).unwrap().client);

    hub.apply(configuration(hostname("other.example.com")));
    soon("the new name", || {
        let renewed = facts(&hub.secret("agent-server")?)?;
        renewed.sans.contains("other.example.com").then_some(())
    })
    .await;
    let waiting = condition(&hub, PROXY_SERVER_DEPLOYED).unwrap();
    assert_eq!(waiting["reason"], "NotYetDeployed");
    assert_eq!(waiting["message"], "Replicas: 3, available: 0");
    Api::<Deployment>::namespaced(hub.connection.client(), NAMESPACE)
        .patch_status(
            CONFIGURATION_NAME,
            &PatchParams::default(),
            &Patch::Merge(json!({"status": {"availableReplicas": 2, "observedGeneration": 9}})),
        )
        .await
        .unwrap();
    let deployed = soon("ProxyServerDeployed", || {
        condition(&hub, PROXY_SERVER_DEPLOYED).filter(|it| it["status"] == "True")
    })
    .await;
    assert_eq!(deployed["message"], "Replicas: 3");

    // What it writes itself is no reason to look again for ever.
    let mut seen = 0;
    let mut quiet_since = Instant::now();
    soon("quiet", || {
        let count = metrics.reconciles(NAME);
        if count != seen {
            (seen, quiet_since) = (count, Instant::now());
        }
        (quiet_since.elapsed() > Duration::from_secs(1)).then_some(())
    })
    .await;
    let clean = drain.run(LIMITS).await;
    assert!(clean, "the manager ends by itself");
}

#[tokio::test]
async fn what_is_deleted_or_changed_by_hand_comes_back() {
    let hub = managed().await;
    hub.apply(configuration(hostname("hub.example.com")));
    let made = soon("the CA's certificate", || hub.secret("proxy-server-ca")).await;
    let owner = &made["metadata"]["ownerReferences"][0];
    assert_eq!(owner["name"], CONFIGURATION_NAME);
    assert_eq!(owner["controller"], true);
    for name in ["proxy-server-ca", "proxy-server", "cluster-proxy-signer"] {
        soon(name, || hub.secret(name)).await;
        let before = hub.secret("cluster-proxy-signer").unwrap();
        hub.kube.delete("v1", "Secret", NAMESPACE, name).unwrap();
        soon(name, || hub.secret(name)).await;
        let after = hub.secret("cluster-proxy-signer").unwrap();
        assert_eq!(before["data"], after["data"], "the CA stays");
    }
    let mut changed = hub.secret("proxy-server-ca").unwrap();
    changed["data"]["ca.crt"] = json!("bm9uc2Vuc2U=");
    hub.apply(changed);
    soon("the CA's certificate again", || {
        (hub.secret("proxy-server-ca")?["data"] == made["data"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_load_balancer_without_an_address_is_waited_for() {
    let hub = managed().await;
    let entrypoint = json!({"type": "LoadBalancerService", "loadBalancerService": {}});
    hub.apply(configuration(entrypoint));
    let waiting = soon("EntrypointReady", || condition(&hub, "EntrypointReady")).await;
    assert_eq!(waiting["status"], "False");
    let message = waiting["message"].as_str().unwrap();
    assert!(message.contains("proxy-agent-entrypoint"), "{message}");
    soon("the Service", || {
        hub.kube
            .get("v1", "Service", NAMESPACE, "proxy-agent-entrypoint")
    })
    .await;
    let status = json!({"loadBalancer": {"ingress": [{"hostname": "lb.example.com"}]}});
    Api::<Service>::namespaced(hub.connection.client(), NAMESPACE)
        .patch_status(
            "proxy-agent-entrypoint",
            &PatchParams::default(),
            &Patch::Merge(json!({"status": status})),
        )
        .await
        .unwrap();
    soon("the address", || {
        let renewed = facts(&hub.secret("agent-server")?)?;
        renewed.sans.contains("lb.example.com").then_some(())
    })
    .await;
    soon("EntrypointReady", || {
        condition(&hub, "EntrypointReady").filter(|it| it["status"] == "True")
    })
    .await;
    // Nothing asks for the Service any more.
    hub.apply(configuration(hostname("hub.example.com")));
    soon("the end of the Service", || {
        let service = hub
            .kube
            .get("v1", "Service", NAMESPACE, "proxy-agent-entrypoint");
        service.is_none().then_some(())
    })
    .await;
    let kept = hub.kube.get("v1", "Service", NAMESPACE, "proxy-entrypoint");
    assert!(kept.is_some());
}

#[tokio::test]
async fn what_the_hub_says_about_tls_and_the_past_counts() {
    let hub = managed().await;
    hub.apply(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "managedproxyserviceresolvers.proxy.open-cluster-management.io"},
        "spec": {
            "group": "proxy.open-cluster-management.io", "scope": "Cluster",
            "names": {
                "kind": "ManagedProxyServiceResolver", "plural": "managedproxyserviceresolvers",
            },
            "versions": [{
                "name": "v1alpha1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}},
            }],
        },
    }));
    hub.apply(json!({
        "apiVersion": "proxy.open-cluster-management.io/v1alpha1",
        "kind": "ManagedProxyServiceResolver", "metadata": {"name": "old"},
    }));
    hub.apply(configuration(hostname("hub.example.com")));
    let told = soon("the resolvers", || {
        condition(&hub, "ServiceResolversIgnored")
    })
    .await;
    assert_eq!(told["status"], "True");
    let arguments = |minimum: &str| {
        let deployment = hub
            .kube
            .get("apps/v1", "Deployment", NAMESPACE, CONFIGURATION_NAME)?;
        let containers = deployment["spec"]["template"]["spec"]["containers"].to_string();
        let argument = format!("--tls-min-version={minimum}");
        containers.contains(&argument).then_some(())
    };
    soon("the Deployment", || arguments("VersionTLS12")).await;
    hub.apply(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "ocm-tls-profile", "namespace": NAMESPACE},
        "data": {"minTLSVersion": "VersionTLS13"},
    }));
    soon("the profile", || arguments("VersionTLS13")).await;
}

#[tokio::test]
async fn a_signer_that_there_is_none_of_is_told() {
    let hub = managed().await;
    let mut asking = configuration(hostname("hub.example.com"));
    asking["spec"]["authentication"]["signer"]["type"] = json!("CertManager");
    hub.apply(asking);
    let told = soon("the signer", || condition(&hub, "SignerTypeUnsupported")).await;
    assert_eq!(told["status"], "True");
    let message = told["message"].as_str().unwrap();
    assert!(
        message.contains("type CertManager has no effect"),
        "{message}"
    );
    let secret = format!("Secret {NAMESPACE}/cluster-proxy-signer");
    assert!(message.contains(&secret), "{message}");
    // As upstream does, it works all the same.
    soon("ProxyServerSecretSigned", || {
        condition(&hub, PROXY_SERVER_SECRET_SIGNED).filter(|it| it["status"] == "True")
    })
    .await;
    hub.apply(configuration(hostname("hub.example.com")));
    soon("the end of the condition", || {
        condition(&hub, "SignerTypeUnsupported")
            .is_none()
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_broken_configuration_or_ca_is_told() {
    let hub = managed().await;
    hub.apply(json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "cluster-proxy-signer", "namespace": NAMESPACE},
        "data": {"ca.crt": "aGFsZg=="},
    }));
    let mut broken = configuration(hostname("hub.example.com"));
    broken["spec"]["proxyServer"]["replicas"] = json!("many");
    hub.apply(broken);
    let told = soon("the unreadable configuration", || {
        condition(&hub, "ProxyServerDeployed").filter(|it| it["reason"] == UNREADABLE)
    })
    .await;
    assert_eq!(told["status"], "False");

    hub.apply(configuration(hostname("hub.example.com")));
    let told = soon("the half-written CA", || {
        condition(&hub, PROXY_SERVER_SECRET_SIGNED)
    })
    .await;
    assert_eq!(told["status"], "False");
    let message = told["message"].as_str().unwrap();
    assert!(message.contains("left as it is"), "{message}");
    assert!(hub.secret("proxy-server").is_none());

    hub.kube
        .delete("v1", "Secret", NAMESPACE, "cluster-proxy-signer")
        .unwrap();
    soon("the repaired CA", || {
        condition(&hub, PROXY_SERVER_SECRET_SIGNED).filter(|it| it["status"] == "True")
    })
    .await;
}

/// The chart's Role and ClusterRole of the manager must hold what is written here.
#[tokio::test]
async fn the_listed_rights_are_enough() {
    let rule = |group: &str, resources: &[&str], verbs: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    let named = |mut rule: Value, name: &str| {
        rule["resourceNames"] = json!([name]);
        rule
    };
    let ours = "proxy.open-cluster-management.io";
    let rbac = "rbac.authorization.k8s.io";
    let changed = ["list", "watch", "create", "patch", "delete"];
    let definition = format!("managedproxyconfigurations.{ours}");
    let in_the_hub = json!([
        named(
            rule(
                "apiextensions.k8s.io",
                &["customresourcedefinitions"],
                &["create", "patch"]
            ),
            &definition,
        ),
        rule(ours, &["managedproxyconfigurations"], &["list", "watch"]),
        rule(ours, &["managedproxyconfigurations/status"], &["patch"]),
        rule(ours, &["managedproxyserviceresolvers"], &["list"]),
        named(rule("", &["namespaces"], &["get"]), NAMESPACE),
        rule("events.k8s.io", &["events"], &["create", "patch"]),
    ]);
    let in_the_namespace = json!([
        rule("", &["configmaps"], &["get", "list", "watch"]),
        rule(
            "",
            &["secrets"],
            &["get", "list", "watch", "create", "patch"]
        ),
        rule("", &["services"], &["get"]),
        rule("", &["serviceaccounts", "services"], &changed),
        rule("apps", &["deployments"], &changed),
        rule(rbac, &["roles", "rolebindings"], &changed),
        rule("coordination.k8s.io", &["leases"], &["create"]),
        named(
            rule(
                "coordination.k8s.io",
                &["leases"],
                &["get", "update", "patch"]
            ),
            MANAGER_LEASE,
        ),
    ]);
    let fleet = Fleet::start().await;
    let mut context = Context::clone(&fleet.restricted(&in_the_hub, &in_the_namespace));
    context.config.leader_election = true;
    let context = Arc::new(context);
    let mut candidate = Candidate::new(context.client.clone(), &context.config);
    candidate.acquire().await;
    assert_eq!(crd::ensure(&context).await, Definition::Applied);
    fleet.configure(json!({"type": "LoadBalancerService", "loadBalancerService": {}}));
    let running = tokio::spawn(run(Arc::clone(&context)));
    let kube = &fleet.hub.kube;
    let service = || kube.get("v1", "Service", NAMESPACE, "proxy-agent-entrypoint");
    soon("the Service", service).await;
    fleet.configure(hostname("hub.example.com"));
    soon("the end of the Service", || {
        service().is_none().then_some(())
    })
    .await;
    soon("ProxyServerSecretSigned", || {
        condition(&fleet.hub, PROXY_SERVER_SECRET_SIGNED)
    })
    .await;
    running.abort();
    candidate.release().await;
    let version = "coordination.k8s.io/v1";
    let lease = || kube.get(version, "Lease", NAMESPACE, MANAGER_LEASE);
    let given_back = lease().unwrap();
    assert_eq!(given_back["spec"]["holderIdentity"], "");
    let owner = &given_back["metadata"]["ownerReferences"][0];
    assert_eq!(owner["kind"], "ManagedProxyConfiguration");
    // As at the end of the installation: it goes with the configuration.
    let kind = "ManagedProxyConfiguration";
    kube.delete(
        "proxy.open-cluster-management.io/v1alpha1",
        kind,
        "",
        CONFIGURATION_NAME,
    )
    .unwrap();
    soon("the end of the Lease", || lease().is_none().then_some(())).await;
    assert_eq!(context.metrics.failures(NAME), 0);
}

const LIMITS: DrainLimits = DrainLimits {
    min: Duration::ZERO,
    limit: Duration::from_secs(20),
};
