//! ID tokens of a real OpenID provider, through the real service-proxy: who the kube-apiserver
//! says their user is, when the provider changes its keys, is down, or loses its CA.

mod cluster;
mod issuer;

use std::cell::RefCell;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use cluster_proxy_testkit::eventually_blocking;
use serde_json::json;
use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::issuer::Issuer;

struct Fixture {
    issuer: Issuer,
    cluster: Cluster,
    /// Every ID token that was shown to the service-proxy.
    tokens: RefCell<Vec<String>>,
}

fn main() -> ExitCode {
    cluster_proxy_tests::run(
        "oidc",
        start,
        &[
            (
                "without the CA nothing is accepted and nothing refused",
                no_ca,
            ),
            ("the user of an ID token is impersonated", impersonated),
            ("other tokens are not accepted", refused),
            ("an outage of the provider stops no known key", outage),
            (
                "a key that is new during an outage is a failure, and works after it",
                rotation,
            ),
            ("without its CA again, OIDC is off", ca_taken_away),
            ("no token is in the log, and outcomes are counted", told),
        ],
    )
}

fn start() -> Result<Fixture> {
    let folder = TempDir::new()?;
    let issuer = Issuer::new(folder.path())?;
    // The service-proxy first: its start waits for no provider.
    let cluster = Cluster::start(folder, &issuer)?;
    issuer.start("first")?;
    Ok(Fixture {
        issuer,
        cluster,
        tokens: RefCell::default(),
    })
}

impl Fixture {
    fn login(&self, user: &str) -> Result<String> {
        let token = self.issuer.login(user)?;
        self.tokens.borrow_mut().push(token.clone());
        Ok(token)
    }

    /// Asks until the answer has this code.
    fn until(&self, token: &str, code: u16) {
        eventually_blocking(PATIENCE, format!("{code} for an ID token"), || {
            let answer = self.cluster.who(token)?;
            ensure!(answer.code == code, "{}: {}", answer.code, answer.body);
            Ok(())
        });
    }
}

fn no_ca(fixture: &Fixture) -> Result<()> {
    let token = fixture.login("alice")?;
    let answer = fixture.cluster.who(&token)?;
    let message = answer.status_message(503, "ServiceUnavailable")?;
    ensure!(message.contains("ID token"), "{message}");
    fixture.cluster.publish_ca(&fixture.issuer.ca_pem)?;
    fixture.until(&token, 201);
    Ok(())
}

fn impersonated(fixture: &Fixture) -> Result<()> {
    let token = fixture.login("alice")?;
    let answer = fixture.cluster.who(&token)?;
    ensure!(answer.code == 201, "{}", answer.body);
    let user = &answer.json()?["status"]["userInfo"];
    let name = format!("{}#alice", fixture.issuer.url());
    ensure!(user["username"] == json!(name), "{user}");
    let groups = json!(["team:dev", "team:ops", "system:authenticated"]);
    ensure!(user["groups"] == groups, "{user}");
    // Rights are those of the group.
    let pods = "/api/v1/namespaces/default/pods";
    ensure!(fixture.cluster.ask(pods, &token, &[])?.code == 200);
    let secrets = "/api/v1/namespaces/default/secrets";
    let message = fixture.cluster.ask(secrets, &token, &[])?;
    let message = message.status_message(403, "Forbidden")?;
    ensure!(message.contains(&name), "{message}");
    Ok(())
}

fn refused(fixture: &Fixture) -> Result<()> {
    let token = fixture.login("alice")?;
    // Another user of the provider lacks the required claim's value.
    let bob = fixture.login("bob")?;
    let (signed, signature) = token.rsplit_once('.').unwrap_or_default();
    let (header, _) = signed.split_once('.').unwrap_or_default();
    let (_, foreign) = bob.split_once('.').unwrap_or_default();
    let (foreign, _) = foreign.rsplit_once('.').unwrap_or_default();
    for wrong in [
        bob.clone(),
        format!("{header}.{foreign}.{signature}"),
        format!(
            "eyJhbGciOiJub25lIn0.{}.",
            signed.split_once('.').unwrap_or_default().1
        ),
        format!("{signed}.{}", "A".repeat(signature.len())),
        "opaque".to_owned(),
    ] {
        let answer = fixture.cluster.who(&wrong)?;
        answer.status_message(401, "Unauthorized")?;
        fixture.tokens.borrow_mut().push(wrong);
    }
    Ok(())
}

fn outage(fixture: &Fixture) -> Result<()> {
    let fresh = fixture.login("alice")?;
    fixture.issuer.stop()?;
    let answer = fixture.cluster.who(&fresh)?;
    ensure!(answer.code == 201, "{}: {}", answer.code, answer.body);
    Ok(())
}

fn rotation(fixture: &Fixture) -> Result<()> {
    fixture.issuer.start("second")?;
    let token = fixture.login("alice")?;
    fixture.issuer.stop()?;
    // A no only while the keys are fresh; then it is known that it is not known.
    fixture.until(&token, 503);
    let answer = fixture.cluster.who(&token)?;
    ensure!(
        answer.json()?["details"]["retryAfterSeconds"] == 5,
        "{}",
        answer.body
    );
    fixture.issuer.start("second")?;
    fixture.until(&token, 201);
    Ok(())
}

fn ca_taken_away(fixture: &Fixture) -> Result<()> {
    let token = fixture.login("alice")?;
    fixture.until(&token, 201);
    fixture.cluster.take_ca_away()?;
    fixture.until(&token, 503);
    fixture.cluster.publish_ca("no certificate")?;
    fixture.until(&token, 503);
    fixture.cluster.publish_ca(&fixture.issuer.ca_pem)?;
    fixture.until(&token, 201);
    Ok(())
}

fn told(fixture: &Fixture) -> Result<()> {
    let log = fixture.cluster.service_proxy.lines().join("\n");
    ensure!(
        log.contains("an ID token is not accepted"),
        "the log was not read: {log}"
    );
    for token in fixture.tokens.borrow().iter() {
        // Neither a token nor its signature or claims.
        for part in token.split('.').filter(|part| part.len() > 40) {
            ensure!(!log.contains(part), "a token is in the log");
        }
    }
    let metrics = fixture.cluster.health("/metrics")?.body;
    for (verdict, reason) in [
        ("Authenticated", "accepted"),
        ("Denied", "signature"),
        ("Denied", "algorithm"),
        ("Denied", "claim"),
        ("Failed", "ca-unavailable"),
        ("Failed", "provider-unreachable"),
    ] {
        let series = format!(
            "cluster_proxy_service_proxy_id_tokens_total{{verdict=\"{verdict}\",reason=\"{reason}\"}}"
        );
        ensure!(metrics.contains(&series), "no {series} in {metrics}");
    }
    Ok(())
}

/// Ten seconds of fresh keys, and then some.
const PATIENCE: Duration = Duration::from_secs(40);
