//! What only looks: get in all its forms, lists, watches, who one is.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_testkit::eventually_blocking;
use cluster_proxy_testkit::process::Running;
use serde_json::Value;

use crate::kubectl::{Way, here};
use crate::setting::{MAPPED_USER, NAMESPACE, Setting, WORKER};

const LIMIT: Duration = Duration::from_secs(20);

/// 60 objects of 80 kB.
const MANY: usize = 60;
const SIZE: usize = 80_000;

/// Objects a request.
const CHUNK: usize = 15;

/// What must read alike through cluster-proxy and past it, errors included.
const ALIKE: &[&[&str]] = &[
    &["get", "pods"],
    &["get", "pods", "-o", "wide"],
    &["get", "pods", "-o", "yaml"],
    &["get", "pod", "worker", "-o", "json"],
    &["get", "pods", "-o", "name"],
    &[
        "get",
        "pods",
        "-o",
        "jsonpath={range .items[*]}{.metadata.name} {.status.podIP}{\"\\n\"}{end}",
    ],
    &[
        "get",
        "pods",
        "-o",
        "custom-columns=N:.metadata.name,NODE:.spec.nodeName",
    ],
    &[
        "get",
        "pods",
        "-o",
        "go-template={{range .items}}{{.metadata.uid}} {{end}}",
    ],
    &[
        "get",
        "pods",
        "-l",
        "suite=kubectl,app in (web, worker)",
        "--show-labels",
    ],
    &[
        "get",
        "pods",
        "--field-selector",
        "status.phase=Running,metadata.name!=web",
    ],
    &["get", "pods", "--sort-by", ".metadata.name", "--no-headers"],
    &["get", "pods,configmaps,serviceaccounts", "-A"],
    &["get", "nodes", "-o", "wide"],
    &["get", "apiservices"],
    &["describe", "pod", "worker"],
    &["events", "--for", "pod/worker"],
    &["explain", "pods.spec.containers.resources"],
    &["api-resources", "--verbs=list", "-o", "wide"],
    &["api-versions"],
    &["version", "-o", "json"],
    &["get", "pod", "missing"],
    &["get", "nonsense"],
    &["get", "pods", "-o", "jsonpath={.nonsense"],
];

pub(crate) fn as_directly(setting: &Setting) -> Result<()> {
    for way in setting.versions() {
        for arguments in ALIKE {
            alike(&way, &here(arguments));
        }
    }
    Ok(())
}

/// Ages go on between two looks, so they may look more than once.
fn alike(way: &Way<'_>, arguments: &[&str]) {
    eventually_blocking(
        LIMIT,
        format!("{way}: {} reads as it does directly", arguments.join(" ")),
        || {
            let (through, direct) = std::thread::scope(|scope| {
                let direct = scope.spawn(|| way.ask_directly(arguments));
                (way.ask(arguments), direct.join().expect("no panic"))
            });
            let (through, direct) = (through?, direct?);
            ensure!(through == direct, "{through:?} and {direct:?}");
            ensure!(!through.stdout.is_empty() || !through.stderr.is_empty());
            Ok(())
        },
    );
}

/// Before 1.34 kubectl takes a raw path for the whole path, whatever the server's URL has.
pub(crate) fn raw(setting: &Setting) -> Result<()> {
    for way in setting.versions() {
        let prefix = if way.is_old() { "/managed" } else { "" };
        let paths = [
            "/version".to_owned(),
            "/openapi/v2".to_owned(),
            format!("/api/v1/namespaces/{NAMESPACE}/pods?limit=2&labelSelector=suite%3Dkubectl"),
            format!("/api/v1/namespaces/{NAMESPACE}/pods/{WORKER}/log?tailLines=1&limitBytes=5"),
        ];
        for path in &paths {
            eventually_blocking(LIMIT, format!("{way}: {path} is the same"), || {
                let through = way.kubectl(&["get", "--raw", &format!("{prefix}{path}")])?;
                let direct = way.directly(&["get", "--raw", path])?;
                ensure!(!through.is_empty() && through == direct, "{through}");
                Ok(())
            });
        }
        let said = way.ask(&["get", "--raw", &format!("{prefix}/nonsense")])?;
        ensure!(
            said.code == Some(1) && said.stderr.contains("(NotFound)"),
            "{way}: {said:?}"
        );
        // The prefix forgotten, and doubled.
        let (path, words) = if way.is_old() {
            ("/api/v1", "cluster \"api\" is not connected")
        } else {
            ("/managed/api/v1", "(NotFound)")
        };
        let said = way.ask(&["get", "--raw", path])?;
        ensure!(
            said.code == Some(1) && said.stderr.contains(words),
            "{way}: {said:?}"
        );
    }
    Ok(())
}

