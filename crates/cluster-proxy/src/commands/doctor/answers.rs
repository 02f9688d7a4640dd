//! At which hop a request ended, by the user-server's and service-proxy's own words.

use super::steps::Step;

/// Hops of a request with a token, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hop {
    Review,
    Authorization,
    Agent,
    ServiceProxy,
    KubeApiserver,
    Identity,
}

impl Hop {
    pub(super) const ALL: [Self; 6] = [
        Self::Review,
        Self::Authorization,
        Self::Agent,
        Self::ServiceProxy,
        Self::KubeApiserver,
        Self::Identity,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Review => "token review",
            Self::Authorization => "hub authorization",
            Self::Agent => "tunnel",
            Self::ServiceProxy => "service-proxy",
            Self::KubeApiserver => "kube-apiserver",
            Self::Identity => "identity there",
        }
    }
}

/// What an answer means.
struct Meaning {
    code: u16,
    /// In the answer's message.
    words: &'static str,
    hop: Hop,
    fault: &'static str,
    what_to_do: &'static str,
}

/// The hop at which an answer with this code and message ended, if it ended at one of ours.
pub(super) fn ended_at(code: u16, message: &str) -> Option<(Hop, Step)> {
    let meaning = MEANINGS
        .iter()
        .find(|meaning| meaning.code == code && message.contains(meaning.words))?;
    let step = Step::failed(meaning.hop.name(), message).by(meaning.fault, meaning.what_to_do);
    Some((meaning.hop, step))
}

const HUB: &str = "the hub";
const MANAGED: &str = "the managed cluster";
const YOURS: &str = "you: the token";

const MEANINGS: &[Meaning] = &[
    meaning(
        401,
        "no bearer token",
        Hop::Review,
        YOURS,
        "send a token of the hub",
    ),
    meaning(
        401,
        "the hub signed this bearer token and does not accept it",
        Hop::Review,
        YOURS,
        "get a new one: kubectl create token",
    ),
    meaning(
        401,
        "neither by the hub nor by the managed cluster",
        Hop::Review,
        YOURS,
        "use a token of the hub; the same is said of a cluster that does not exist",
    ),
    meaning(
        503,
        "could not say whose bearer token this is",
        Hop::Review,
        HUB,
        "look at its kube-apiserver, and at the user-server's right to create tokenreviews",
    ),
    meaning(
        403,
        "managedclusters/proxy of cluster",
        Hop::Authorization,
        "the hub's administrator",
        "have managedclusters/proxy of this cluster granted to you on the hub",
    ),
    meaning(
        503,
        "could not say whether the user may use the cluster",
        Hop::Authorization,
        HUB,
        "look at its kube-apiserver, and at the user-server's right to create \
         subjectaccessreviews",
    ),
    meaning(
        503,
        "proxy-server cannot be reached",
        Hop::Agent,
        HUB,
        "look at the proxy-server's pods",
    ),
    meaning(
        502,
        "does not let its user-server open connections",
        Hop::Agent,
        HUB,
        "look at the certificate of the user-server's --proxy-cert",
    ),
    meaning(
        503,
        "is not connected",
        Hop::Agent,
        MANAGED,
        "look at the name of the cluster, and at the proxy-agent's log there",
    ),
    meaning(
        502,
        "its agent cannot reach its service-proxy",
        Hop::ServiceProxy,
        MANAGED,
        "look at the service-proxy's container there",
    ),
    meaning(
        502,
        "did not prove that it is",
        Hop::ServiceProxy,
        MANAGED,
        "look at the service-proxy's certificate there: its CA, its dates, its name",
    ),
    meaning(
        504,
        "could not be connected",
        Hop::ServiceProxy,
        MANAGED,
        "look at the service-proxy and the proxy-agent there",
    ),
    meaning(
        502,
        "the service-proxy of cluster",
        Hop::ServiceProxy,
        MANAGED,
        "look at the service-proxy's log there",
    ),
    meaning(
        502,
        "did not take the hub's word about its user",
        Hop::ServiceProxy,
        "the hub, or the managed cluster",
        "look at the versions of both, and at the user-server's certificate",
    ),
    meaning(
        503,
        "the managed cluster's kube-apiserver cannot be reached",
        Hop::KubeApiserver,
        MANAGED,
        "look at its kube-apiserver, as its pods reach it",
    ),
    meaning(
        502,
        "the managed cluster's kube-apiserver",
        Hop::KubeApiserver,
        MANAGED,
        "look at its kube-apiserver, and at the service-proxy's account",
    ),
    meaning(
        403,
        "reserved on managed clusters",
        Hop::Identity,
        YOURS,
        "use another user, without that name or group",
    ),
    meaning(
        403,
        "impersonation of hub users is switched off",
        Hop::Identity,
        "the hub's administrator",
        "set enableImpersonation for the cluster",
    ),
    meaning(
        403,
        "cannot impersonate",
        Hop::Identity,
        MANAGED,
        "give the service-proxy's account its rights: the ManifestWorks of the addon",
    ),
];

const fn meaning(
    code: u16,
    words: &'static str,
    hop: Hop,
    fault: &'static str,
    what_to_do: &'static str,
) -> Meaning {
    Meaning {
        code,
        words,
        hop,
        fault,
        what_to_do,
    }
}
