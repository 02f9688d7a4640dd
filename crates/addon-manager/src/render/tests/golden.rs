//! What is rendered for representative configurations, byte for byte.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

fn compare(name: &str, setting: &Setting) {
    for (part, objects) in [
        ("hub", setting.hub().unwrap()),
        ("managed", setting.managed().unwrap()),
    ] {
        let path = folder().join(format!("{name}.{part}.yaml"));
        let documents: Vec<_> = objects
            .iter()
            .map(|object| serde_saphyr::to_string(object).unwrap())
            .collect();
        let made = documents.join("---\n");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &made).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == made,
            "{} is not what is rendered; look at what UPDATE_GOLDEN=1 changes",
            path.display()
        );
    }
}

#[test]
fn default() {
    compare("default", &Setting::new());
}

#[test]
fn port_forward() {
    let mut setting = Setting::new().configure(
        "proxyServer/entrypoint",
        json!({
            "type": "PortForward",
        }),
    );
    setting.entrypoint = Entrypoint::PortForward;
    compare("port-forward", &setting);
}

#[test]
fn load_balancer() {
    let mut setting = Setting::new().configure("proxyServer/entrypoint", json!({
        "type": "LoadBalancerService",
        "port": 443,
        "loadBalancerService": {
            "name": "proxy-agent-entrypoint",
            "annotations": [{
                "key": "service.beta.kubernetes.io/azure-load-balancer-internal", "value": "true",
            }],
        },
    }));
    setting.entrypoint = Entrypoint::Address {
        host: "lb.example.com".to_owned(),
        port: 443,
    };
    compare("load-balancer", &setting);
}

#[test]
fn local_cluster() {
    let mut setting = Setting::new();
    setting.cluster = json!({
        "metadata": {
            "name": "local-cluster",
            "labels": {"local-cluster": "true"},
            "annotations": {
                "open-cluster-management/nodeSelector": r#"{"node-role": "infra"}"#,
                "open-cluster-management.io/image-registries": json!({
                    "pullSecret": "default.pull",
                    "registries": [{"source": "quay.io", "mirror": "mirror.example.com:5000/q"}],
                }).to_string(),
            },
        },
        "spec": {"hubAcceptsClient": true},
    });
    setting.namespace = "open-cluster-management-agent-addon";
    compare("local-cluster", &setting);
}

#[test]
fn network_policies() {
    let mut setting = Setting::new();
    setting.manager.network_policies = true;
    compare("network-policies", &setting);
}

#[test]
fn without_service_proxy() {
    let mut setting = Setting::new();
    setting.manager.service_proxy = false;
    setting.manager.kube_api_proxy = false;
    setting.manager.network_policies = true;
    compare("without-service-proxy", &setting);
}

#[test]
fn everything() {
    let proxy_ca = std::fs::read(folder().join("http-proxy-ca.pem")).unwrap();
    let mut setting = Setting::new()
        .configure("proxyServer/replicas", json!(3))
        .configure("proxyServer/inClusterServiceName", json!("entry"))
        .configure("proxyServer/additionalArgs", json!(["--v=4"]))
        .configure(
            "proxyServer/nodePlacement",
            json!({
                "nodeSelector": {"zone": "a"},
                "tolerations": [{"key": "dedicated", "operator": "Exists"}],
            }),
        )
        .configure(
            "authentication/dump/secrets",
            json!({
                "signingProxyServerSecretName": "ps",
                "signingAgentServerSecretName": "as",
            }),
        )
        .configure(
            "deploy/ports",
            json!({
                "proxyServer": 18090, "agentServer": 18091, "healthServer": 18092,
            }),
        )
        .configure("proxyAgent/additionalArgs", json!(["--sync-forever"]))
        .configure("proxyAgent/additionalServiceProxyArgs", json!(["--v=4"]))
        .configure("proxyAgent/imagePullSecrets", json!(["pull"]))
        .configure(
            "proxyAgent/additionalServiceCAConfigMap",
            json!("service-ca"),
        )
        .variables(&[
            ("replicas", "2"),
            ("serviceDomain", "svc.example.com"),
            ("tag", "v2"),
            ("oidcIssuerURL", "https://issuer.example.com"),
            ("oidcClientID", "cluster-proxy"),
            ("oidcUsernameClaim", "email"),
            ("oidcUsernamePrefix", "oidc:"),
            ("oidcGroupsClaim", "groups"),
            ("oidcGroupsPrefix", "oidc:"),
            ("oidcReservedNamePrefixes", "system:, kube:"),
            ("oidcSigningAlgs", "RS256,ES256"),
            ("oidcCAConfigMap", "issuer-ca"),
            (
                "oidcRequiredClaimsJSON",
                r#"{"hd": "example.com", "a": "b"}"#,
            ),
            ("impersonateExtraKeys", "scopes.authorization.openshift.io"),
            ("unknown", "left alone"),
        ]);
    setting.manager.agent_image = "quay.io/open-cluster-management/agent:v1".to_owned();
    setting.manager.image_pull_policy = "Always".to_owned();
    setting.manager.network_policies = true;
    setting.tls = TlsSettings {
        min_version: "VersionTLS13".to_owned(),
        cipher_suites: vec!["TLS_AES_128_GCM_SHA256".to_owned()],
    };
    let config = setting.deployment_config.as_mut().unwrap();
    config["nodePlacement"] = json!({
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{
            "key": "edge", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 10,
        }],
    });
    config["proxyConfig"] = json!({
        "httpProxy": "http://proxy.example.com:3128",
        "httpsProxy": "http://proxy.example.com:3129",
        "noProxy": "10.0.0.0/8,.svc",
        "caBundle": STANDARD.encode(proxy_ca),
    });
    config["registries"] = json!([{"source": "quay.io/open-cluster-management", "mirror": "m"}]);
    config["resourceRequirements"] = json!([
        {"containerID": "*:*:*", "resources": {"requests": {"memory": "16Mi"}}},
        {
            "containerID": "deployments:.*:service-proxy",
            "resources": {"requests": {"cpu": "50m"}, "limits": {"memory": "64Mi"}},
        },
    ]);
    compare("everything", &setting);
}
