//! The rules of the house that a compiler does not check: which room may depend on which, and
//! what must never be linked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// What each room may use, as ARCHITECTURE.md draws it. A room that is not listed may use
/// everything: the program, the test kit, suites and benchmarks.
const MAY_USE: &[(&str, &[&str])] = &[
    ("identity", &[]),
    ("runtime", &[]),
    ("kube-api", &[]),
    ("konnectivity-wire", &[]),
    ("forward", &["runtime"]),
    ("tunnel", &["konnectivity-wire", "identity", "runtime"]),
    ("http-proxy", &["identity", "runtime"]),
    (
        "kube-client",
        &["http-proxy", "kube-api", "identity", "runtime"],
    ),
    (
        "authentication",
        &["kube-api", "kube-client", "identity", "runtime"],
    ),
    (
        "proxy-server",
        &[
            "tunnel",
            "authentication",
            "kube-client",
            "identity",
            "runtime",
        ],
    ),
    (
        "proxy-agent",
        &["tunnel", "kube-client", "http-proxy", "identity", "runtime"],
    ),
    (
        "user-server",
        &[
            "forward",
            "tunnel",
            "authentication",
            "kube-client",
            "identity",
            "kube-api",
            "runtime",
        ],
    ),
    (
        "service-proxy",
        &[
            "forward",
            "authentication",
            "kube-client",
            "identity",
            "kube-api",
            "runtime",
        ],
    ),
    ("addon-agent", &["kube-client", "kube-api", "runtime"]),
    (
        "addon-manager",
        &["tunnel", "kube-client", "identity", "kube-api", "runtime"],
    ),
    ("embedded-kube", &["kube-api", "identity", "runtime"]),
];

/// Rooms without a rule: they assemble or test the others.
const MAY_USE_ALL: &[&str] = &["cluster-proxy", "testkit", "tests", "bench", "bench-tunnel"];

/// A second TLS stack or crypto provider in the program would be one too many to keep patched.
const NEVER_LINKED: &[&str] = &["ring", "openssl", "openssl-sys", "native-tls"];

fn cargo(arguments: &[&str]) -> Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .args(arguments)
        .output()
        .context("cargo cannot be run")?;
    ensure!(
        output.status.success(),
        "cargo {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// The workspace's rooms and, for each, the rooms it is built from (tests aside).
fn rooms() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--format-version=1", "--no-deps"])?)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let room = |name: &str| {
        name.strip_prefix("cluster-proxy-")
            .unwrap_or(name)
            .to_owned()
    };
    let names: BTreeSet<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    let mut rooms = BTreeMap::new();
    for package in packages {
        let name = package["name"]
            .as_str()
            .context("a package without a name")?;
        let uses = package["dependencies"]
            .as_array()
            .context("no dependencies")?
            .iter()
            .filter(|dependency| dependency["kind"] != "dev")
            .filter_map(|dependency| dependency["name"].as_str())
            .filter(|dependency| names.contains(dependency))
            .map(room)
            .collect();
        rooms.insert(room(name), uses);
    }
    Ok(rooms)
}

#[test]
fn rooms_depend_downwards_only() -> Result<()> {
    let rules: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let rooms = rooms()?;
    assert!(
        rooms.contains_key("tunnel"),
        "the workspace was not read: {rooms:?}"
    );
    let mut broken = Vec::new();
    for (room, uses) in &rooms {
        let Some(allowed) = rules.get(room.as_str()) else {
            if !MAY_USE_ALL.contains(&room.as_str()) {
                broken.push(format!(
                    "{room} has no rule: add one here and in ARCHITECTURE.md"
                ));
            }
            continue;
        };
        for used in uses.iter().filter(|used| !allowed.contains(&used.as_str())) {
            broken.push(format!("{room} must not depend on {used}"));
        }
    }
    for room in rules.keys().filter(|room| !rooms.contains_key(**room)) {
        broken.push(format!("{room} has a rule and no folder"));
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    Ok(())
}

#[test]
fn one_tls_stack() -> Result<()> {
    let tree = cargo(&[
        "tree",
        "--package=cluster-proxy",
        "--edges=normal,build",
        "--prefix=none",
    ])?;
    let linked: BTreeSet<&str> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(linked.contains("rustls"), "the tree was not read");
    let banned: Vec<_> = NEVER_LINKED
        .iter()
        .filter(|name| linked.contains(**name))
        .collect();
    assert!(banned.is_empty(), "linked into the program: {banned:?}");
    Ok(())
}
