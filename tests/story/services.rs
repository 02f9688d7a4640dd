//! Services of the managed cluster: its own DNS, which every cluster has.

use std::time::Duration;

use anyhow::{Result, ensure};
use cluster_proxy_testkit::eventually_blocking;

use crate::setting::Setting;

const LIST: &str = r#"{
  "apiVersion": "v1", "kind": "ConfigMap",
  "metadata": {"name": "cluster-proxy-exposed-services", "namespace": "open-cluster-management-addon"},
  "data": {"dns": "- {namespace: kube-system, service: dns-status, protocol: http}\n\
                   - {namespace: kube-system, service: dns-ready}"}
}"#;

/// CoreDNS's own HTTP ports, as Services.
const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: dns-status, namespace: kube-system}
spec:
  selector: {k8s-app: kube-dns}
  ports:
  - {name: ready, port: 8080, targetPort: 8181}
  - {name: health, port: 8081, targetPort: 8080}
---
apiVersion: v1
kind: Service
metadata: {name: dns-ready, namespace: kube-system}
spec:
  selector: {k8s-app: kube-dns}
  ports:
  - {port: 80, targetPort: 8181}
";

/// A change of the list is seen by a watch.
const WATCH_LIMIT: Duration = Duration::from_secs(10);

pub(crate) fn exposed(setting: &Setting) -> Result<()> {
    let url = |service: &str, path: &str| {
        format!("api/v1/namespaces/kube-system/services/{service}/proxy-service{path}")
    };
    let get = |service: &str, path: &str| setting.get(&url(service, path), &setting.token, &[]);

    unlist(setting)?;
    let refused = eventually_blocking(WATCH_LIMIT, "nothing is listed", || {
        get("http:dns-status:8080", "/ready")?.status_message(403, "Forbidden")
    });
    for named in [
        "dns-status",
        "kube-system",
        "open-cluster-management-addon/cluster-proxy-exposed",
    ] {
        ensure!(refused.contains(named), "{refused}");
    }

    setting.lab.managed.apply(SERVICES)?;
    setting.lab.hub.apply(LIST)?;
    for service in [
        "http:dns-status:8080",
        "http:dns-status:ready",
        "http:dns-status:health",
        "http:dns-ready",
        "http:dns-ready:80",
    ] {
        let path = if service.ends_with("health") {
            "/health"
        } else {
            "/ready"
        };
        // The list, the Service's rules and its name in the DNS are all seen by watches.
        eventually_blocking(WATCH_LIMIT, service, || {
            let answer = get(service, path)?;
            ensure!(answer.code == 200, "{}: {}", answer.code, answer.body);
            ensure!(answer.body == "OK", "{}", answer.body);
            Ok(())
        });
    }
    let several = get("http:dns-status", "/ready")?.status_message(400, "BadRequest")?;
    ensure!(several.contains("8080, 8081"), "{several}");
    let unknown = get("http:dns-status:nosuch", "/")?.status_message(404, "NotFound")?;
    ensure!(
        unknown.contains("http://dns-status.kube-system.svc:nosuch"),
        "{unknown}"
    );
    get("https:dns-status:8080", "/ready")?.status_message(403, "Forbidden")?;
    let plain = get("https:dns-ready:80", "/ready")?;
    ensure!(plain.code == 502, "{}: {}", plain.code, plain.body);
    ensure!(plain.body.contains("speaks no TLS"), "{}", plain.body);

    let managed = &setting.lab.managed;
    let account =
        "{apiVersion: v1, kind: ServiceAccount, metadata: {name: local, namespace: default}}";
    managed.apply(account)?;
    let token = managed.kubectl(&["create", "token", "local"])?;
    // Nobody without a token of the hub, whatever the managed cluster thinks of it.
    for token in ["no-such-token", token.trim()] {
        setting
            .get(&url("http:dns-status:8080", "/ready"), token, &[])?
            .status_message(401, "Unauthorized")?;
    }
    unlist(setting)?;
    eventually_blocking(WATCH_LIMIT, "the list is gone", || {
        get("http:dns-status:8080", "/ready")?.status_message(403, "Forbidden")
    });
    Ok(())
}

fn unlist(setting: &Setting) -> Result<()> {
    setting.lab.hub.kubectl(&[
        "delete",
        "configmap",
        "-n",
        "open-cluster-management-addon",
        "cluster-proxy-exposed-services",
        "--ignore-not-found",
    ])?;
    Ok(())
}
