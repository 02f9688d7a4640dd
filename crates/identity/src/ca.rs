//! The addon's certificate authority and the certificates it issues.
//!
//! The CA keeps an RSA key as PKCS#8, since a Go manager that finds any other kind in the shared
//! Secret panics; leaves are ECDSA P-256.

use std::fmt;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize,
    SubjectPublicKeyInfo,
};
use time::OffsetDateTime;

use crate::cluster::{ClusterName, TunnelHost};
use crate::peer::{ProvenAgent, USER_SERVER_COMMON_NAME};

/// Common name of the CA, as upstream names it.
const CA_COMMON_NAME: &str = "open-cluster-management:cluster-proxy";

/// Organization of agents' and clients' certificates.
const ORGANIZATION: &str = "open-cluster-management:cluster-proxy";

/// RFC 5280, `ub-common-name-length`.
const MAX_COMMON_NAME: usize = 64;

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
        params.distinguished_name = name(&Subject {
            common_name: CA_COMMON_NAME.to_owned(),
            ..Subject::default()
        });
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
        let certificate = params(leaf)?.signed_by(&key, &self.issuer)?;
        Ok(Issued {
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    /// Makes a certificate (PEM) for `leaf` and somebody else's key: `public_key` is a DER
    /// SubjectPublicKeyInfo, as a certificate signing request carries it. Nothing else of such a
    /// request comes in here, so that what is signed is what `leaf` says, whatever was asked.
    ///
    /// # Errors
    /// [`CaError`] for a key of a kind that no certificate of ours has, or a name that cannot be
    /// put in a certificate.
    pub fn sign(&self, leaf: &Leaf, public_key: &[u8]) -> Result<String, CaError> {
        let key = SubjectPublicKeyInfo::from_der(public_key)?;
        Ok(params(leaf)?.signed_by(&key, &self.issuer)?.pem())
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
    pub(crate) subject: Subject,
    pub(crate) sans: Vec<String>,
    pub(crate) usage: Usage,
    validity: Duration,
}

/// Whom a certificate is about: what OCM calls user, groups and organization units.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// CN.
    pub common_name: String,
    /// Each O; a certificate that is made here keeps the last one.
    pub organizations: Vec<String>,
    /// Each OU; a certificate that is made here keeps the last one.
    pub organizational_units: Vec<String>,
}

impl Subject {
    /// The proxy-agent of `cluster`.
    #[must_use]
    pub fn proxy_agent(cluster: &ClusterName) -> Self {
        Self::of_agent(ProvenAgent::common_name(cluster))
    }

    /// The service-proxy of `cluster`. No peer takes the name for a proxy-agent's.
    #[must_use]
    pub fn service_proxy(cluster: &ClusterName) -> Self {
        Self::of_agent(format!(
            "system:open-cluster-management:cluster:{cluster}:addon:cluster-proxy:agent:service-proxy"
        ))
    }

    /// The same subject in one organizational unit.
    #[must_use]
    pub fn in_unit(self, unit: impl Into<String>) -> Self {
        Self {
            organizational_units: vec![unit.into()],
            ..self
        }
    }

    fn of_agent(common_name: String) -> Self {
        Self {
            common_name,
            organizations: vec![ORGANIZATION.to_owned()],
            organizational_units: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    Server,
    Client,
}

impl Leaf {
    /// A client certificate of any subject.
    #[must_use]
    pub fn client(common_name: impl Into<String>, organizations: Vec<String>) -> Self {
        Self {
            subject: Subject {
                common_name: common_name.into(),
                organizations,
                organizational_units: Vec::new(),
            },
            sans: Vec::new(),
            usage: Usage::Client,
            validity: 365 * DAY,
        }
    }

    /// A server certificate for `sans` (DNS names and IP addresses). The first of them that is
    /// short enough is its common name.
    #[must_use]
    pub fn server(sans: Vec<String>) -> Self {
        let common_name = sans.iter().find(|san| san.len() <= MAX_COMMON_NAME);
        Self {
            subject: Subject {
                common_name: common_name.cloned().unwrap_or_default(),
                ..Subject::default()
            },
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
            subject: Subject {
                common_name: "cluster-proxy-service-proxy".to_owned(),
                ..Subject::default()
            },
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

    /// The same certificate about `subject`: for subjects that were registered beforehand and
    /// must come back as they were.
    #[must_use]
    pub fn about(self, subject: Subject) -> Self {
        Self { subject, ..self }
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

fn params(leaf: &Leaf) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::new(leaf.sans.clone())?;
    params.distinguished_name = name(&leaf.subject);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match leaf.usage {
        Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, leaf.validity);
    Ok(params)
}

fn name(subject: &Subject) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, subject.common_name.as_str());
    for organization in &subject.organizations {
        name.push(DnType::OrganizationName, organization.as_str());
    }
    for unit in &subject.organizational_units {
        name.push(DnType::OrganizationalUnitName, unit.as_str());
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
    fn what_is_signed_is_the_leaf_and_the_key() {
        let ca = CertificateAuthority::generate().unwrap();
        let cluster = "managed".parse().unwrap();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let public_key = rcgen::PublicKeyData::subject_public_key_info(&key);
        let leaf = Leaf::service_proxy(&cluster)
            .about(Subject::service_proxy(&cluster).in_unit("signer-1"))
            .valid_for(180 * DAY);
        let signed = ca.sign(&leaf, &public_key).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(signed.as_bytes()).unwrap();
        let certificate = pem.parse_x509().unwrap();
        assert_eq!(certificate.public_key().raw, public_key);
        assert_eq!(
            certificate.subject().to_string(),
            "CN=system:open-cluster-management:cluster:managed:addon:cluster-proxy:agent:\
             service-proxy, O=open-cluster-management:cluster-proxy, OU=signer-1"
        );
        let usage = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.server_auth && !usage.client_auth && !usage.any);
        assert!(ca.sign(&leaf, b"no key").is_err());
    }

    #[test]
    fn debug_shows_no_key() {
        let ca = CertificateAuthority::generate().unwrap();
        let issued = ca.issue(&Leaf::proxy_client()).unwrap();
        assert!(!format!("{ca:?} {issued:?}").contains("PRIVATE"));
    }
}
