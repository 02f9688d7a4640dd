//! What a certificate that is kept somewhere says: enough to decide whether it still serves.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rcgen::{KeyPair, PublicKeyData};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::ca::{Leaf, Usage};

/// One certificate, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    der: CertificateDer<'static>,
    /// The subject's common names; one, in a certificate of ours.
    pub common_names: Vec<String>,
    /// The subject's organizations.
    pub organizations: Vec<String>,
    /// DNS names and IP addresses, each as text. A name of another kind is kept in a form that no
    /// wanted name has.
    pub sans: BTreeSet<String>,
    /// From when on it is valid.
    pub not_before: SystemTime,
    /// Until when it is valid.
    pub not_after: SystemTime,
    /// Whether it may sign other certificates.
    pub is_ca: bool,
    /// Whether it may be shown by a server.
    pub server: bool,
    /// Whether it may be shown by a client.
    pub client: bool,
}

impl CertificateFacts {
    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// [`UnreadableCertificate`] when there is none, or it cannot be parsed.
    pub fn of_pem(pem: &[u8]) -> Result<Self, UnreadableCertificate> {
        let der = CertificateDer::from_pem_slice(pem)
            .map_err(|_| UnreadableCertificate("no PEM certificate"))?;
        let parsed = parse(&der)?;
        let subject = parsed.subject();
        let text = |name: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            name.as_str().unwrap_or_default().to_owned()
        };
        let names = parsed
            .subject_alternative_name()
            .map_err(|_| UnreadableCertificate("its alternative names cannot be parsed"))?;
        let usage = parsed
            .extended_key_usage()
            .map_err(|_| UnreadableCertificate("its usages cannot be parsed"))?
            .map(|extension| extension.value);
        Ok(Self {
            common_names: subject.iter_common_name().map(text).collect(),
            organizations: subject.iter_organization().map(text).collect(),
            sans: names
                .map(|extension| extension.value.general_names.iter().map(san).collect())
                .unwrap_or_default(),
            not_before: time(parsed.validity().not_before.timestamp()),
            not_after: time(parsed.validity().not_after.timestamp()),
            is_ca: parsed.is_ca(),
            server: usage.is_some_and(|usage| usage.any || usage.server_auth),
            client: usage.is_some_and(|usage| usage.any || usage.client_auth),
            der,
        })
    }

    /// Whether `key_pem` is this certificate's private key.
    #[must_use]
    pub fn has_key(&self, key_pem: &str) -> bool {
        let Ok(key) = KeyPair::from_pem(key_pem) else {
            return false;
        };
        parse(&self.der)
            .is_ok_and(|parsed| parsed.public_key().raw == key.subject_public_key_info())
    }

    /// Whether this certificate says what `leaf` would: subject, names and usage, whatever its time.
    #[must_use]
    pub fn says(&self, leaf: &Leaf) -> bool {
        let sans: BTreeSet<String> = leaf.sans.iter().map(|san| canonical(san)).collect();
        let usage = match leaf.usage {
            Usage::Server => self.server,
            Usage::Client => self.client,
        };
        usage
            && !self.is_ca
            && self.common_names == [leaf.subject.common_name.as_str()]
            && self.organizations == leaf.subject.organizations
            && self.sans == sans
    }

    /// Whether the key of `issuer` made this certificate's signature.
    #[must_use]
    pub fn is_signed_by(&self, issuer: &Self) -> bool {
        let (Ok(leaf), Ok(issuer)) = (parse(&self.der), parse(&issuer.der)) else {
            return false;
        };
        let algorithms = rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .all;
        algorithms.iter().any(|algorithm| {
            let verified = algorithm.verify_signature(
                &issuer.public_key().subject_public_key.data,
                leaf.tbs_certificate.as_ref(),
                &leaf.signature_value.data,
            );
            verified.is_ok()
        })
    }
}

/// A text in which no certificate can be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnreadableCertificate(&'static str);

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, UnreadableCertificate> {
    X509Certificate::from_der(der)
        .map(|(_, certificate)| certificate)
        .map_err(|_| UnreadableCertificate("a certificate that cannot be parsed"))
}

fn san(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => address(bytes).map_or_else(
            || format!("address:{bytes:02x?}"),
            |address| address.to_string(),
        ),
        other => format!("other:{other:?}"),
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(bytes));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

/// An address in the one way it is written here; a name as it is.
fn canonical(san: &str) -> String {
    san.parse::<IpAddr>()
        .map_or_else(|_| san.to_owned(), |address| address.to_string())
}

/// Times before 1970 are read as 1970: none of them is in the future.
fn time(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::CertificateAuthority;

    fn facts(pem: &str) -> CertificateFacts {
        CertificateFacts::of_pem(pem.as_bytes()).unwrap()
    }

    #[test]
    fn tells_what_was_issued() {
        let ca = CertificateAuthority::generate().unwrap();
        let other = CertificateAuthority::generate().unwrap();
        let sans = ["127.0.0.1", "localhost", "::1"].map(str::to_owned);
        let day = Duration::from_hours(24);
        let leaf = Leaf::server(sans.to_vec()).valid_for(day);
        let issued = ca.issue(&leaf).unwrap();
        let server = facts(&issued.cert_pem);
        assert_eq!(server.sans, BTreeSet::from(sans));
        assert!(server.server && !server.client && !server.is_ca);
        assert!(server.says(&leaf));
        assert!(!server.says(&Leaf::server(vec!["localhost".to_owned()])));
        assert!(!server.says(&Leaf::proxy_client()));
        let left = server.not_after.duration_since(SystemTime::now()).unwrap();
        assert!(left <= day && left > day - Duration::from_mins(1));
        assert!(server.has_key(&issued.key_pem));
        assert!(!server.has_key(&ca.key_pem()));
        assert!(!server.has_key("nothing"));
        assert!(server.is_signed_by(&facts(ca.cert_pem())));
        assert!(!server.is_signed_by(&facts(other.cert_pem())));
        assert!(!server.is_signed_by(&server));
        let authority = facts(ca.cert_pem());
        assert!(authority.is_ca && authority.has_key(&ca.key_pem()));

        let client = facts(&ca.issue(&Leaf::user_server_client()).unwrap().cert_pem);
        assert!(client.client && !client.server);
        assert!(client.says(&Leaf::user_server_client()));
        assert!(!client.says(&Leaf::proxy_client()));
        assert_eq!(
            client.common_names,
            [crate::peer::USER_SERVER_COMMON_NAME.to_owned()]
        );
        assert_eq!(client.organizations.len(), 1);
    }

    #[test]
    fn text_without_a_certificate_is_an_error() {
        let key = CertificateAuthority::generate().unwrap().key_pem();
        for text in ["", "hello", key.as_str()] {
            assert!(CertificateFacts::of_pem(text.as_bytes()).is_err());
        }
    }
}
