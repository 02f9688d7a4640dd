//! ID tokens against a scripted provider over real TLS. The clock is stopped only to step over
//! pauses, since sockets do not know it.

use std::time::UNIX_EPOCH;

use cluster_proxy_identity::ca::CertificateAuthority;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::scripted::{DISCOVERY, Page, Provider};
use super::*;
use crate::fake::{Signer, token};
use crate::fresh_keys::{FAILURE_PAUSE, FRESH, REFRESH_INTERVAL};
use crate::verifying_key::SigningAlgorithm;

struct Rig {
    provider: Provider,
    oidc: Oidc,
    trust: watch::Sender<OidcTrust>,
    _running: JoinSet<()>,
}

impl Rig {
    async fn start(keys: &[&Signer]) -> Self {
        Self::of(Provider::start(keys).await, |settings| settings)
    }

    fn of(provider: Provider, change: impl FnOnce(OidcSettings) -> OidcSettings) -> Self {
        let settings = OidcSettings::new(&provider.issuer(), "client").expect("settings");
        let settings = settings.username("sub", "-").expect("a claim");
        let (trust, mut receiver) = watch::channel(OidcTrust::Roots(provider.tls()));
        let oidc = Oidc::new(change(settings), TTL, &mut receiver);
        let mut running = JoinSet::new();
        running.spawn(oidc.clone().run(receiver));
        Self {
            provider,
            oidc,
            trust,
            _running: running,
        }
    }

    /// A good token; its id makes it another one each time.
    fn token(&self, signer: &Signer, id: &str) -> Token {
        signer.sign(&self.claims(id))
    }

    fn claims(&self, id: &str) -> Value {
        json!({
            "iss": self.provider.issuer(), "aud": "client", "sub": "alice",
            "exp": now() + 600, "jti": id,
        })
    }