pub(crate) fn large_lists(setting: &Setting) -> Result<()> {
    let items: Vec<_> = (0..MANY)
        .map(|number| {
            let text = format!("{number:08}").repeat(SIZE / 8);
            serde_json::json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": { "name": format!("many-{number}"), "labels": { "many": "yes" } },
                "data": { "text": text },
            })
        })
        .collect();
    let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": items });
    let chunk_size = format!("--chunk-size={CHUNK}");
    let limit = format!("limit={CHUNK}");
    let first = setting.versions().next().context("no kubectl")?;
    first.with_input(&here(&["create", "-f", "-"]), list.to_string().as_bytes())?;
    for way in setting.versions() {
        let all = here(&["get", "configmaps", "-l", "many=yes", "-o", "json"]);
        let through = way.kubectl(&all)?;
        ensure!(
            through.len() > MANY * SIZE && through == way.directly(&all)?,
            "{way}: the whole list differs: {} bytes",
            through.len()
        );
        let chunks = [&all[..], &["-v=6", chunk_size.as_str()]].concat();
        let said = way.ask(&chunks)?;
        ensure!(
            said.code == Some(0) && said.stdout == through,
            "{way}: {}",
            said.stderr
        );
        let asked = said.stderr.matches(&limit).count();
        ensure!(
            asked >= MANY / CHUNK,
            "{way}: {asked} requests: {}",
            said.stderr
        );
    }
    first.kubectl(&here(&["delete", "configmaps", "-l", "many=yes"]))?;
    let left = setting.lab.managed.kubectl(&here(&[
        "get",
        "configmaps",
        "-l",
        "many=yes",
        "-o",
        "name",
    ]))?;
    ensure!(left.is_empty(), "{left}");
    Ok(())
}

/// Events come at once, and in their order.
pub(crate) fn watch(setting: &Setting) -> Result<()> {
    let managed = &setting.lab.managed;
    let mut watches = Vec::new();
    for way in setting.versions() {
        let watch = way.endless(&here(&[
            "get",
            "configmaps",
            "-w",
            "--output-watch-events",
            "-l",
            "watched=yes",
        ]));
        watches.push(Running::start(format!("get-w-{way}"), watch)?);
    }
    managed.kubectl(&here(&["create", "configmap", "watched"]))?;
    managed.kubectl(&here(&["label", "configmap", "watched", "watched=yes"]))?;
    for watch in &watches {
        watch.wait_for_line("ADDED", LIMIT)?;
    }
    managed.kubectl(&here(&["annotate", "configmap", "watched", "seen=yes"]))?;
    for watch in &watches {
        watch.wait_for_line("MODIFIED", LIMIT)?;
    }
    managed.kubectl(&here(&["delete", "configmap", "watched"]))?;
    for watch in &watches {
        watch.wait_for_line("DELETED", LIMIT)?;
    }
    Ok(())
}

pub(crate) fn who(setting: &Setting) -> Result<()> {
    for way in setting.versions() {
        let review: Value = serde_json::from_str(&way.kubectl(&["auth", "whoami", "-o", "json"])?)?;
        let user = &review["status"]["userInfo"];
        ensure!(user["username"] == MAPPED_USER, "{way}: {user}");
        let groups = user["groups"].as_array().context("no groups")?;
        ensure!(
            groups.contains(&Value::from("system:authenticated"))
                && !groups.contains(&Value::from("system:masters")),
            "{way}: {user}"
        );
        let may = way.kubectl(&["auth", "can-i", "delete", "nodes"])?;
        ensure!(may == "yes\n" || may.ends_with("\nyes\n"), "{way}: {may}");
        let list = way.kubectl(&here(&["auth", "can-i", "--list"]))?;
        ensure!(list.contains("*.*"), "{way}: {list}");
        let not = way.ask(&[
            "auth",
            "can-i",
            "delete",
            "nodes",
            "--as",
            "system:serviceaccount:default:default",
        ])?;
        ensure!(
            not.code == Some(1) && not.stdout != "yes\n",
            "{way}: {not:?}"
        );
    }
    Ok(())
}

/// The lab has no metrics-server, so this is about the same clear refusal.
#[expect(clippy::print_stdout, reason = "what was not tried is said")]
pub(crate) fn top(setting: &Setting) -> Result<()> {
    for way in setting.versions() {
        for what in ["nodes", "pods"] {
            let arguments = here(&["top", what]);
            let said = way.ask(&arguments)?;
            ensure!(said == way.ask_directly(&arguments)?, "{way}: {said:?}");
            ensure!(
                said.code == Some(1) && said.stderr.contains("Metrics API not available"),
                "{way}: {said:?}"
            );
        }
    }
    println!(
        "kubectl: SKIP top's figures: the lab has no metrics-server; its refusal was compared"
    );
    Ok(())
}
