use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::*;

const NOW: u64 = 1_800_000_000;

fn settings() -> OidcSettings {
    OidcSettings::new("https://issuer", "client").expect("settings")
}

/// The usual claims, with these instead or besides; `null` takes one away.
fn claims(changes: &Value) -> Claims {
    let mut all = json!({
        "iss": "https://issuer", "aud": "client", "sub": "alice", "exp": NOW + 60,
        "iat": NOW - 60, "groups": ["a", "b"], "email": "alice@example.com",
    });
    for (name, value) in changes.as_object().expect("an object") {
        all[name] = value.clone();
    }
    let payload = URL_SAFE_NO_PAD.encode(all.to_string());
    let token = Token::parse(&format!("e30.{payload}.AA")).expect("a token");
    Claims::parse(&token).expect("claims")
}

fn mapped(settings: &OidcSettings, changes: &Value) -> Result<User, Denial> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    let mapped = claims(changes).map(settings, now)?;
    settings.unreserved(mapped).map(|mapped| mapped.user)
}

fn reason(settings: &OidcSettings, changes: &Value) -> &'static str {
    match mapped(settings, changes) {
        Ok(_) => "accepted",
        Err(denial) => denial.reason(),
    }
}

#[test]
fn only_the_issuers_own_tokens_are_looked_at() {
    assert!(claims(&json!({})).issuer_is(&settings()));
    for issuer in [
        json!("https://issuer/"),
        json!("https://ISSUER"),
        json!(["https://issuer"]),
        json!(null),
    ] {
        assert!(!claims(&json!({ "iss": issuer })).issuer_is(&settings()));
    }
    for text in ["opaque", "a.b.c", "e30.W10.AA", "e30.e30"] {
        let token = Token::parse(text).expect("a token");
        let ours = Claims::parse(&token).is_some_and(|claims| claims.issuer_is(&settings()));
        assert!(!ours, "{text}");
    }
}

#[test]
fn audience_and_times_decide() {
    for (changes, expected) in [
        (json!({}), "accepted"),
        (json!({"aud": ["other", "client"]}), "accepted"),
        (json!({"aud": "other"}), "audience"),
        (json!({"aud": "clients"}), "audience"),
        (json!({"aud": []}), "audience"),
        (json!({"aud": ["client", 1]}), "audience"),
        (json!({"aud": {"client": true}}), "audience"),
        (json!({"aud": null}), "audience"),
        (json!({"aud": "other", "azp": "client"}), "audience"),
        (json!({"exp": NOW}), "expired"),
        (json!({"exp": NOW - 1}), "expired"),
        (json!({"exp": null}), "expired"),
        (json!({"exp": NOW + 1}), "accepted"),
        (json!({"exp": 1.800_000_000_5e9}), "accepted"),
        (json!({"exp": "1900000000"}), "claim"),
        (json!({"exp": -1}), "claim"),
        (json!({"exp": 1e300}), "claim"),
        (json!({"nbf": NOW + 300}), "accepted"),
        (json!({"nbf": NOW + 301}), "not-yet-valid"),
        (json!({"iat": NOW + 300}), "accepted"),
        (json!({"iat": NOW + 301}), "not-yet-valid"),
        (json!({"nbf": "soon"}), "claim"),
    ] {
        assert_eq!(reason(&settings(), &changes), expected, "{changes}");
    }
}

#[test]
fn the_name_comes_from_its_claim_with_its_prefix() {
    let with = |claim, prefix| settings().username(claim, prefix).expect("a claim");
    let name = |settings: &OidcSettings, changes| mapped(settings, &changes).map(|user| user.name);
    for (settings, expected) in [
        (settings(), "https://issuer#alice"),
        (with("sub", "oidc:"), "oidc:alice"),
        (with("sub", "-"), "alice"),
        (with("email", ""), "alice@example.com"),
    ] {
        assert_eq!(name(&settings, json!({})).as_deref(), Ok(expected));
    }
    for wrong in [json!(null), json!(""), json!(7), json!(["alice"])] {
        assert_eq!(
            reason(&settings(), &json!({ "sub": wrong })),
            "claim",
            "{wrong}"
        );
    }
    let email = with("email", "");
    for (verified, expected) in [
        (json!(true), "accepted"),
        (json!(false), "email-not-verified"),
        (json!("true"), "email-not-verified"),
        (json!(1), "email-not-verified"),
    ] {
        let changes = json!({ "email_verified": verified });
        assert_eq!(reason(&email, &changes), expected, "{verified}");
        assert_eq!(reason(&settings(), &changes), "accepted", "not the name");
    }
    let odd = json!({"sub": "a@b@c"});
    assert_eq!(name(&with("sub", "-"), odd).as_deref(), Ok("a@b@c"));
}

