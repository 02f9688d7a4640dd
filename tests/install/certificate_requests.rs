//! Certificate signing requests at the real kube-apiserver: what is asked by the wrong one, or for
//! one thing too much, is never approved (CVE-2026-4740); what is signed says what was registered.

mod cases;
mod request;
mod requester;
mod signed;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};

use self::cases::{Case, cases};
pub(crate) use self::request::openssl;
use self::request::{Asked, Key, Signer, TEST_LABEL};
use self::requester::{Requester, Requesters};
use crate::Setting;
use crate::other_cluster::{NOT_ACCEPTED, OTHER, WITHOUT_ADDON, join};

/// One thing wrong each. The honest requests that are made after them are signed, so that nobody
/// can be waiting for more time; the log says why for each of the others.
pub(crate) fn never_approved(setting: &Setting) -> Result<()> {
    for cluster in [OTHER, NOT_ACCEPTED, WITHOUT_ADDON] {
        join(setting, cluster)?;
    }
    let unit = unit(setting)?;
    let requesters = Requesters::new(setting)?;
    let mut hostile = Vec::new();
    for signer in Signer::ALL {
        for case in cases(signer, &unit)? {
            let name = format!("test-{}-{}", signer.short(), case.name);
            hostile.push((name, case));
        }
    }
    let mut by_requester: BTreeMap<Requester, Vec<Value>> = BTreeMap::new();
    for (name, case) in &hostile {
        let list = by_requester.entry(case.who.clone()).or_default();
        list.push(case.asked.manifest(name)?);
    }
    for (requester, list) in by_requester {
        make(&requesters, &requester, list)?;
    }
    honest(setting, &requesters, &unit, "after-the-others")?;
    left_alone(setting, &hostile)?;

    // What a person approves by mistake is not signed all the same.
    let mut by_hand: Vec<_> = hostile
        .iter()
        .filter(|(_, case)| case.asked.signer != Signer::KubeClient)
        .map(|(name, _)| name.as_str())
        .collect();
    let refused = refusals(setting)?;
    setting
        .lab
        .hub
        .kubectl(&[&["certificate", "approve"], by_hand.as_slice()].concat())?;
    honest(setting, &requesters, &unit, "after-the-approval")?;
    Setting::eventually("each is refused once more", || {
        let again = refusals(setting)?;
        by_hand.retain(|name| again.get(*name) <= refused.get(*name));
        ensure!(by_hand.is_empty(), "not looked at again: {by_hand:?}");
        Ok(())
    });
    for (name, csr) in all(setting)? {
        let is_hostile = hostile.iter().any(|(hostile, _)| *hostile == name);
        let certificate = &csr["status"]["certificate"];
        ensure!(!is_hostile || certificate.is_null(), "{name} was signed");
    }
    remove(setting)
}

/// Neither approved, denied nor signed, and the log says why.
fn left_alone(setting: &Setting, hostile: &[(String, Case)]) -> Result<()> {
    Setting::eventually("the log says why", || {
        let log = manager_log(setting)?;
        let silent: Vec<_> = hostile
            .iter()
            .filter(|(name, case)| {
                let about = format!("csr=\"{name}\"");
                let mut lines = log.lines().filter(|line| line.contains(&about));
                !lines.any(|line| line.contains(case.told))
            })
            .map(|(name, case)| {
                let about = format!("csr=\"{name}\"");
                let said = log.lines().find(|line| line.contains(&about));
                format!("{name}: not {:?} but {said:?}", case.told)
            })
            .collect();
        ensure!(silent.is_empty(), "{silent:#?}");
        Ok(())
    });
    let all = all(setting)?;
    for (name, _) in hostile {
        let csr = all.get(name).with_context(|| format!("{name} is gone"))?;
        ensure!(csr["status"] == json!({}), "{name}: {}", csr["status"]);
    }
    Ok(())
}

/// What each signer signs, whatever of the allowed was asked.
pub(crate) fn what_is_signed(setting: &Setting) -> Result<()> {
    let unit = unit(setting)?;
    let ca = ca(setting)?;
    let requesters = Requesters::new(setting)?;
    for signer in Signer::ALL {
        let of = || Asked::of(signer, "managed", &unit);
        let key = |key: KeyPair| Key::Usual(key);
        let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072)?;
        let asked = [
            ("as-ocm-does", of()?),
            (
                "no-name",
                of()?.with(|it| it.params.subject_alt_names.clear()),
            ),
            (
                "client-auth",
                of()?.with(|it| it.usages = vec!["client auth"]),
            ),
            (
                "for-ten-minutes",
                of()?.with(|it| it.expiration_seconds = Some(600)),
            ),
            (
                "for-ten-years",
                of()?.with(|it| it.expiration_seconds = Some(315_360_000)),
            ),
            ("rsa", of()?.with_key(key(rsa))),
            (
                "p384",
                of()?.with_key(key(KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?)),
            ),
            (
                "ed25519",
                of()?.with_key(key(KeyPair::generate_for(&PKCS_ED25519)?)),
            ),
        ];
        let name = |case: &str| format!("test-signed-{}-{case}", signer.short());
        let list = asked
            .iter()
            .map(|(case, asked)| asked.manifest(&name(case)));
        make(&requesters, &Requester::Agent, list.collect::<Result<_>>()?)?;
        for (case, asked) in &asked {
            let name = name(case);
            let pem = certificate_of(setting, &name);
            signed::check(asked, "managed", &unit, &ca, &pem).context(name)?;
        }
    }
    remove(setting)
}

