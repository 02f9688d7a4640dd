//! Who may reach which Service.

use cluster_proxy_identity::{ClusterName, ServiceTarget};
use cluster_proxy_kube_api::status::StatusReply;

use crate::address::Address;
use crate::caller::Caller;
use crate::exposed_services_config_map::{Current, WatchedExposedServices};

/// The rules about Services.
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) exposed: WatchedExposedServices,
    /// Whoever comes may reach an exposed Service, as the Go cluster-proxy has it.
    pub(crate) anonymous: bool,
    /// Every exposed Service may see the client's `Authorization`.
    pub(crate) pass_authorization: bool,
}

/// What a request may reach.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    pub(crate) target: ServiceTarget,
    pub(crate) passes_authorization: bool,
}

/// Why a Service may not be reached.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ServiceError {
    #[error(
        "Services are for users of the hub, who does not know this bearer token; use a token of \
         the hub"
    )]
    Stranger,
    #[error(
        "service {:?} in namespace {:?} of cluster \"{cluster}\" is not exposed ({asked}); an \
         administrator of the hub lists it in {place}{}",
        asked.service(),
        asked.namespace(),
        problem.as_deref().map(|it| format!(", of which the newest version is not valid: {it}")).unwrap_or_default()
    )]
    NotExposed {
        cluster: ClusterName,
        asked: ServiceTarget,
        place: String,
        problem: Option<String>,
    },
    #[error("the user-server cannot tell which Services are exposed: {place}: {why}")]
    Unread { place: String, why: String },
}

impl Services {
    /// Whether nobody needs to know who asks.
    pub(crate) fn is_anonymous(&self, address: &Address) -> bool {
        let service = address.service.as_ref();
        self.anonymous && service.is_some_and(|service| !service.is_kube_apiserver())
    }

    /// What the request may reach.
    ///
    /// # Errors
    /// See [`ServiceError`].
    pub(crate) fn reach(
        &self,
        address: &Address,
        caller: &Caller,
    ) -> Result<Reached, Box<ServiceError>> {
        let Some(asked) = &address.service else {
            return Ok(Reached {
                target: ServiceTarget::kube_apiserver(),
                passes_authorization: false,
            });
        };
        if matches!(caller, Caller::Stranger) && !self.is_anonymous(address) {
            return Err(ServiceError::Stranger.into());
        }
        let place = || self.exposed.place().to_owned();
        match &*self.exposed.current() {
            Current::Unread { why } => Err(ServiceError::Unread {
                place: place(),
                why: why.clone(),
            }
            .into()),
            Current::Read { list, problem } => match list.find(asked) {
                Some(exposed) => Ok(Reached {
                    target: exposed.target,
                    passes_authorization: exposed.passes_authorization || self.pass_authorization,
                }),
                None => Err(ServiceError::NotExposed {
                    cluster: address.cluster.clone(),
                    asked: asked.clone(),
                    place: place(),
                    problem: problem.clone(),
                }
                .into()),
            },
        }
    }
}

impl ServiceError {
    pub(crate) fn reply(&self) -> StatusReply {
        match self {
            Self::Stranger => StatusReply::unauthorized(self.to_string()),
            Self::NotExposed { .. } => StatusReply::forbidden(self.to_string()),
            Self::Unread { .. } => {
                StatusReply::service_unavailable(self.to_string(), Some(RETRY_AFTER_SECONDS))
            }
        }
    }

    /// A short fixed word for metrics.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Stranger => "not_a_hub_user",
            Self::NotExposed { .. } => "not_exposed",
            Self::Unread { .. } => "unread",
        }
    }
}

/// A watch that fails is tried again within seconds.
const RETRY_AFTER_SECONDS: u32 = 5;
