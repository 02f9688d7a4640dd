//! Rights that this suite does not use, each with the reason why it is there.

use super::Account;
use super::granted::Right;

pub(super) enum Unused {
    Because(&'static str),
    Unexplained,
}

/// Why `account` has a right that it did not use.
pub(super) fn unused(account: &Account, right: &Right) -> Unused {
    let found = REASONS.iter().find(|(name, verbs, resource, _)| {
        *name == account.name && verbs.contains(&right.verb.as_str()) && *resource == right.resource
    });
    found.map_or(Unused::Unexplained, |(_, _, _, reason)| {
        Unused::Because(reason)
    })
}

type Row = (
    &'static str,
    &'static [&'static str],
    &'static str,
    &'static str,
);

const LEASE: &str = "coordination.k8s.io/leases";
const REVIEWS: &str = "authentication.k8s.io/tokenreviews";

const GRANTED_ON: &str = "nobody may grant what they may not do themselves";
const OWNER_REFERENCES: &str = "asked by hubs with OwnerReferencesPermissionEnforcement";
const ENTRYPOINT: &str = "for another way of agents to the hub (suite variants)";

const REASONS: &[Row] = &[
    (
        "manager",
        &["get", "create", "update", "patch"],
        LEASE,
        GRANTED_ON,
    ),
    ("manager", &["create"], REVIEWS, GRANTED_ON),
    (
        "manager",
        &["update"],
        "addon.open-cluster-management.io/managedclusteraddons/finalizers",
        OWNER_REFERENCES,
    ),
    (
        "manager",
        &["update"],
        "proxy.open-cluster-management.io/managedproxyconfigurations/finalizers",
        OWNER_REFERENCES,
    ),
    (
        "manager",
        &["create"],
        "apiextensions.k8s.io/customresourcedefinitions",
        "for a hub where Helm was told to leave the definitions out",
    ),
    (
        "manager",
        &["delete"],
        "work.open-cluster-management.io/manifestworks",
        "for an agent that needs fewer of them than before (unit tests)",
    ),
    ("manager", &["get", "delete"], "/services", ENTRYPOINT),
    (
        "manager",
        &["delete"],
        "rbac.authorization.k8s.io/roles",
        ENTRYPOINT,
    ),
    (
        "manager",
        &["delete"],
        "rbac.authorization.k8s.io/rolebindings",
        ENTRYPOINT,
    ),
    (
        "manager",
        &["delete"],
        "networking.k8s.io/networkpolicies",
        "for the policy of before they were switched off (suite variants)",
    ),
    (
        "manager",
        &["patch"],
        "events.k8s.io/events",
        "for what is told again: it is counted up",
    ),
    (
        "addon-agent",
        &["get", "create", "update", "patch"],
        LEASE,
        "for agents of Go releases, which keep it here where the cluster has no Leases",
    ),
    (
        "addon-agent",
        &["create"],
        REVIEWS,
        "for agents of Go releases, which review the hub's tokens themselves",
    ),
];
