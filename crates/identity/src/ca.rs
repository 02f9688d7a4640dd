//! The addon's certificate authority and the certificates it issues.
//!
//! The CA keeps an RSA key as PKCS#8, since a Go manager that finds any other kind in the shared
//! Secret panics; leaves are ECDSA P-256.

use std::fmt;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize,
};
use time::OffsetDateTime;

use crate::cluster::{ClusterName, TunnelHost};
use crate::peer::{ProvenAgent, USER_SERVER_COMMON_NAME};

/// Common name of the CA, as upstream names it.
const CA_COMMON_NAME: &str = "open-cluster-management:cluster-proxy";

/// Organization of agents' and clients' certificates.
const ORGANIZATION: &str = "open-cluster-management:cluster-proxy";

const DAY: Duration = Duration::from_hours(24);

/// A CA outlives many leaves; its own rotation is a procedure of its own.
const CA_VALIDITY: Duration = Duration::from_hours(24 * 3650);

/// How long before now a certificate begins to be valid: clocks of two clusters differ.
const CLOCK_SKEW: Duration = Duration::from_hours(1);

/// A certificate authority with its key in memory.
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    cert_pem: String,
}

impl CertificateAuthority {
    /// A new CA: RSA 2048, valid for ten years.
    ///
    /// # Errors
    /// [`CaError::Crypto`] when the key cannot be made.
    pub fn generate() -> Result<Self, CaError> {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name(CA_COMMON_NAME, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        set_validity(&mut params, CA_VALIDITY);
        let cert_pem = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            cert_pem,
        })
    }

    /// The CA kept in two PEM texts.
    ///
    /// # Errors
    /// [`CaError::Crypto`] when either cannot be read.
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Self, CaError> {
        let key = KeyPair::from_pem(key_pem)?;
        let issuer = Issuer::from_ca_cert_pem(cert_pem, key)?;
        Ok(Self {
            issuer,
            cert_pem: cert_pem.to_owned(),
        })
    }

    /// The CA's certificate, for those who verify.
    #[must_use]
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The CA's private key as PKCS#8 PEM.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Makes a key pair and a certificate for `leaf`.
    ///
    /// # Errors
    /// [`CaError`] when a name cannot be put in a certificate.
    pub fn issue(&self, leaf: &Leaf) -> Result<Issued, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(leaf.sans.clone())?;
        params.distinguished_name = name(&leaf.common_name, &leaf.organizations);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match leaf.usage {
            Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, leaf.validity);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued {
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateAuthority")
            .finish_non_exhaustive()
    }
}

/// What one certificate says. Each role has a constructor, so that nobody spells a subject by
/// hand; [`Self::client`] and [`Self::server`] are for certificates outside the addon (an embedded
/// kube-apiserver's, a test's).
#[derive(Debug, Clone)]
pub struct Leaf {
    common_name: String,
    organizations: Vec<String>,
    sans: Vec<String>,
    usage: Usage,
    validity: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Usage {
    Server,
    Client,
}

impl Leaf {
    /// A client certificate of any subject.
    #[must_use]
    pub fn client(common_name: impl Into<String>, organizations: Vec<String>) -> Self {
        Self {
            common_name: common_name.into(),
            organizations,
            sans: Vec::new(),
            usage: Usage::Client,
            validity: 365 * DAY,
        }
    }

    /// A server certificate for `sans` (DNS names and IP addresses), the first of which is its
    /// common name.
    #[must_use]
    pub fn server(sans: Vec<String>) -> Self {
        Self {
            common_name: sans.first().cloned().unwrap_or_default(),
            organizations: Vec::new(),
            sans,
            usage: Usage::Server,
            validity: 365 * DAY,
        }
    }

    /// The proxy-server's certificate towards its clients (8090).
    #[must_use]
    pub fn proxy_server(sans: Vec<String>) -> Self {
        Self::server(sans)
    }