/// One of each signer, signed.
fn honest(setting: &Setting, by: &Requesters<'_>, unit: &str, name: &str) -> Result<()> {
    for signer in Signer::ALL {
        let name = format!("test-{}-{name}", signer.short());
        let asked = Asked::of(signer, "managed", unit)?;
        make(by, &Requester::Agent, vec![asked.manifest(&name)?])?;
        certificate_of(setting, &name);
    }
    Ok(())
}

/// A certificate for the proxy-agent of a cluster that is not there, asked for as OCM's agent in
/// it would: certificate and key, PEM.
pub(crate) fn proxy_agent_of(setting: &Setting, cluster: &str) -> Result<(String, String)> {
    let unit = unit(setting)?;
    let asked = Asked::of(Signer::ProxyAgent, cluster, &unit)?;
    let name = format!("test-proxy-agent-of-{cluster}");
    let requesters = Requesters::new(setting)?;
    let requester = Requester::agent_of(cluster);
    make(&requesters, &requester, vec![asked.manifest(&name)?])?;
    let certificate = certificate_of(setting, &name);
    remove(setting)?;
    let Key::Usual(key) = asked.key else {
        anyhow::bail!("not the usual key");
    };
    Ok((certificate, key.serialize_pem()))
}

/// Who was an agent of `cluster` asks for its certificates, and gets none.
pub(crate) fn no_certificate_for(setting: &Setting, cluster: &str) -> Result<()> {
    let unit = unit(setting)?;
    let requesters = Requesters::new(setting)?;
    let requester = Requester::agent_of(cluster);
    let name = |signer: Signer| format!("test-{}-of-{cluster}", signer.short());
    for signer in Signer::ALL {
        let asked = Asked::of(signer, cluster, &unit)?;
        make(
            &requesters,
            &requester,
            vec![asked.manifest(&name(signer))?],
        )?;
    }
    honest(setting, &requesters, &unit, "after-its-end")?;
    Setting::eventually("the log says why", || {
        let log = manager_log(setting)?;
        for signer in Signer::ALL {
            let about = format!("csr=\"{}\"", name(signer));
            let mut lines = log.lines().filter(|line| line.contains(&about));
            let is_told = |line: &str| GONE.iter().any(|gone| line.contains(gone));
            ensure!(lines.any(is_told), "not told: {about}");
        }
        Ok(())
    });
    let all = all(setting)?;
    for signer in Signer::ALL {
        let status = &all[&name(signer)]["status"];
        ensure!(*status == json!({}), "{status}");
    }
    remove(setting)
}

const GONE: [&str; 2] = ["is being deleted", "no such managed cluster"];

fn make(by: &Requesters<'_>, requester: &Requester, items: Vec<Value>) -> Result<()> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    let mut command = by.kubectl(requester, &["create", "-f", "-", "-o", "name"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(list.to_string().as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{requester:?}: {output:?}");
    Ok(())
}

/// As spec'd: `signer-`, and the hex digits of the base64 text of the CA's digest.
fn unit(setting: &Setting) -> Result<String> {
    let digest = openssl(&["dgst", "-sha256", "-binary"], ca(setting)?.as_bytes())?;
    let digest = STANDARD.encode(digest);
    let hex = digest.bytes().map(|byte| format!("{byte:02x}"));
    Ok(format!("signer-{}", hex.collect::<String>()))
}

/// The addon's CA, PEM.
pub(crate) fn ca(setting: &Setting) -> Result<String> {
    let field = "go-template={{index .data \"ca.crt\" | base64decode}}";
    setting.hub(&["get", "secret", "cluster-proxy-signer", "-o", field])
}

fn all(setting: &Setting) -> Result<BTreeMap<String, Value>> {
    let list = ["get", "csr", "-l", TEST_LABEL, "-o", "json"];
    let list: Value = serde_json::from_str(&setting.lab.hub.kubectl(&list)?)?;
    let items = list["items"].as_array().context("no items")?;
    let named = items.iter().map(|csr| {
        let name = csr["metadata"]["name"].as_str().unwrap_or_default();
        (name.to_owned(), csr.clone())
    });
    Ok(named.collect())
}

/// The certificate of a request, once it is signed: PEM.
fn certificate_of(setting: &Setting, name: &str) -> String {
    Setting::eventually(name, || {
        let csr = ["get", "csr", name, "-o", "json"];
        let csr: Value = serde_json::from_str(&setting.lab.hub.kubectl(&csr)?)?;
        let certificate = csr["status"]["certificate"].as_str();
        let certificate = certificate.with_context(|| csr["status"].to_string())?;
        Ok(String::from_utf8(STANDARD.decode(certificate)?)?)
    })
}

fn remove(setting: &Setting) -> Result<()> {
    let arguments = ["delete", "csr", "-l", TEST_LABEL, "--wait=false"];
    setting.lab.hub.kubectl(&arguments)?;
    Ok(())
}

fn manager_log(setting: &Setting) -> Result<String> {
    setting.hub(&["logs", "-l", "component=cluster-proxy-manager", "--tail=-1"])
}

/// How often each request was refused.
fn refusals(setting: &Setting) -> Result<BTreeMap<String, usize>> {
    let mut count = BTreeMap::new();
    for line in manager_log(setting)?.lines() {
        let Some((_, rest)) = line.split_once("csr=\"") else {
            continue;
        };
        let name = rest.split('"').next().unwrap_or_default();
        *count.entry(name.to_owned()).or_default() += 1;
    }
    Ok(count)
}