#[test]
fn groups_are_a_string_or_strings() {
    let grouped = settings().groups("groups", "oidc:");
    let groups = |value: &Value| mapped(&grouped, &json!({ "groups": value })).map(|u| u.groups);
    for (value, expected) in [
        (json!(["a", "b"]), &["oidc:a", "oidc:b"][..]),
        (json!("a"), &["oidc:a"]),
        (json!([]), &[]),
        (json!(null), &[]),
    ] {
        assert_eq!(groups(&value).expect("groups"), expected, "{value}");
    }
    for value in [
        json!(1),
        json!({"a": 1}),
        json!(["a", 1]),
        json!(["a", null]),
    ] {
        assert_eq!(
            groups(&value).expect_err("refused").reason(),
            "claim",
            "{value}"
        );
    }
    let elsewhere = json!({"groups": null, "_claim_names": {"groups": "src1"}});
    assert_eq!(reason(&grouped, &elsewhere), "distributed-groups");
    let another = json!({"groups": null, "_claim_names": {"roles": "src1"}});
    assert_eq!(reason(&grouped, &another), "accepted");
    let none = mapped(&settings(), &json!({"groups": 1})).expect("not asked for");
    assert_eq!(none.groups, [""; 0]);
}

#[test]
fn required_claims_must_be_there_as_they_are() {
    let mut settings = settings();
    settings.required_claims = vec![("tenant".to_owned(), "t1".to_owned())];
    for (value, expected) in [
        (json!("t1"), "accepted"),
        (json!("t2"), "claim"),
        (json!("T1"), "claim"),
        (json!(["t1"]), "claim"),
        (json!(null), "claim"),
    ] {
        assert_eq!(
            reason(&settings, &json!({ "tenant": value })),
            expected,
            "{value}"
        );
    }
}

#[test]
fn reserved_names_are_refused_as_they_are_after_the_prefix() {
    let bare = || {
        settings()
            .username("sub", "-")
            .expect("a claim")
            .groups("groups", "")
    };
    let only_name = |name| json!({"sub": name, "groups": []});
    assert_eq!(reason(&bare(), &only_name("system:admin")), "reserved-name");
    assert_eq!(reason(&bare(), &only_name("asystem:admin")), "accepted");
    assert_eq!(
        reason(&bare(), &json!({"groups": ["a", "system:masters"]})),
        "reserved-name"
    );
    let prefixed = settings().groups("groups", "oidc:");
    let names = json!({"sub": "system:admin", "groups": "system:masters"});
    assert_eq!(reason(&prefixed, &names), "accepted");
    let by_prefix = settings().username("sub", "system:").expect("a claim");
    assert_eq!(reason(&by_prefix, &json!({})), "reserved-name");
    let own = bare()
        .reserved(vec!["admin".to_owned(), "ops:".to_owned()])
        .expect("prefixes");
    assert_eq!(reason(&own, &only_name("administrator")), "reserved-name");
    assert_eq!(reason(&own, &json!({"groups": ["ops:x"]})), "reserved-name");
    assert_eq!(
        reason(&own, &only_name("system:x")),
        "accepted",
        "the list replaces the default"
    );
    let off = bare().reserved(Vec::new()).expect("no prefix");
    assert_eq!(reason(&off, &only_name("system:x")), "accepted");
}

#[test]
fn the_tokens_id_is_told_as_the_kube_apiserver_does() {
    let extra = |id: Value| {
        mapped(&settings(), &json!({ "jti": id }))
            .expect("a user")
            .extra
    };
    let id = &extra(json!("x"))["authentication.kubernetes.io/credential-id"];
    assert_eq!(*id, ["JTI=x"]);
    for none in [
        json!(null),
        json!(1),
        json!(""),
        json!("a b"),
        json!("x".repeat(513)),
    ] {
        assert!(extra(none).is_empty());
    }
}