    /// The proxy-server's certificate towards agents (8091).
    #[must_use]
    pub fn agent_server(sans: Vec<String>) -> Self {
        Self::server(sans)
    }

    /// The user-server's certificate towards users (9092).
    #[must_use]
    pub fn user_server_serving(sans: Vec<String>) -> Self {
        Self::server(sans)
    }

    /// The client certificate with which `cluster`'s proxy-agent proves its cluster.
    #[must_use]
    pub fn proxy_agent(cluster: &ClusterName) -> Self {
        Self::client(
            ProvenAgent::common_name(cluster),
            vec![ORGANIZATION.to_owned()],
        )
    }

    /// The server certificate of `cluster`'s service-proxy: its tunnel host and nothing else.
    #[must_use]
    pub fn service_proxy(cluster: &ClusterName) -> Self {
        let host = TunnelHost::of(cluster).as_str().to_owned();
        // The common name has 64 characters at most (RFC 5280); the host, longer, is the SAN.
        Self {
            common_name: "cluster-proxy-service-proxy".to_owned(),
            ..Self::server(vec![host])
        }
    }

    /// The client certificate that makes the user-server's word about a hub user count.
    #[must_use]
    pub fn user_server_client() -> Self {
        Self::client(USER_SERVER_COMMON_NAME, vec![ORGANIZATION.to_owned()])
    }

    /// The client certificate of others who may open tunnels.
    #[must_use]
    pub fn proxy_client() -> Self {
        Self::client(
            "open-cluster-management:cluster-proxy:proxy-client",
            vec![ORGANIZATION.to_owned()],
        )
    }

    /// The same certificate, valid for `validity` from now.
    #[must_use]
    pub fn valid_for(self, validity: Duration) -> Self {
        Self { validity, ..self }
    }
}

/// A new certificate and its private key, both PEM.
pub struct Issued {
    /// The certificate, without the CA's.
    pub cert_pem: String,
    /// The key as PKCS#8.
    pub key_pem: String,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("cert_pem", &self.cert_pem)
            .finish_non_exhaustive()
    }
}

/// Why the CA could not be read or could not issue.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A key, certificate or name that the X.509 library refuses.
    #[error("certificate authority: {0}")]
    Crypto(#[from] rcgen::Error),
}

fn name(common_name: &str, organizations: &[String]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    for organization in organizations {
        name.push(DnType::OrganizationName, organization.as_str());
    }
    name
}

fn set_validity(params: &mut CertificateParams, validity: Duration) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + validity;
}

#[cfg(test)]
mod tests {
    use x509_parser::extensions::GeneralName;

    use super::*;

    #[test]
    fn a_kept_ca_goes_on_issuing() {
        let ca = CertificateAuthority::generate().unwrap();
        assert!(ca.key_pem().starts_with("-----BEGIN PRIVATE KEY-----"));
        let kept = CertificateAuthority::from_pem(ca.cert_pem(), &ca.key_pem()).unwrap();
        let cluster = "managed".parse().unwrap();
        let issued = kept.issue(&Leaf::service_proxy(&cluster)).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(issued.cert_pem.as_bytes()).unwrap();
        let leaf = pem.parse_x509().unwrap();
        let (_, ca_pem) = x509_parser::pem::parse_x509_pem(ca.cert_pem().as_bytes()).unwrap();
        assert_eq!(leaf.issuer(), ca_pem.parse_x509().unwrap().subject());
        let sans = leaf.subject_alternative_name().unwrap().unwrap().value;
        let host = TunnelHost::of(&cluster);
        assert_eq!(sans.general_names, [GeneralName::DNSName(host.as_str())]);
        assert!(!leaf.is_ca());
    }

    #[test]
    fn debug_shows_no_key() {
        let ca = CertificateAuthority::generate().unwrap();
        let issued = ca.issue(&Leaf::proxy_client()).unwrap();
        assert!(!format!("{ca:?} {issued:?}").contains("PRIVATE"));
    }
}
