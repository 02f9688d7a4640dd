//! Who somebody is in the managed cluster, and what nobody gains.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_identity::TunnelHost;
use cluster_proxy_testkit::eventually_blocking;
use cluster_proxy_testkit::installation::CLUSTER;
use cluster_proxy_tests::http::{Answer, curl};

use crate::setting::{HUB_NAMESPACE, NAMESPACE, Setting};

const SECRETS: &str = "api/v1/namespaces/kube-system/secrets";
const PODS: &str = "api/v1/namespaces/open-cluster-management-agent/pods";

/// A service account of the managed cluster is itself there, not somebody of the hub.
pub(crate) fn managed_token(setting: &Setting) -> Result<()> {
    let managed = &setting.lab.managed;
    managed.apply(&format!(
        "{{apiVersion: v1, kind: ServiceAccount, metadata: \
         {{name: local, namespace: {NAMESPACE}}}}}"
    ))?;
    let token = managed.kubectl(&["-n", NAMESPACE, "create", "token", "local"])?;
    let who = who_am_i(setting, token.trim())?;
    let name = format!("system:serviceaccount:{NAMESPACE}:local");
    ensure!(who["username"] == name.as_str(), "{who}");
    let mapped = who_am_i(setting, &setting.token)?;
    ensure!(
        mapped["username"] == crate::setting::MAPPED_USER,
        "{mapped}"
    );
    let groups = mapped["groups"].as_array().context("no groups")?;
    for group in groups {
        let group = group.as_str().context("a group that is no text")?;
        ensure!(
            group == "system:authenticated" || group.starts_with("cluster:hub:"),
            "the hub user bears the managed cluster's group {group}"
        );
    }
    Ok(())
}

fn who_am_i(setting: &Setting, token: &str) -> Result<serde_json::Value> {
    let review = r#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}"#;
    let answer = setting.get(
        "apis/authentication.k8s.io/v1/selfsubjectreviews",
        token,
        &["-H", "Content-Type: application/json", "--data", review],
    )?;
    ensure!(answer.code == 201, "{}: {}", answer.code, answer.body);
    Ok(answer.json()?["status"]["userInfo"].clone())
}

/// A token of the hub that the hub does not accept (here: for another audience) is the hub's all
/// the same. The managed cluster has the same issuer name.
pub(crate) fn other_audience(setting: &Setting) -> Result<()> {
    let token = setting.lab.hub.kubectl(&[
        "-n",
        HUB_NAMESPACE,
        "create",
        "token",
        "test-sa",
        "--audience=somebody-else",
    ])?;
    let before = reviews_at_service_proxy(setting)?;
    setting
        .get(PODS, token.trim(), &[])?
        .status_message(401, "Unauthorized")?;
    ensure!(
        reviews_at_service_proxy(setting)? == before,
        "the token came to the managed cluster"
    );
    // The same question with a token of nobody does come there.
    setting
        .get(PODS, "a-token-of-nobody", &[])?
        .status_message(401, "Unauthorized")?;
    ensure!(
        reviews_at_service_proxy(setting)? > before,
        "the count counts nothing"
    );
    Ok(())
}

