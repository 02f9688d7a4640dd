//! ID tokens of an OpenID provider, which is one of the scripted clusters here.

use std::time::SystemTime;

use cluster_proxy_authentication::OidcSettings;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use prometheus_client::registry::Registry;
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};

use super::*;
use crate::config::{OidcCa, OidcConfig};

/// A provider and its key. It is the hub's cluster too, which does not know its tokens.
struct Issuer {
    url: String,
    key: EncodingKey,
}

impl Issuer {
    fn of(cluster: &FakeCluster) -> Self {
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).expect("a key");
        let key = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).expect("a key");
        let url = cluster.url();
        let issuer = Self { url, key };
        issuer.up(cluster);
        issuer
    }

    fn up(&self, cluster: &FakeCluster) {
        let jwk = Jwk::from_encoding_key(&self.key, Algorithm::RS256).expect("a JWK");
        let document = json!({"issuer": self.url, "jwks_uri": format!("{}/keys", self.url)});
        cluster.publish("/.well-known/openid-configuration", document);
        cluster.publish("/keys", json!({ "keys": [jwk] }));
    }

    fn token(&self, changes: &Value) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let mut claims = json!({
            "iss": self.url, "aud": "client", "sub": "alice", "groups": ["dev", "ops"],
            "exp": now.expect("after 1970").as_secs() + 600, "jti": "id-7",
        });
        for (name, value) in changes.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &self.key).expect("signed")
    }
}

fn settings(url: &str) -> OidcSettings {
    OidcSettings::new(url, "client")
        .and_then(|settings| settings.username("sub", "oidc:"))
        .expect("settings")
        .groups("groups", "team:")
}

async fn rig_with(change: impl FnOnce(&mut Config, OidcSettings, &FakeCluster)) -> (Rig, Issuer) {
    let mut issuer = None;
    let rig = Rig::start(|config, hub| {
        let made = Issuer::of(hub);
        let settings = settings(&made.url);
        config.oidc = Some(OidcConfig {
            settings: settings.clone(),
            ca: OidcCa::Roots(hub.client_tls()),
        });
        config.hub = Some(hub.connection(Some("agent"), None));
        change(config, settings, hub);
        issuer = Some(made);
    })
    .await;
    (rig, issuer.expect("made at the start"))
}

async fn send(pool: &Pool<Peer>, token: &str, more: &[(&str, &str)]) -> (StatusCode, Value) {
    let bearer = format!("Bearer {token}");
    let fields = [&[("authorization", bearer.as_str())], more].concat();
    ask(pool, request("/api/v1/pods", &fields)).await
}

#[tokio::test]
async fn the_user_of_an_id_token_is_impersonated() {
    let (rig, issuer) = rig_with(|config, _, _| {
        let key = "authentication.kubernetes.io/credential-id".to_owned();
        config.impersonation.extra_keys.insert(key);
    })
    .await;
    let pool = rig.peer(None);
    let token = issuer.token(&json!({}));
    let (status, _) = send(&pool, &token, &[("cookie", "a=b")]).await;
    assert_eq!(status, StatusCode::OK);
    let seen = rig.managed.take_one();
    assert_eq!(seen.header("authorization"), ["Bearer own-token"]);
    assert_eq!(seen.header("impersonate-user"), ["oidc:alice"]);
    assert_eq!(
        seen.header("impersonate-group"),
        ["team:dev", "team:ops", "system:authenticated"]
    );
    let id = "impersonate-extra-authentication.kubernetes.io%2fcredential-id";
    assert_eq!(seen.header(id), ["JTI=id-7"]);
    assert!(!format!("{seen:?}").contains(&token), "the token went on");
    assert_eq!(
        rig.managed.reviewed(),
        std::slice::from_ref(&token),
        "the clusters are asked first"
    );
    assert_eq!(rig.hub.reviewed(), [token]);

    let mut registry = Registry::default();
    rig.metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
    let line = "id_tokens_total{verdict=\"Authenticated\",reason=\"accepted\"} 1";
    assert!(text.contains(line), "{text}");
}

