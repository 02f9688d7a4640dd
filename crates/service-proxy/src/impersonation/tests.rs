use std::collections::{BTreeMap, BTreeSet};

use super::*;

fn user(name: &str, groups: &[&str]) -> User {
    User {
        name: name.to_owned(),
        uid: Some("u-1".to_owned()),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        extra: BTreeMap::new(),
    }
}

fn map(user: &User) -> Result<Impersonated, Refusal> {
    Impersonated::map(user, &Impersonation::default())
}

fn headers_of(impersonated: &Impersonated) -> Vec<(String, String)> {
    let mut headers = HeaderMap::new();
    impersonated.set(None, &mut headers).expect("plain text");
    headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned()))
        .collect()
}

#[test]
fn service_accounts_of_the_hub_get_the_prefix() {
    let hub_user = user(
        "system:serviceaccount:ci:robot",
        &[
            "system:serviceaccounts",
            "system:serviceaccounts:ci",
            "system:authenticated",
            "team",
        ],
    );
    let mapped = map(&hub_user).expect("allowed");
    assert_eq!(mapped.user, "cluster:hub:system:serviceaccount:ci:robot");
    assert_eq!(
        mapped.groups,
        [
            "cluster:hub:system:serviceaccounts",
            "cluster:hub:system:serviceaccounts:ci",
            "system:authenticated",
            "team",
        ]
    );
    let raw = Impersonation {
        raw_service_account_groups: true,
        ..Impersonation::default()
    };
    let mapped = Impersonated::map(&hub_user, &raw).expect("allowed");
    assert_eq!(mapped.user, "cluster:hub:system:serviceaccount:ci:robot");
    assert_eq!(mapped.groups, hub_user.groups);
}

#[test]
fn other_users_keep_their_name() {
    for name in [
        "alice",
        "alice@example.org",
        "https://issuer#1",
        "System:masters",
        "systemd",
    ] {
        assert_eq!(map(&user(name, &[])).expect("allowed").user, name);
    }
}

#[test]
fn names_of_the_clusters_own_machinery_refuse_the_request() {
    for name in [
        "",
        "system:masters",
        "system:admin",
        "system:anonymous",
        "system:kube-controller-manager",
        "system:kube-scheduler",
        "system:node:worker-1",
        "system:apiserver",
        "system:bootstrap:abcdef",
        "system:serviceaccounts",
        "system:serviceaccount",
        "system:",
        "cluster:hub:system:serviceaccount:kube-system:admin",
        "cluster:hub:",
    ] {
        let refusal = map(&user(name, &[])).expect_err(name);
        assert_eq!(
            refusal,
            Refusal::ReservedUser {
                name: name.to_owned()
            }
        );
    }
}

#[test]
fn powerful_groups_refuse_the_request() {
    for group in [
        "system:masters",
        "system:nodes",
        "system:node-admins",
        "system:node:worker-1",
        "system:node-proxier",
        "system:kube-scheduler",
        "system:kube-controller-manager",
        "system:cluster-admins",
        "cluster:hub:system:serviceaccounts",
    ] {
        let refusal = map(&user("alice", &["team", group])).expect_err(group);
        assert_eq!(
            refusal,
            Refusal::ReservedGroup {
                name: group.to_owned()
            }
        );
    }
}

#[test]
fn unknown_system_groups_are_left_out() {
    let hub_user = user(
        "alice",
        &[
            "system:unauthenticated",
            "system:monitoring",
            "system:serviceaccountsx",
            "",
            "a",
        ],
    );
    assert_eq!(map(&hub_user).expect("allowed").groups, ["a"]);

    let bounds = Impersonation {
        system_groups: BTreeSet::from(["system:monitoring".to_owned()]),
        ..Impersonation::default()
    };
    assert_eq!(
        Impersonated::map(&hub_user, &bounds)
            .expect("allowed")
            .groups,
        ["system:monitoring", "a"]
    );
}

#[test]
fn what_is_listed_never_lets_power_through() {
    let bounds = Impersonation {
        system_groups: BTreeSet::from(["system:masters".to_owned()]),
        ..Impersonation::default()
    };
    Impersonated::map(&user("alice", &["system:masters"]), &bounds).expect_err("still refused");
}

