//! As whom the parts of an agent are known on the hub.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cluster_proxy_identity::ClusterName;
use cluster_proxy_identity::ca::Subject;
use cluster_proxy_kube_api::names::{
    ADDON_AGENT, ADDON_GROUP, KUBE_CLIENT_SIGNER, PROXY_AGENT_SIGNER, SERVICE_PROXY_SIGNER,
    cluster_addon_group, cluster_agent_user,
};
use sha2::{Digest, Sha256};

/// Who signs a certificate of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signer {
    /// The hub's kube-controller-manager: for the addon-agent, towards the hub's kube-apiserver.
    KubeClient,
    /// The addon's CA: for the proxy-agent, towards the proxy-server.
    ProxyAgent,
    /// The addon's CA: for the service-proxy, towards the user-server.
    ServiceProxy,
}

impl Signer {
    /// All of them, in the order of `status.registrations`.
    pub const ALL: [Self; 3] = [Self::KubeClient, Self::ProxyAgent, Self::ServiceProxy];

    /// The signer of that name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|signer| signer.name() == name)
    }

    /// What stands in `spec.signerName`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::KubeClient => KUBE_CLIENT_SIGNER,
            Self::ProxyAgent => PROXY_AGENT_SIGNER,
            Self::ServiceProxy => SERVICE_PROXY_SIGNER,
        }
    }
}

/// What an agent may have signed, by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The signer.
    pub signer: Signer,
    /// The subject: user, groups and organization units in the words of OCM.
    pub subject: Subject,
}

/// All registrations of one cluster's agent, the service-proxy's also where none runs: whether one
/// does is the configuration's to say and may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registrations([Registration; Signer::ALL.len()]);

impl Registrations {
    /// Those of `cluster`'s agent while `ca_pem` is the addon's CA.
    #[must_use]
    pub fn new(cluster: &ClusterName, ca_pem: &str) -> Self {
        let unit = signer_unit(ca_pem);
        Self(Signer::ALL.map(|signer| {
            let subject = match signer {
                Signer::KubeClient => kube_client(cluster),
                Signer::ProxyAgent => Subject::proxy_agent(cluster).in_unit(unit.as_str()),
                Signer::ServiceProxy => Subject::service_proxy(cluster).in_unit(unit.as_str()),
            };
            Registration { signer, subject }
        }))
    }

    /// The registration with `signer`.
    #[must_use]
    pub fn of(&self, signer: Signer) -> &Registration {
        let [kube_client, proxy_agent, service_proxy] = &self.0;
        match signer {
            Signer::KubeClient => kube_client,
            Signer::ProxyAgent => proxy_agent,
            Signer::ServiceProxy => service_proxy,
        }
    }

    /// In the order of `status.registrations`.
    pub fn iter(&self) -> impl Iterator<Item = &Registration> {
        self.0.iter()
    }
}

/// As whom an agent comes when OCM gives it a ServiceAccount's token instead of a certificate
/// (`pkg/registration/register/token` of OCM).
#[must_use]
pub fn token_user(cluster: &ClusterName) -> String {
    format!("system:serviceaccount:{cluster}:cluster-proxy-agent")
}

fn kube_client(cluster: &ClusterName) -> Subject {
    Subject {
        common_name: cluster_agent_user(cluster.as_str(), ADDON_AGENT),
        // In the first, what one cluster's agent may do alone; in the second, what any of them
        // may, none of it about a cluster.
        organizations: vec![
            cluster_addon_group(cluster.as_str()),
            ADDON_GROUP.to_owned(),
        ],
        organizational_units: Vec::new(),
    }
}

/// An organizational unit that changes with the CA, so that agents enrol again: the hex digits of
/// the base64 text of the digest, as Go managers have it. Another formula would make every agent
/// enrol again on the day of an upgrade.
fn signer_unit(ca_pem: &str) -> String {
    let digest = STANDARD.encode(Sha256::digest(ca_pem));
    let hex = digest.bytes().map(|byte| format!("{byte:02x}"));
    format!("signer-{}", hex.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(name: &str) -> ClusterName {
        name.parse().unwrap()
    }

    #[test]
    fn the_unit_is_the_one_of_go_managers() {
        // printf hello | openssl dgst -sha256 -binary | base64 -w0 | xxd -p -c0
        let unit = signer_unit("hello");
        assert_eq!(
            unit,
            "signer-4c504a4e756c2b776f77346d3644737178626e696e687357486c776670304a65637751\
             7a59704f4c6d43513d"
        );
    }

    #[test]
    fn no_two_registrations_of_no_two_clusters_are_alike() {
        let mut seen = std::collections::BTreeSet::new();
        for name in ["managed", "managed1", "a.b", "cluster"] {
            let registrations = Registrations::new(&cluster(name), "ca");
            assert_eq!(registrations.iter().count(), 3);
            for registration in registrations.iter() {
                assert!(seen.insert(registration.subject.common_name.clone()));
            }
        }
    }

    #[test]
    fn only_the_common_group_is_shared() {
        let groups = |name| {
            let registrations = Registrations::new(&cluster(name), "ca");
            let registration = registrations.of(Signer::KubeClient);
            registration.subject.organizations.clone()
        };
        let (a, b) = (groups("a"), groups("b"));
        let shared: Vec<_> = a.iter().filter(|it| b.contains(it)).collect();
        assert_eq!(shared, [ADDON_GROUP]);
    }

    #[test]
    fn signers_are_found_by_name() {
        for signer in Signer::ALL {
            assert_eq!(Signer::of_name(signer.name()), Some(signer));
        }
        assert_eq!(Signer::of_name("kubernetes.io/kubelet-serving"), None);
    }
}