#[tokio::test]
async fn the_clusters_come_before_the_issuer() {
    let (rig, issuer) = rig_with(|_, _, _| {}).await;
    let pool = rig.peer(None);
    // A cluster that takes the same issuer's tokens decides for itself.
    let own = issuer.token(&json!({"sub": "own"}));
    rig.managed.know(&own, alice());
    assert_eq!(send(&pool, &own, &[]).await.0, StatusCode::OK);
    let bearer = format!("Bearer {own}");
    assert_eq!(rig.managed.take_one().header("authorization"), [bearer]);
    let hub = issuer.token(&json!({"sub": "hub"}));
    rig.hub.know(&hub, alice());
    assert_eq!(send(&pool, &hub, &[]).await.0, StatusCode::OK);
    assert_eq!(rig.managed.take_one().header("impersonate-user"), ["alice"]);

    // Who impersonates is left to the kube-apiserver.
    let token = issuer.token(&json!({}));
    let bob = [("impersonate-user", "bob")];
    assert_eq!(send(&pool, &token, &bob).await.0, StatusCode::OK);
    let seen = rig.managed.take_one();
    assert_eq!(seen.header("impersonate-user"), ["bob"]);
    assert_eq!(seen.header("authorization"), [format!("Bearer {token}")]);

    // A review that failed never falls through to the issuer.
    for cluster in [&rig.hub, &rig.managed] {
        cluster.set_reviews(Reviews::Failing);
        let (status, _) = send(&pool, &issuer.token(&json!({"jti": cluster.url()})), &[]).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert!(rig.managed.recorded().is_empty());
}

#[tokio::test]
async fn without_impersonation_of_hub_users_the_issuer_still_counts() {
    let (rig, issuer) = rig_with(|config, _, _| config.impersonation.enabled = false).await;
    let pool = rig.peer(None);
    assert_eq!(
        send(&pool, &issuer.token(&json!({})), &[]).await.0,
        StatusCode::OK
    );
    assert_eq!(
        rig.managed.take_one().header("impersonate-user"),
        ["oidc:alice"]
    );
    rig.hub.know("hub-token", alice());
    assert_eq!(
        send(&pool, "hub-token", &[]).await.0,
        StatusCode::UNAUTHORIZED
    );
    assert!(rig.hub.reviewed().is_empty());
    assert!(rig.managed.recorded().is_empty());
}

#[tokio::test]
async fn a_token_that_is_not_accepted_tells_nobody_why() {
    let (rig, issuer) = rig_with(|_, _, _| {}).await;
    let pool = rig.peer(None);
    let plain = send(&pool, "unknown", &[]).await;
    assert_eq!(plain.0, StatusCode::UNAUTHORIZED);
    for changes in [
        json!({"iss": "https://elsewhere"}),
        json!({"aud": "other"}),
        json!({"exp": 1}),
        json!({"sub": ""}),
    ] {
        assert_eq!(
            send(&pool, &issuer.token(&changes), &[]).await,
            plain,
            "{changes}"
        );
    }
    let forged = Issuer {
        url: issuer.url.clone(),
        ..Issuer::of(&rig.managed)
    };
    let reserved = json!({"sub": "x", "groups": "system:masters"});
    assert_eq!(send(&pool, &forged.token(&reserved), &[]).await, plain);
    assert!(rig.managed.recorded().is_empty());
}

#[tokio::test]
async fn names_of_the_clusters_own_are_refused_even_without_a_list() {
    let (rig, issuer) = rig_with(|config, settings, _| {
        let bare = settings
            .username("sub", "-")
            .and_then(|settings| settings.reserved(Vec::new()))
            .expect("settings")
            .groups("groups", "");
        config.oidc.as_mut().expect("set").settings = bare;
    })
    .await;
    let pool = rig.peer(None);
    for changes in [
        json!({"groups": "system:masters"}),
        json!({"groups": ["dev", "system:nodes"]}),
        json!({"groups": "system:kube-controller-manager"}),
        json!({"groups": "system:serviceaccounts"}),
        json!({"groups": "cluster:hub:system:serviceaccounts"}),
        json!({"sub": "system:serviceaccount:kube-system:admin"}),
        json!({"sub": "system:node:worker"}),
        json!({"sub": "system:kube-scheduler"}),
        json!({"sub": "system:anonymous"}),
        json!({"sub": "cluster:hub:system:serviceaccount:a:b"}),
    ] {
        let (status, body) = send(&pool, &issuer.token(&changes), &[]).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{changes}");
        let message = body["message"].as_str().expect("text");
        assert!(message.contains("is reserved"), "{message}");
    }
    assert!(rig.managed.recorded().is_empty());
    // White space at an end would be gone after the next hop.
    let padded = issuer.token(&json!({"sub": "alice "}));
    assert_eq!(send(&pool, &padded, &[]).await.0, StatusCode::BAD_REQUEST);
    let other = issuer.token(&json!({"sub": "system:other", "groups": ["system:authenticated"]}));
    assert_eq!(
        send(&pool, &other, &[]).await.0,
        StatusCode::OK,
        "the check is off"
    );
    let seen = rig.managed.take_one();
    assert_eq!(seen.header("impersonate-group"), ["system:authenticated"]);
}

#[tokio::test]
async fn an_issuer_that_is_down_is_a_failure_until_it_is_up() {
    let (rig, issuer) = rig_with(|_, _, hub| hub.publish("/keys", json!({}))).await;
    let pool = rig.peer(None);
    let (status, body) = send(&pool, &issuer.token(&json!({})), &[]).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body["details"]["retryAfterSeconds"], 5);
    issuer.up(&rig.hub);
    let up = async {
        while send(&pool, &issuer.token(&json!({})), &[]).await.0 != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), up)
        .await
        .expect("found again");
    assert_eq!(
        rig.managed.take_one().header("impersonate-user"),
        ["oidc:alice"]
    );
}
