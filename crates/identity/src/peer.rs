//! The identity that a verified client certificate proves.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::cluster::ClusterName;

/// The exact common name of the user-server's client certificate. No CSR registration can obtain
/// it: only the hub's own CA tools issue it.
pub const USER_SERVER_COMMON_NAME: &str = "open-cluster-management:cluster-proxy:user-server";

const AGENT_PREFIX: &str = "system:open-cluster-management:cluster:";
const AGENT_SUFFIX: &str = ":addon:cluster-proxy:agent:proxy-agent";

/// An agent whose certificate names its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ProvenAgent {
    /// The cluster the certificate was issued for.
    pub cluster: ClusterName,
}

impl ProvenAgent {
    /// The common name of the client certificate of `cluster`'s proxy-agent.
    #[must_use]
    pub fn common_name(cluster: &ClusterName) -> String {
        format!("{AGENT_PREFIX}{cluster}{AGENT_SUFFIX}")
    }
}

/// Who is at the other end of a TLS connection, as far as its certificate proves it. The
/// certificate has been verified by the handshake before it comes here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PeerIdentity {
    /// No client certificate.
    Anonymous,
    /// The proxy-agent of one cluster.
    Agent(ProvenAgent),
    /// The hub's user-server: only its word about a hub user counts.
    UserServer,
    /// Any other certificate of the CA.
    Client {
        /// Its subject's common name; empty when there is not exactly one.
        common_name: String,
    },
}

impl PeerIdentity {
    /// Reads the identity from the peer's verified chain, end entity first.
    #[must_use]
    pub fn of(chain: Option<&[CertificateDer<'_>]>) -> Self {
        let Some(end_entity) = chain.and_then(<[_]>::first) else {
            return Self::Anonymous;
        };
        Self::of_common_name(single_common_name(end_entity).unwrap_or_default())
    }

    /// Reads the identity from a PEM file's content, end entity first: what this process itself
    /// will prove. Content that is no certificate proves nothing.
    #[must_use]
    pub fn of_pem(pem: &[u8]) -> Self {
        match CertificateDer::from_pem_slice(pem) {
            Ok(end_entity) => Self::of(Some(&[end_entity])),
            Err(_) => Self::Anonymous,
        }
    }

    fn of_common_name(common_name: String) -> Self {
        if common_name == USER_SERVER_COMMON_NAME {
            return Self::UserServer;
        }
        let cluster = common_name
            .strip_prefix(AGENT_PREFIX)
            .and_then(|rest| rest.strip_suffix(AGENT_SUFFIX))
            .and_then(|cluster| cluster.parse().ok());
        match cluster {
            Some(cluster) => Self::Agent(ProvenAgent { cluster }),
            None => Self::Client { common_name },
        }
    }

    /// Whether this may be an agent of any kind, ours or one of upstream's, whose certificates
    /// all bear one subject. Such a peer opens no tunnels.
    #[must_use]
    pub fn may_be_an_agent(&self) -> bool {
        match self {
            Self::Agent(_) => true,
            Self::Client { common_name } => {
                common_name.starts_with(AGENT_PREFIX)
                    || common_name == "open-cluster-management:cluster-proxy:proxy-agent"
                    || common_name == "open-cluster-management:cluster-proxy:addon-agent"
            }
            Self::Anonymous | Self::UserServer => false,
        }
    }
}

/// The subject's common name, if it has exactly one: a second could say something else to
/// another reader.
fn single_common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let mut names = certificate.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?.to_owned();
    names.next().is_none().then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::{CertificateAuthority, Leaf};

    fn identity_of(leaf: &Leaf) -> PeerIdentity {
        let issued = CertificateAuthority::generate()
            .unwrap()
            .issue(leaf)
            .unwrap();
        PeerIdentity::of_pem(issued.cert_pem.as_bytes())
    }

    #[test]
    fn issued_certificates_prove_what_they_were_issued_for() {
        let cluster: ClusterName = "managed".parse().unwrap();
        assert_eq!(
            identity_of(&Leaf::proxy_agent(&cluster)),
            PeerIdentity::Agent(ProvenAgent {
                cluster: cluster.clone()
            })
        );
        assert_eq!(
            identity_of(&Leaf::user_server_client()),
            PeerIdentity::UserServer
        );
        assert!(matches!(
            identity_of(&Leaf::proxy_client()),
            PeerIdentity::Client { .. }
        ));
        assert_eq!(PeerIdentity::of_pem(b"hello"), PeerIdentity::Anonymous);
        assert_eq!(PeerIdentity::of(None), PeerIdentity::Anonymous);
        assert_eq!(PeerIdentity::of(Some(&[])), PeerIdentity::Anonymous);
    }

    #[test]
    fn near_misses_prove_nothing() {
        for name in [
            "system:open-cluster-management:cluster::addon:cluster-proxy:agent:proxy-agent",
            "system:open-cluster-management:cluster:A B:addon:cluster-proxy:agent:proxy-agent",
            "system:open-cluster-management:cluster:a:addon:other:agent:proxy-agent",
            "open-cluster-management:cluster-proxy:user-server ",
        ] {
            let identity = PeerIdentity::of_common_name(name.to_owned());
            assert!(matches!(identity, PeerIdentity::Client { .. }), "{name}");
        }
        assert!(
            PeerIdentity::of_common_name(
                "open-cluster-management:cluster-proxy:proxy-agent".to_owned()
            )
            .may_be_an_agent()
        );
    }
}