/// Requests that came to the service-proxy.
fn reviews_at_service_proxy(setting: &Setting) -> Result<u64> {
    let answer = curl(
        setting.lab.managed.command("curl"),
        &["http://127.0.0.1:8000/metrics"],
    )?;
    Ok(answer
        .body
        .lines()
        .filter(|line| line.starts_with("cluster_proxy_service_proxy_requests_total"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum())
}

/// `kubectl --as`, by the managed cluster's own rights: `jane` may list pods of kube-system, and
/// the hub user may act as `jane`.
pub(crate) fn acting_as(setting: &Setting) -> Result<()> {
    setting.lab.managed.apply(JANE)?;
    let pods = |who: &[&str]| -> Result<std::process::Output> {
        let arguments = [&["get", "pods", "-n", "kube-system", "-o", "name"], who].concat();
        Ok(setting.kubectl(&arguments)?.output()?)
    };
    // Rights are seen by watches.
    eventually_blocking(Duration::from_secs(10), "the hub user acts as jane", || {
        let output = pods(&["--as=jane"])?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        ensure!(String::from_utf8_lossy(&output.stdout).contains("pod/coredns"));
        Ok::<_, anyhow::Error>(())
    });
    for (who, said) in [
        (&["--as=john"][..], "may not impersonate users \"john\""),
        (
            &["--as=jane", "--as-group=ops"],
            "may not impersonate groups \"ops\"",
        ),
        (&["--as=jane", "--as-group=system:masters"], "reserved"),
        (&[], "cannot list resource"),
    ] {
        let output = pods(who)?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(
            !output.status.success() && text.contains(said),
            "{who:?}: {text}"
        );
    }
    Ok(())
}

/// A user-server with `--authorize-on-hub` beside the other.
pub(crate) fn authorized_on_hub(setting: &Setting) -> Result<()> {
    let hub = &setting.lab.hub;
    hub.apply(REVIEW_ACCESS)?;
    let server = setting
        .installation
        .borrow()
        .another_user_server(9192, &["--authorize-on-hub"])?;
    let url = setting.url(CLUSTER, PODS).replace(":9092/", ":9192/");
    let header = format!("Authorization: Bearer {}", setting.token);
    let get = || setting.curl(&["-H", &header, &url]);
    let grant = [
        "delete",
        "clusterrolebinding",
        "test-use-managed",
        "--ignore-not-found",
    ];
    hub.kubectl(&grant)?;
    let message = eventually_blocking(Duration::from_secs(20), "nobody lets the user in", || {
        get()?.status_message(403, "Forbidden")
    });
    ensure!(message.contains("get managedclusters/proxy"), "{message}");
    hub.apply(MAY_USE_MANAGED)?;
    eventually_blocking(Duration::from_secs(20), "the hub lets the user in", || {
        let answer = get()?;
        ensure!(answer.code == 200, "{}: {}", answer.code, answer.body);
        Ok::<_, anyhow::Error>(())
    });
    let other = url.replace("/managed/", "/offline/");
    let answer = setting.curl(&["-H", &header, &other])?;
    answer.status_message(403, "Forbidden")?;
    let delete = ["-X", "DELETE", "-H", &header, &url];
    let message = setting.curl(&delete)?.status_message(403, "Forbidden")?;
    ensure!(
        message.contains("delete managedclusters/proxy"),
        "{message}"
    );
    drop(server);
    Ok(())
}

const JANE: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: test-acting-as-jane}
rules:
- {apiGroups: [''], resources: [users], resourceNames: [jane], verbs: [impersonate]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: test-acting-as-jane}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: test-acting-as-jane}
subjects:
- kind: User
  name: cluster:hub:system:serviceaccount:open-cluster-management-hub:test-sa
  apiGroup: rbac.authorization.k8s.io
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: test-jane, namespace: kube-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects:
- {kind: User, name: jane, apiGroup: rbac.authorization.k8s.io}
";

/// What docs/by-hand/hub.yaml leaves out, since the flag is off there.
const REVIEW_ACCESS: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: test-review-access}
rules:
- {apiGroups: [authorization.k8s.io], resources: [subjectaccessreviews], verbs: [create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: test-review-access}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: test-review-access}
subjects:
- {kind: ServiceAccount, name: cluster-proxy-addon-user, namespace: open-cluster-management-addon}
";

const MAY_USE_MANAGED: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: test-use-managed}
rules:
- apiGroups: [cluster.open-cluster-management.io]
  resources: [managedclusters/proxy]
  resourceNames: [managed]
  verbs: [get]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: test-use-managed}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: test-use-managed}
subjects:
- {kind: ServiceAccount, name: test-sa, namespace: open-cluster-management-hub}
";

pub(crate) fn impersonation_headers(setting: &Setting) -> Result<()> {
    for header in [
        "Impersonate-User: system:admin",
        "Impersonate-Group: system:masters",
        "impersonate-group: system:masters",
        "Impersonate-Uid: 0",
        "Impersonate-Extra-Scopes: all",
        "Impersonate-Group;",
    ] {
        let answer = setting.get(SECRETS, &setting.token, &["-H", header])?;
        answer
            .status_message(403, "Forbidden")
            .with_context(|| header.to_owned())?;
        let answer = setting.get(PODS, &setting.token, &["-H", header])?;
        let message = answer
            .status_message(403, "Forbidden")
            .with_context(|| header.to_owned())?;
        ensure!(message.to_lowercase().contains("impersonat"), "{message}");
    }
    Ok(())
}

/// What the roles tell each other in headers, and names of hop-by-hop headers, told by a client.
pub(crate) fn remote_headers(setting: &Setting) -> Result<()> {
    for headers in [
        [
            "X-Remote-Group: system:masters",
            "X-Remote-User: system:admin",
        ],
        [
            "Cluster-Proxy-Namespace: kube-system",
            "Cluster-Proxy-Service: kube-dns",
        ],
        [
            "X_Remote_Group: system:masters",
            "Impersonate_Group: system:masters",
        ],
        [
            "Connection: Impersonate-User, impersonate-group",
            "Connection: AUTHORIZATION",
        ],
        [
            "Connection: X-Remote-User, X-Remote-Group",
            "X-Remote-Group: system:masters",
        ],
    ] {
        let more = ["--http1.1", "-H", headers[0], "-H", headers[1]];
        let answer = setting.get(SECRETS, &setting.token, &more)?;
        let message = answer
            .status_message(403, "Forbidden")
            .with_context(|| format!("{headers:?}"))?;
        ensure!(
            message.contains(crate::setting::MAPPED_USER),
            "{headers:?}: {message}"
        );
        let answer = setting.get(PODS, &setting.token, &more)?;
        ensure!(
            answer.code == 200,
            "{headers:?}: {} {}",
            answer.code,
            answer.body
        );
    }
    Ok(())
}

