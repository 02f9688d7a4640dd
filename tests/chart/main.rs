//! The Helm chart, by the real helm: what it renders (`golden/`), what it refuses, and the table of
//! its values in docs/chart-values.md. Needs no cluster.

mod helm;
mod objects;
mod values;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};

use crate::helm::Helm;

fn main() -> ExitCode {
    cluster_proxy_tests::run(
        "chart",
        Helm::find,
        &[
            ("helm lint has nothing to say", lint),
            ("what is rendered is what is committed", goldens),
            (
                "names, labels and rights are those that others rely on",
                objects::check,
            ),
            ("values that cannot be right are refused", refusals),
            ("the notes tell the next step", notes),
            ("versions are those of the program", versions),
            ("the table of values is up to date", values::table),
            ("defaults are written once", values::defaults),
        ],
    )
}

/// A way to install the chart.
struct Case {
    /// The golden file, without its ending.
    name: &'static str,
    /// Arguments of `--set`.
    sets: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        name: "default",
        sets: &[],
    },
    Case {
        name: "story",
        sets: STORY,
    },
    Case {
        name: "user-server",
        sets: &[
            "enableServiceProxy=true",
            "userServer.enabled=true",
            "userServer.additionalSANs={user.example.com,192.0.2.7}",
            "exposedServices[0].namespace=monitoring",
            "exposedServices[0].service=prometheus",
            "exposedServices[0].port=9090",
            "userServer.authorizeOnHub=true",
        ],
    },
    Case {
        name: "user-server-without-more-names",
        sets: &["enableServiceProxy=true", "userServer.enabled=true"],
    },
    Case {
        name: "load-balancer",
        sets: &["proxyServer.entrypointLoadBalancer=true"],
    },
    Case {
        name: "by-placement",
        sets: &[
            "installByPlacement.placementName=some",
            "installByPlacement.placementNamespace=elsewhere",
        ],
    },
    Case {
        name: "no-kube-api-proxy",
        sets: &["enableKubeApiProxy=false", "enableImpersonation=false"],
    },
    Case {
        name: "network-policies",
        sets: &["enableServiceProxy=true", "networkPolicies.enabled=true"],
    },
    Case {
        name: "cluster-profile",
        sets: &["featureGates.clusterProfile=true"],
    },
    Case {
        name: "images",
        sets: &[
            "enableServiceProxy=true",
            "registry=registry.example.com:5000/mirror",
            "tag=v9",
            "proxyServerImage=registry.example.com/server",
            "proxyAgentImage=registry.example.com/agent",
            "proxyServer.imagePullPolicy=Always",
            "replicas=3",
        ],
    },
];

/// The values of the user story.
pub(crate) const STORY: &[&str] = &[
    "proxyServer.entrypointAddress=172.17.0.1",
    "proxyServer.port=30091",
    "enableServiceProxy=true",
];

fn lint(helm: &Helm) -> Result<()> {
    helm.run(&["lint", "--strict", "--quiet"], &[])?;
    Ok(())
}

fn goldens(helm: &Helm) -> Result<()> {
    let mut wrong = Vec::new();
    for case in CASES {
        let rendered = helm.template(case.sets)?;
        let path = here().join("golden").join(format!("{}.yaml", case.name));
        if !is_committed(&path, &rendered)? {
            wrong.push(case.name);
        }
    }
    ensure!(
        wrong.is_empty(),
        "golden/ differs for {wrong:?}: UPDATE_GOLDEN=1 writes it, git diff shows how"
    );
    // The name of release 0.10 for the same gate.
    let new = helm.template(&["featureGates.clusterProfile=true"])?;
    let old = helm.template(&["featureGates.clusterProfileAccessProvider=true"])?;
    ensure!(new == old, "the two names of the gate render differently");
    Ok(())
}

fn refusals(helm: &Helm) -> Result<()> {
    for (set, said) in [
        ("replicas=0", "replicas"),
        ("replicas=many", "replicas"),
        ("enableServiceProxy=sometimes", "enableServiceProxy"),
        ("proxyServer.port=70000", "port"),
        (
            "proxyServer.entrypointAdress=hub.example.com",
            "entrypointAdress",
        ),
        (
            "proxyServer.entrypointAddress=https://hub.example.com",
            "entrypointAddress",
        ),
        ("proxyServer.imagePullPolicy=Sometimes", "imagePullPolicy"),
        ("spokeAddonNamespace=Upper_Case", "spokeAddonNamespace"),
        ("featureGates.clusterProfiles=true", "clusterProfiles"),
        ("exposedServices[0].service=prometheus", "namespace"),
        ("exposedServices[0].protocol=udp", "protocol"),
        ("userServer.additionalSANs=one", "additionalSANs"),
        ("enableServiceproxy=true", "enableServiceproxy"),
        ("image=a b", "image"),
        ("tag=a/b", "tag"),
    ] {
        let refusal = helm.refuses(set)?;
        ensure!(
            refusal.contains(said),
            "{set} is refused without a word about {said}: {refusal}"
        );
    }
    Ok(())
}

fn notes(helm: &Helm) -> Result<()> {
    for (sets, told) in [
        (STORY, "cluster-proxy-user-serving-cert"),
        (STORY, "172.17.0.1:30091"),
        (
            STORY,
            "https://cluster-proxy-addon-user.open-cluster-management-addon.svc:9092/",
        ),
        (
            &["proxyServer.entrypointLoadBalancer=true"],
            "service proxy-agent-entrypoint",
        ),
        (&[], "port has to be opened"),
        (
            STORY,
            "Secret cluster-proxy-signer in open-cluster-management-addon",
        ),
        (&[], "networkPolicies.enabled=true"),
        (
            &["enableServiceProxy=true", "userServer.enabled=true"],
            "get secret cluster-proxy-user-serving-cert",
        ),
        (&[], "enableServiceProxy=true"),
        (&[], "kubectl get managedclusteraddons"),
    ] {
        let notes = helm.notes(sets)?;
        ensure!(
            notes.contains(told),
            "{sets:?}: nothing about {told}:\n{notes}"
        );
    }
    let story = helm.notes(STORY)?;
    for line in story.lines().filter(|line| !line.contains("://")) {
        ensure!(line.len() <= MAX_LINE, "too long for a terminal: {line}");
    }
    let narrowed = helm.notes(&["networkPolicies.enabled=true"])?;
    ensure!(
        !narrowed.contains("Every pod of the hub"),
        "a protection is missed that is there:\n{narrowed}"
    );
    let signed = helm.notes(&["enableServiceProxy=true", "userServer.enabled=true"])?;
    ensure!(
        !signed.contains("wait for their certificate"),
        "a certificate is asked for that is made:\n{signed}"
    );
    Ok(())
}

/// A terminal's width, for lines that can be broken.
const MAX_LINE: usize = 88;

fn versions(helm: &Helm) -> Result<()> {
    let chart = std::fs::read_to_string(helm.chart().join("Chart.yaml"))?;
    for field in ["version", "appVersion"] {
        let line = format!("\n{field}: {}\n", env!("CARGO_PKG_VERSION"));
        ensure!(chart.contains(&line), "Chart.yaml: {field} is another");
    }
    Ok(())
}

/// Whether `made` is what the file holds; with `UPDATE_GOLDEN` set it is written first.
pub(crate) fn is_committed(path: &Path, made: &str) -> Result<bool> {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, made).with_context(|| path.display().to_string())?;
    }
    Ok(std::fs::read_to_string(path).unwrap_or_default() == made)
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("chart")
}
