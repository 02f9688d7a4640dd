//! What a signed certificate says.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_identity::TunnelHost;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::{
    OID_X509_COMMON_NAME, OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER, OID_X509_EXT_BASIC_CONSTRAINTS,
    OID_X509_EXT_EXTENDED_KEY_USAGE, OID_X509_EXT_KEY_USAGE, OID_X509_EXT_SUBJECT_ALT_NAME,
    OID_X509_EXT_SUBJECT_KEY_IDENTIFIER, OID_X509_ORGANIZATION_NAME, OID_X509_ORGANIZATIONAL_UNIT,
};
use x509_parser::pem::parse_x509_pem;

use super::openssl;
use super::request::{Asked, Signer};

/// Half a year, and no later than that.
const VALIDITY_SECONDS: i64 = 180 * 86400;

/// A certificate is valid from an hour ago, so that clocks may differ.
const SKEW_SECONDS: i64 = 3600;

/// Checks that `pem` is a certificate for the asked key that says what `signer` registered for
/// `cluster`, and nothing of what was asked beside that.
pub(super) fn check(asked: &Asked, cluster: &str, unit: &str, ca: &str, pem: &str) -> Result<()> {
    let (rest, block) = parse_x509_pem(pem.as_bytes())?;
    ensure!(rest.trim_ascii().is_empty(), "more than one block");
    let leaf = block.parse_x509()?;
    ensure!(leaf.public_key().raw == asked.public_key(), "another key");
    subject(&leaf, asked.signer, cluster, unit)?;
    ensure!(!leaf.is_ca(), "a CA");
    let usage = leaf.extended_key_usage()?.context("no usage")?.value;
    let is_server = asked.signer == Signer::ServiceProxy;
    ensure!(
        usage.client_auth != is_server && usage.server_auth == is_server,
        "{usage:?}"
    );
    ensure!(!usage.any && usage.other.is_empty(), "{usage:?}");
    ensure!(!usage.code_signing && !usage.email_protection, "{usage:?}");
    ensure!(!usage.time_stamping && !usage.ocsp_signing, "{usage:?}");
    if asked.signer == Signer::KubeClient {
        // The rest is the kube-controller-manager's.
        return Ok(());
    }
    let names = leaf.subject_alternative_name()?;
    let names = names
        .map(|names| names.value.general_names.clone())
        .unwrap_or_default();
    let host = TunnelHost::of(&cluster.parse()?);
    let expected: &[_] = &[GeneralName::DNSName(host.as_str())];
    let expected = if is_server { expected } else { &[] };
    ensure!(names == expected, "{names:?}");
    let key_usage = leaf.key_usage()?.context("no key usage")?.value;
    ensure!(key_usage.flags == DIGITAL_SIGNATURE, "{key_usage}");
    let validity = leaf.validity();
    let (from, to) = (
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    );
    ensure!(
        to - from == VALIDITY_SECONDS + SKEW_SECONDS,
        "valid {} s",
        to - from
    );
    for extension in leaf.extensions() {
        let known = [
            OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER,
            OID_X509_EXT_BASIC_CONSTRAINTS,
            OID_X509_EXT_EXTENDED_KEY_USAGE,
            OID_X509_EXT_KEY_USAGE,
            OID_X509_EXT_SUBJECT_ALT_NAME,
            OID_X509_EXT_SUBJECT_KEY_IDENTIFIER,
        ];
        ensure!(
            known.contains(&extension.oid),
            "extension {}",
            extension.oid
        );
    }
    verify(ca, pem, if is_server { "sslserver" } else { "sslclient" })
}

/// Each part once, and no other.
fn subject(leaf: &X509Certificate<'_>, signer: Signer, cluster: &str, unit: &str) -> Result<()> {
    let mut expected = vec![(OID_X509_COMMON_NAME, signer.common_name(cluster))];
    for organization in signer.organizations(cluster) {
        expected.push((OID_X509_ORGANIZATION_NAME, organization));
    }
    if signer != Signer::KubeClient {
        expected.push((OID_X509_ORGANIZATIONAL_UNIT, unit.to_owned()));
    }
    let mut found = Vec::new();
    for attribute in leaf.subject().iter_attributes() {
        found.push((
            attribute.attr_type().to_owned(),
            attribute.as_str()?.to_owned(),
        ));
    }
    let is_same = found.len() == expected.len() && expected.iter().all(|it| found.contains(it));
    ensure!(is_same, "{}", leaf.subject());
    Ok(())
}

fn verify(ca: &str, pem: &str, purpose: &str) -> Result<()> {
    let folder = tempfile::TempDir::new()?;
    let file = folder.path().join("ca.crt");
    fs::write(&file, ca)?;
    let file = file.display().to_string();
    let arguments = ["verify", "-CAfile", &file, "-purpose", purpose];
    openssl(&arguments, pem.as_bytes()).map(drop)
}

/// RFC 5280, `digitalSignature`: the first bit.
const DIGITAL_SIGNATURE: u16 = 1;