    async fn ask(&self, token: &Token) -> &'static str {
        let asked = timeout(DEADLINE, self.oidc.authenticate(token));
        match asked.await.expect("answered in time") {
            IdTokenAnswer::User(user) => {
                assert_eq!(user.name, "alice");
                "alice"
            }
            IdTokenAnswer::NotOurs => "not ours",
            IdTokenAnswer::Denied(denial) => denial.reason(),
            IdTokenAnswer::Failed(failure) => failure.reason(),
        }
    }

    /// Asks with new tokens of `signer` until the answer is this.
    async fn until(&self, signer: &Signer, expected: &str) {
        let asking = async {
            for number in 0_u32.. {
                let token = self.token(signer, &format!("until-{number}"));
                if self.ask(&token).await == expected {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(DEADLINE, asking).await.expect(expected);
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
}

async fn step(by: Duration) {
    tokio::time::pause();
    tokio::time::advance(by).await;
    tokio::time::resume();
}

const TTL: Duration = Duration::from_secs(10);
const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn an_algorithm_must_be_allowed_and_belong_to_the_key() {
    use SigningAlgorithm::{Es256, Es384, Ps256, Rs256, Rs384, Rs512};
    let rsa = Signer::rsa("rsa");
    let ec = Signer::ec("ec");
    let ec384 = Signer::ec384("ec384");
    let provider = Provider::start(&[&rsa, &ec, &ec384]).await;
    let rig = Rig::of(provider, |mut settings| {
        settings.algorithms = vec![Rs256, Rs384, Rs512, Ps256, Es256, Es384];
        settings
    });
    assert_eq!(rig.ask(&rig.token(&ec, "1")).await, "alice");
    assert_eq!(rig.ask(&rig.token(&ec384, "2")).await, "alice");
    let mut rsa = rsa;
    for (algorithm, expected) in [
        (Algorithm::RS256, "alice"),
        (Algorithm::RS384, "alice"),
        (Algorithm::RS512, "alice"),
        (Algorithm::PS256, "alice"),
        (Algorithm::PS512, "algorithm"),
    ] {
        rsa = rsa.with_algorithm(algorithm);
        let token = rig.token(&rsa, "3");
        assert_eq!(rig.ask(&token).await, expected, "{algorithm:?}");
    }
    let good = rig.token(&ec, "4");
    let (signed, signature) = good.expose().rsplit_once('.').expect("a JWS");
    let (_, payload) = signed.split_once('.').expect("a JWS");
    // {"alg":"none"}, {"alg":"HS256"}, {"alg":"ES256","crit":["x"]}, {"alg":"RS256"}
    for (header, signature, expected) in [
        ("eyJhbGciOiJub25lIn0", "", "algorithm"),
        ("eyJhbGciOiJIUzI1NiJ9", signature, "algorithm"),
        (
            "eyJhbGciOiJFUzI1NiIsImNyaXQiOlsieCJdfQ",
            signature,
            "critical-extension",
        ),
        ("eyJhbGciOiJSUzI1NiJ9", signature, "signature"),
    ] {
        let forged = token(&format!("{header}.{payload}.{signature}"));
        assert_eq!(rig.ask(&forged).await, expected, "{header}");
    }
}

#[tokio::test]
async fn tokens_of_others_are_not_looked_at() {
    let key = Signer::ec("key");
    let rig = Rig::start(&[&key]).await;
    rig.until(&key.with_algorithm(Algorithm::ES256), "algorithm")
        .await;
    let other = Signer::rsa("other");
    let before = rig.provider.count("/keys");
    for text in ["opaque", "a.b.c", "e30.e30.AA"] {
        assert_eq!(rig.ask(&token(text)).await, "not ours");
    }
    let mut claims = rig.claims("1");
    claims["iss"] = json!("https://elsewhere");
    assert_eq!(rig.ask(&other.sign(&claims)).await, "not ours");
    claims = rig.claims("1");
    claims["exp"] = json!(now() - 1);
    assert_eq!(rig.ask(&other.sign(&claims)).await, "expired");
    assert_eq!(
        rig.provider.count("/keys"),
        before,
        "no key is needed to know that"
    );
}

#[tokio::test]
async fn keys_rotate_without_a_restart() {
    let (old, new) = (Signer::rsa("old"), Signer::rsa("new"));
    let rig = Rig::start(&[&old]).await;
    rig.until(&old, "alice").await;
    assert_eq!(rig.ask(&rig.token(&new, "1")).await, "signature");
    rig.provider.publish(&[&new, &old]);
    step(FRESH).await;
    assert_eq!(
        rig.ask(&rig.token(&new, "1")).await,
        "alice",
        "found by its first token"
    );
    assert_eq!(rig.ask(&rig.token(&old, "2")).await, "alice");
    // A key that is published no longer, as after a theft, is given up.
    rig.provider.publish(&[&new]);
    step(REFRESH_INTERVAL).await;
    rig.until(&old, "signature").await;
    assert_eq!(rig.ask(&rig.token(&new, "3")).await, "alice");
    // The same name for another key.
    rig.provider.publish(&[&old.named(Some("new"))]);
    step(FRESH).await;
    assert_eq!(
        rig.ask(&rig.token(&Signer::rsa("new"), "4")).await,
        "signature"
    );
}

#[tokio::test]
async fn an_outage_stops_only_what_is_unknown() {
    let (known, unknown) = (Signer::rsa("known"), Signer::rsa("unknown"));
    let rig = Rig::start(&[&known]).await;
    rig.until(&known, "alice").await;
    rig.provider.now_always(Page::Status(503));
    step(FRESH).await;
    assert_eq!(rig.ask(&rig.token(&known, "1")).await, "alice");
    let token = rig.token(&unknown, "2");
    let before = rig.provider.count(DISCOVERY);
    for _ in 0..10 {
        assert_eq!(rig.ask(&token).await, "provider-unreachable");
    }
    assert_eq!(
        rig.provider.count(DISCOVERY),
        before + 1,
        "not repeated at once"
    );
    rig.provider.publish(&[&known, &unknown]);
    step(FAILURE_PAUSE).await;
    assert_eq!(
        rig.ask(&token).await,
        "alice",
        "a failure is not remembered"
    );
}

#[tokio::test]
async fn a_provider_that_is_down_at_first_is_found_later() {
    let key = Signer::rsa("key");
    let provider = Provider::start(&[&key]).await;
    provider.now_always(Page::Status(502));
    let rig = Rig::of(provider, |settings| settings);
    assert_eq!(rig.ask(&rig.token(&key, "1")).await, "provider-unreachable");
    rig.provider.publish(&[&key]);
    step(FAILURE_PAUSE).await;
    rig.until(&key, "alice").await;
}

#[tokio::test]
async fn answers_that_cannot_be_trusted_are_failures() {
    let key = Signer::rsa("key");
    let elsewhere = Provider::start(&[&key]).await;
    let provider = Provider::start(&[&key]).await;
    let issuer = provider.issuer();
    let document = |jwks: String| Page::Json(json!({ "issuer": issuer, "jwks_uri": jwks }));
    let own_keys = format!("{issuer}/keys");
    let other_host = format!("{}{DISCOVERY}", elsewhere.issuer());
    let good = json!({ "keys": [key.published()] });
    let rig = Rig::of(provider, |settings| settings);
    for (discovery, keys, expected) in [
        (Page::Endless, Page::Silent, "provider-unreachable"),
        (
            document(own_keys.clone()),
            Page::Endless,
            "provider-unreachable",
        ),
        (
            document(own_keys.clone()),
            Page::Json(json!({"keys": []})),
            "keys-malformed",
        ),
        (
            document(own_keys.clone()),
            Page::Json(json!([])),
            "keys-malformed",
        ),
        (
            document("http://localhost/keys".to_owned()),
            Page::Silent,
            "provider-unreachable",
        ),
        (
            document("file:///etc/passwd".to_owned()),
            Page::Silent,
            "discovery-malformed",
        ),
        (
            Page::Json(elsewhere.document()),
            Page::Silent,
            "discovery-malformed",
        ),
        (
            Page::Redirect(other_host),
            Page::Json(good.clone()),
            "provider-unreachable",
        ),
        (
            Page::Redirect("/loop".to_owned()),
            Page::Silent,
            "provider-unreachable",
        ),
        (
            Page::Redirect("/moved".to_owned()),
            Page::Json(good),
            "alice",
        ),
    ] {
        let moved = document(own_keys.clone());
        rig.provider.rewrite(move |path| match path {
            DISCOVERY => discovery.clone(),
            "/keys" => keys.clone(),
            "/moved" => moved.clone(),
            other => Page::Redirect(other.to_owned()),
        });
        step(FAILURE_PAUSE).await;
        assert_eq!(rig.ask(&rig.token(&key, "1")).await, expected);
    }
    assert_eq!(
        elsewhere.count(DISCOVERY),
        0,
        "a redirect led to another host"
    );
}

#[tokio::test]
async fn a_silent_provider_is_given_up() {
    let key = Signer::rsa("key");
    let provider = Provider::start(&[&key]).await;
    provider.now_always(Page::Silent);
    let rig = Rig::of(provider, |settings| settings);
    let (oidc, token) = (rig.oidc.clone(), rig.token(&key, "1"));
    let asked = tokio::spawn(async move { oidc.authenticate(&token).await });
    let heard = async {
        while rig.provider.count(DISCOVERY) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, heard).await.expect("it was asked");
    step(Duration::from_secs(10)).await;
    let answer = timeout(DEADLINE, asked)
        .await
        .expect("in time")
        .expect("no panic");
    assert!(
        matches!(&answer, IdTokenAnswer::Failed(failure) if failure.reason() == "provider-timeout"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn the_ca_decides_and_changes_in_place() {
    let key = Signer::rsa("key");
    let rig = Rig::start(&[&key]).await;
    rig.until(&key, "alice").await;
    let token = rig.token(&key, "1");
    assert_eq!(rig.ask(&token).await, "alice");
    rig.trust.send_replace(OidcTrust::Unavailable {
        why: "it is gone".to_owned(),
    });
    rig.until(&key, "ca-unavailable").await;
    assert_eq!(
        rig.ask(&token).await,
        "ca-unavailable",
        "not even from memory"
    );
    let another = CertificateAuthority::generate().expect("a CA");
    let another = ClientTls::from_pem(another.cert_pem().as_bytes(), None, Vec::new());
    rig.trust
        .send_replace(OidcTrust::Roots(another.expect("a CA")));
    rig.until(&key, "provider-unreachable").await;
    rig.trust.send_replace(OidcTrust::Roots(rig.provider.tls()));
    rig.until(&key, "alice").await;
}

#[tokio::test]
async fn one_fetch_serves_all_who_wait_and_answers_are_remembered() {
    let key = Signer::rsa("key");
    let rig = Rig::start(&[&key]).await;
    let mut asking = JoinSet::new();
    for number in 0..50_u32 {
        let token = rig.token(&key, &number.to_string());
        let oidc = rig.oidc.clone();
        asking.spawn(async move { oidc.authenticate(&token).await });
    }
    while let Some(answer) = asking.join_next().await {
        let answer = answer.expect("no panic");
        assert!(matches!(answer, IdTokenAnswer::User(_)), "{answer:?}");
    }
    assert_eq!(rig.provider.count(DISCOVERY), 1);
    assert_eq!(rig.provider.count("/keys"), 1);

    // A key's end does not end an answer that is remembered, the token's own end does.
    let short = {
        let mut claims = rig.claims("short");
        claims["exp"] = json!(now() + 3);
        key.sign(&claims)
    };
    assert_eq!(rig.ask(&short).await, "alice");
    let ending = async {
        while rig.ask(&short).await == "alice" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(TTL, ending)
        .await
        .expect("before the memory's time");
    assert!(!format!("{:?}", rig.oidc).contains(short.expose()));
}
