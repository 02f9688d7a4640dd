//! Odd input, and what must hold of whatever is rendered.

use super::*;

fn error(rendered: Result<Vec<Value>, RenderError>) -> String {
    let text = rendered.unwrap_err().to_string();
    assert!(!text.contains('\n'), "more than a line: {text}");
    text
}

#[test]
fn hub_refuses_what_cannot_be() {
    let hub = |pointer: &str, value: Value| error(Setting::new().configure(pointer, value).hub());
    assert!(hub("proxyServer/image", json!(" ")).contains("proxyServer.image"));
    assert!(hub("proxyServer/replicas", json!(-1)).contains("proxyServer.replicas"));
    assert!(hub("proxyServer/namespace", json!("A.b")).contains("\"A.b\""));
    assert!(hub("deploy/ports/agentServer", json!(70000)).contains("70000 is no port"));
    let load_balancer = json!({
        "type": "LoadBalancerService",
        "loadBalancerService": {"annotations": [{"key": "a b", "value": "c"}]},
    });
    assert!(hub("proxyServer/entrypoint", load_balancer).contains("\"a b\""));
    let mut setting = Setting::new();
    setting.configuration["metadata"]["uid"] = Value::Null;
    assert_eq!(setting.hub(), Err(RenderError::NoUid));
}

#[test]
fn what_lets_agents_in_is_never_any() {
    for kind in ["Hostname", "PortForward", "LoadBalancerService"] {
        let setting = Setting::new().configure(
            "proxyServer/entrypoint",
            json!({
                "type": kind, "hostname": {"value": "h"},
            }),
        );
        let objects = setting.hub().unwrap();
        let arguments = arguments(container(&objects, "proxy-server"));
        assert!(arguments.contains(&"--agent-identity=cluster"));
        assert!(arguments.contains(&"--proxy-strategies=destHost"));
        let role = find(&objects, "Role", "cluster-proxy-addon-agent:portforward");
        assert_eq!(role.is_some(), kind == "PortForward");
    }
}

#[test]
fn no_entrypoint_is_port_forward() {
    let setting = Setting::new().configure("proxyServer/entrypoint", Value::Null);
    let objects = setting.hub().unwrap();
    assert!(find(&objects, "Role", "cluster-proxy-addon-agent:portforward").is_some());
}

#[test]
fn variables_have_to_make_sense() {
    let with = |variables: &[(&str, &str)]| error(Setting::new().variables(variables).managed());
    assert!(with(&[("enableImpersonation", "yes")]).contains("must be true or false"));
    assert!(with(&[("replicas", "-1")]).contains("must be a whole number"));
    assert!(with(&[("serviceEntryPointPort", "0")]).contains("0 is no port"));
    assert!(with(&[("oidcIssuerURL", "https://i")]).contains("go together"));
    let issuer = ("oidcIssuerURL", "https://i");
    let client = ("oidcClientID", "c");
    let plain = with(&[("oidcIssuerURL", "http://i"), client]);
    assert!(plain.contains("begins with https://"), "{plain}");
    let unsigned = with(&[issuer, client, ("oidcSigningAlgs", "RS256,none")]);
    assert!(
        unsigned.contains("\"none\", and must be a list of RS256"),
        "{unsigned}"
    );
    for claims in ["[]", "{", r#"{"a": 1}"#] {
        let text = with(&[issuer, client, ("oidcRequiredClaimsJSON", claims)]);
        assert!(text.contains("a JSON object of strings"), "{text}");
    }
}

#[test]
fn arguments_must_not_contradict_the_permissions() {
    let with = |arguments: Value| {
        Setting::new().configure("proxyAgent/additionalServiceProxyArgs", arguments)
    };
    let refused = error(with(json!(["--enable_impersonation=false"])).managed());
    assert!(refused.contains("must not set --enable-impersonation"));
    let issuer = "--oidc-issuer-url=https://i";
    let twice = with(json!([issuer, "--oidc-issuer-url", "https://j"]));
    assert!(error(twice.managed()).contains("more than once"));
    let both =
        with(json!([issuer])).variables(&[("oidcIssuerURL", "https://i"), ("oidcClientID", "c")]);
    assert!(error(both.managed()).contains("more than once"));
}

#[test]
fn permissions_follow_impersonation() {
    let impersonates = |setting: Setting| {
        let objects = setting.managed().unwrap();
        let role = find(
            &objects,
            "ClusterRole",
            "cluster-proxy-addon-agent-impersonator",
        )
        .unwrap();
        role["rules"].to_string().contains("impersonate")
    };
    let off = ("enableImpersonation", "false");
    assert!(impersonates(Setting::new()));
    assert!(!impersonates(Setting::new().variables(&[off])));
    let issuer = [off, ("oidcIssuerURL", "https://i"), ("oidcClientID", "c")];
    assert!(impersonates(Setting::new().variables(&issuer)));
    let argument = Setting::new()
        .configure(
            "proxyAgent/additionalServiceProxyArgs",
            json!(["--oidc-issuer-url=https://i"]),
        )
        .variables(&[off]);
    assert!(impersonates(argument));
}