#[test]
fn uid_and_informative_extra_are_left_out_where_not_permitted() {
    let mut hub_user = user("alice", &[]);
    for key in INFORMATIVE_EXTRA {
        hub_user.extra.insert(key.to_owned(), vec!["x".to_owned()]);
    }
    assert_eq!(
        headers_of(&map(&hub_user).expect("allowed")),
        [("impersonate-user".to_owned(), "alice".to_owned())]
    );

    let bounds = Impersonation {
        uid: true,
        extra_keys: BTreeSet::from(["authentication.kubernetes.io/pod-name".to_owned()]),
        ..Impersonation::default()
    };
    let mapped = Impersonated::map(&hub_user, &bounds).expect("allowed");
    assert_eq!(
        headers_of(&mapped),
        [
            ("impersonate-user".to_owned(), "alice".to_owned()),
            ("impersonate-uid".to_owned(), "u-1".to_owned()),
            (
                "impersonate-extra-authentication.kubernetes.io%2fpod-name".to_owned(),
                "x".to_owned()
            ),
        ]
    );
}

#[test]
fn hard_case_4_extra_that_may_narrow_rights_refuses_unless_it_can_be_carried() {
    for key in [
        "scopes.authorization.openshift.io",
        "Scopes",
        "authentication.kubernetes.io/credential-idx",
        "Authentication.kubernetes.io/credential-id",
        "",
    ] {
        let mut hub_user = user("alice", &[]);
        hub_user
            .extra
            .insert(key.to_owned(), vec!["user:info".to_owned()]);
        let refusal = map(&hub_user).expect_err(key);
        assert_eq!(
            refusal,
            Refusal::Extra {
                key: key.to_owned()
            }
        );

        let bounds = Impersonation {
            extra_keys: BTreeSet::from([key.to_owned()]),
            ..Impersonation::default()
        };
        let mapped = Impersonated::map(&hub_user, &bounds).expect("permitted");
        assert_eq!(
            mapped.extra,
            [(key.to_owned(), vec!["user:info".to_owned()])]
        );
    }
}

#[test]
fn hard_case_4_keys_of_extra_survive_the_lower_case_of_header_names() {
    assert_eq!(encode_key("example.org/Key%"), "example.org%2f%4bey%25");
    assert_eq!(encode_key("a-b._~1"), "a-b._~1");
    assert_eq!(encode_key("\u{fc} "), "%c3%bc%20");
}

#[test]
fn headers_of_a_client_are_replaced_whatever_they_were() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("authorization", "Bearer client"),
        ("authorization", "Bearer client2"),
        ("impersonate-user", "system:admin"),
        ("impersonate-group", "system:masters"),
        ("impersonate-uid", "0"),
        ("impersonate-extra-scopes", "all"),
        ("impersonate-new", "x"),
        ("accept", "*/*"),
    ] {
        headers.append(name, HeaderValue::from_static(value));
    }
    let own = Token::parse("own").expect("a token");
    let mapped = map(&user("alice", &["team"])).expect("allowed");
    mapped.set(Some(&own), &mut headers).expect("plain text");
    let mut all: Vec<_> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
        .collect();
    all.sort();
    assert_eq!(
        all,
        [
            "accept: */*",
            "authorization: Bearer own",
            "impersonate-group: team",
            "impersonate-user: alice",
        ]
    );
    assert!(headers[AUTHORIZATION].is_sensitive());
}

#[test]
fn control_characters_refuse_the_request() {
    for name in ["a\r\nimpersonate-group: system:masters", "a\0", "a\n"] {
        let mapped = map(&user(name, &[])).expect("not this check's business");
        let refusal = mapped
            .set(None, &mut HeaderMap::new())
            .expect_err("unspeakable");
        assert_eq!(refusal, Refusal::Unspeakable { what: "name" });
    }
}

#[test]
fn switched_off_means_off() {
    let bounds = Impersonation {
        enabled: false,
        ..Impersonation::default()
    };
    let refusal = Impersonated::map(&user("alice", &[]), &bounds).expect_err("off");
    assert_eq!(refusal, Refusal::SwitchedOff);
}

/// HTTP/1.1 drops white space around values, so what was checked with it would arrive without.
#[test]
fn white_space_around_values_refuses_the_request() {
    for (name, group) in [
        (" system:kube-controller-manager", "g"),
        ("alice", " system:masters"),
        ("alice", "team\t"),
    ] {
        let set =
            map(&user(name, &[group])).and_then(|mapped| mapped.set(None, &mut HeaderMap::new()));
        assert!(set.is_err(), "{name:?} {group:?}");
    }
}