/// Somebody beside the service-proxy, with no certificate or another's, states a user.
pub(crate) fn service_proxy_alone(setting: &Setting) -> Result<()> {
    let statement = [
        "-H",
        "X-Remote-User: system:admin",
        "-H",
        "X-Remote-Group: system:masters",
    ];
    at_service_proxy(setting, None, &statement)?.status_message(401, "Unauthorized")?;
    let agent = format!("clusters/{CLUSTER}/proxy-agent");
    at_service_proxy(setting, Some(&agent), &statement)?.status_message(401, "Unauthorized")?;
    Ok(())
}

/// The user-server's key is stolen: what it states is still bounded.
pub(crate) fn bounded_word(setting: &Setting) -> Result<()> {
    let client = Some("hub/user-server-client");
    for stated in [
        ["X-Remote-User: alice", "X-Remote-Group: system:masters"],
        ["X-Remote-User: alice", "X-Remote-Group: system:nodes"],
        [
            "X-Remote-User: system:kube-controller-manager",
            "X-Remote-Group: x",
        ],
        ["X-Remote-User: system:node:managed", "X-Remote-Group: x"],
        [
            "X-Remote-User: system:admin",
            "X-Remote-Group: system:masters",
        ],
    ] {
        let answer = at_service_proxy(setting, client, &["-H", stated[0], "-H", stated[1]])?;
        answer
            .status_message(403, "Forbidden")
            .with_context(|| format!("{stated:?}"))?;
    }
    let honest = at_service_proxy(setting, client, &["-H", "X-Remote-User: alice"])?;
    let message = honest.status_message(403, "Forbidden")?;
    ensure!(message.contains("User \"alice\" cannot list"), "{message}");
    Ok(())
}

fn at_service_proxy(setting: &Setting, client: Option<&str>, more: &[&str]) -> Result<Answer> {
    let host = TunnelHost::of(&CLUSTER.parse()?);
    let url = format!("https://{host}:7443/{SECRETS}");
    let installation = setting.installation.borrow();
    let mut command = setting.lab.managed.command("curl");
    command.arg("--cacert").arg(installation.ca());
    command
        .arg("--resolve")
        .arg(format!("{host}:7443:127.0.0.1"));
    if let Some(client) = client {
        command
            .arg("--cert")
            .arg(installation.certificate(&format!("{client}.crt")));
        command
            .arg("--key")
            .arg(installation.certificate(&format!("{client}.key")));
    }
    for header in [
        "Cluster-Proxy-Proto: https",
        "Cluster-Proxy-Namespace: default",
        "Cluster-Proxy-Service: kubernetes",
        "Cluster-Proxy-Port: 443",
    ] {
        command.args(["-H", header]);
    }
    let mut arguments = vec![url.as_str()];
    arguments.extend(more);
    curl(command, &arguments)
}

/// Answers about a token are kept for 10 s, then a deleted account is nobody.
pub(crate) fn deleted_account(setting: &Setting) -> Result<()> {
    let hub = &setting.lab.hub;
    hub.apply(&format!(
        "{{apiVersion: v1, kind: ServiceAccount, metadata: \
         {{name: leaving, namespace: {HUB_NAMESPACE}}}}}"
    ))?;
    let token = hub.kubectl(&["-n", HUB_NAMESPACE, "create", "token", "leaving"])?;
    let token = token.trim();
    let accepted = setting.get(PODS, token, &[])?;
    ensure!(
        accepted.code == 403,
        "accepted and without rights: {}",
        accepted.body
    );
    hub.kubectl(&["-n", HUB_NAMESPACE, "delete", "serviceaccount", "leaving"])?;
    let begin = Instant::now();
    eventually_blocking(
        Duration::from_secs(14),
        "the deleted account is refused",
        || {
            let answer = setting.get(PODS, token, &[])?;
            ensure!(answer.code == 401, "still {}", answer.code);
            Ok(())
        },
    );
    ensure!(
        begin.elapsed() < Duration::from_secs(14),
        "after {:?}",
        begin.elapsed()
    );
    Ok(())
}