#[test]
fn values_of_release_0_9_still_count() {
    let old = |values: Value| Setting::new().configure("proxyAgent/additionalValues", values);
    let off = json!({"enableImpersonation": "false", "addtionalServiceCAConfigMap": "old-ca"});
    let objects = old(off.clone()).managed().unwrap();
    let service_proxy = arguments(container(&objects, "service-proxy"));
    assert!(service_proxy.contains(&"--enable-impersonation=false"));
    assert!(
        !service_proxy
            .iter()
            .any(|it| it.starts_with("--impersonate-"))
    );
    assert!(json!(objects).to_string().contains("old-ca"));
    let newer = old(off)
        .variables(&[("enableImpersonation", "1")])
        .configure("proxyAgent/additionalServiceCAConfigMap", json!("new-ca"));
    let objects = newer.managed().unwrap();
    let service_proxy = arguments(container(&objects, "service-proxy"));
    assert!(service_proxy.contains(&"--enable-impersonation=true"));
    assert!(!json!(objects).to_string().contains("old-ca"));
    assert!(error(old(json!({"enableImpersonation": "no"})).managed()).contains("\"no\""));
}

#[test]
fn an_http_proxy_is_trusted_for_dialling_only() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    let proxy_ca = std::fs::read_to_string(folder().join("http-proxy-ca.pem")).unwrap();
    let mut setting = Setting::new();
    let bundle = |pem: &str| json!({"proxyConfig": {"caBundle": STANDARD.encode(pem)}});
    setting.deployment_config = Some(bundle(&format!("{proxy_ca}{proxy_ca}")));
    let objects = setting.managed().unwrap();
    let secret = find(&objects, "Secret", "cluster-proxy-ca").unwrap();
    let text = |key: &str| {
        let bytes = STANDARD
            .decode(secret["data"][key].as_str().unwrap())
            .unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let ca = std::fs::read_to_string(folder().join("ca.pem")).unwrap();
    assert_eq!(text("client-ca.crt"), ca);
    assert_eq!(text("ca.crt"), format!("{proxy_ca}{ca}"));
    assert!(
        arguments(container(&objects, "service-proxy"))
            .contains(&"--client-ca-cert=/etc/ca/client-ca.crt")
    );
    for bad in [
        "nonsense",
        "-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n",
    ] {
        setting.deployment_config = Some(bundle(bad));
        assert!(error(setting.managed()).starts_with("proxyConfig.caBundle holds no usable"));
    }
}

#[test]
fn a_name_that_no_service_bears_gets_none() {
    for (name, has_service) in [("managed", true), ("a.b", false), ("1st", false)] {
        let mut setting = Setting::new();
        setting.cluster["metadata"]["name"] = json!(name);
        let objects = setting.managed().unwrap();
        assert_eq!(
            find(&objects, "Service", name).is_some(),
            has_service,
            "{name}"
        );
    }
}

#[test]
fn the_hubs_node_selector_is_for_the_hub_alone() {
    let mut setting = Setting::new();
    setting.cluster["metadata"]["annotations"] =
        json!({"open-cluster-management/nodeSelector": "{"});
    setting.managed().unwrap();
    setting.cluster["metadata"]["labels"] = json!({"local-cluster": "TRUE"});
    assert!(error(setting.managed()).contains("nodeSelector of ManagedCluster managed"));
}

#[test]
fn switches_of_one_cluster_beat_the_managers() {
    let setting = Setting::new().variables(&[
        ("enableServiceProxy", "false"),
        ("enableKubeApiProxy", "false"),
        ("includeNamespaceCreation", "false"),
        ("serviceEntryPoint", "other.example.com"),
        ("serviceEntryPointPort", "443"),
    ]);
    let objects = setting.managed().unwrap();
    let kinds: Vec<_> = objects
        .iter()
        .map(|it| it["kind"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        [
            "ServiceAccount",
            "Secret",
            "Role",
            "RoleBinding",
            "Deployment"
        ]
    );
    let proxy_agent = arguments(container(&objects, "proxy-agent"));
    assert!(proxy_agent.contains(&"--proxy-server-host=other.example.com"));
    assert!(proxy_agent.contains(&"--proxy-server-port=443"));
}

#[test]
fn nothing_rendered_holds_a_null() {
    fn walk(value: &Value) {
        match value {
            Value::Null => panic!("a null"),
            Value::Array(list) => list.iter().for_each(walk),
            Value::Object(map) => map.values().for_each(walk),
            Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let setting = Setting::new();
    for object in setting
        .hub()
        .unwrap()
        .iter()
        .chain(&setting.managed().unwrap())
    {
        walk(object);
        assert!(object["apiVersion"].is_string() && object["metadata"]["name"].is_string());
    }
}
