//! The reconciler of the ManagedProxyConfiguration: CA, certificates, entrypoint and the
//! proxy-server's objects, and what became of them as conditions.

mod objects;
mod resolvers;
mod status;
mod watches;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cluster_proxy_identity::ca::Leaf;
use cluster_proxy_kube_api::managed_proxy_configuration::{
    AGENT_SERVER_SECRET_SIGNED, CONFIGURATION_NAME, ManagedProxyConfiguration,
    ManagedProxyConfigurationSpec, PROXY_CLIENT_SECRET_SIGNED, PROXY_SERVER_SECRET_SIGNED,
    USER_SERVER_SECRET_SIGNED,
};
use cluster_proxy_kube_api::names::{USER_SERVER, USER_SERVING_SECRET};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::{Api, ApiResource, DynamicObject, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::watcher;

use crate::certificate_authority::{self, AuthorityFailure};
use crate::certificates::{self, CertificateFailure, Signed, Wanted};
use crate::config::FIELD_MANAGER;
use crate::context::Context;
use crate::controller;
use crate::entrypoint::{self, Entrypoint, EntrypointNotReady};
use crate::failure::RequestFailure;
use crate::leader_election;
use crate::render::RenderError;
use objects::Owner;
pub(crate) use status::ENTRYPOINT_READY;
use status::{Report, SIGNER_TYPE_UNSUPPORTED};
use watches::Watches;

/// Runs until the context's drain.
pub async fn run(context: Arc<Context>) {
    let resource = resource();
    let api: Api<DynamicObject> = Api::all_with(context.watch_client.clone(), &resource);
    let only = watcher::Config::default().fields(&format!("metadata.name={CONFIGURATION_NAME}"));
    let (watches, changes) = Watches::new(&context);
    let watches = Arc::new(watches);
    let controller = Controller::new_with(api, only, resource).reconcile_all_on(changes);
    controller::run(context, NAME, controller, move |object, context| {
        let watches = Arc::clone(&watches);
        async move { reconcile(&object, &context, &watches).await }
    })
    .await;
}

/// Configurations as objects of any kind, so that one which cannot be parsed is still seen.
fn resource() -> ApiResource {
    ApiResource::erase::<ManagedProxyConfiguration>(&())
}

async fn reconcile(
    object: &DynamicObject,
    context: &Context,
    watches: &Watches,
) -> Result<Action, ConfigurationFailure> {
    if object.metadata.deletion_timestamp.is_some() {
        // What it owns goes with it.
        return Ok(Action::await_change());
    }
    let about = object.object_ref(&resource());
    let configuration: ManagedProxyConfiguration = match object.clone().try_parse() {
        Ok(configuration) => configuration,
        Err(error) => {
            let message = format!("the configuration cannot be read: {error}");
            let report = Report::unreadable(object.metadata.generation, &message);
            report.write(context, object).await?;
            context.events.warning(&about, UNREADABLE, &message).await;
            return Ok(Action::await_change());
        }
    };
    let mut report = Report::new(object.metadata.generation);
    if configuration.spec.user_server.is_none() {
        report.gone(USER_SERVER_SECRET_SIGNED);
    }
    report.resolvers(resolvers::count(context).await);
    let signer = configuration.spec.authentication.signer.kind;
    let unsupported = report.signer(signer, &context.config);
    let outcome = bring_about(object, &configuration, context, watches, &mut report).await;
    if let Err(failure) = &outcome {
        report.failed(failure);
    }
    report.write(context, object).await?;
    if let Some(message) = unsupported
        && !status::says(object, SIGNER_TYPE_UNSUPPORTED, &message)
    {
        let reason = SIGNER_TYPE_UNSUPPORTED;
        context.events.warning(&about, reason, &message).await;
    }
    match outcome {
        Ok(again) => Ok(Action::requeue(again)),
        Err(failure) => {
            if let Some(reason) = failure.for_people() {
                let note = failure.to_string();
                context.events.warning(&about, reason, &note).await;
            }
            Err(failure)
        }
    }
}

/// Does everything, and gives the time after which to look again.
async fn bring_about(
    object: &DynamicObject,
    configuration: &ManagedProxyConfiguration,
    context: &Context,
    watches: &Watches,
    report: &mut Report,
) -> Result<Duration, ConfigurationFailure> {
    let owner = Owner::of(object, &resource()).ok_or(ConfigurationFailure::NoIdentity)?;
    let spec = &configuration.spec;
    let namespace = spec.proxy_server.namespace.as_str();
    ensure_namespace(context, namespace).await?;
    watches.begin(context, namespace);
    if context.config.leader_election {
        leader_election::adopt(&context.client, &context.config, &owner.reference).await?;
    }
    let authority = certificate_authority::ensure(context, &owner.reference).await?;

    let found = entrypoint::find(&context.client, spec).await;
    report.entrypoint(&found);
    let entrypoint = found.as_ref().ok();

    // Each on its own: one name that cannot be signed does not keep the others from renewal.
    let mut again = RESYNC;
    let mut failed = None;
    for (condition, wanted) in wanted_certificates(spec, entrypoint) {
        let metadata = owner.metadata();
        let ensured = certificates::ensure(context, namespace, &authority, &wanted, metadata).await;
        match ensured {
            Ok(signed) => {
                again = again.min(until(signed));
                report.signed(condition, &signed);
            }
            Err(failure) => {
                report.not_signed(condition, &failure);
                failed.get_or_insert(failure);
            }
        }
    }

    let wanted = objects::wanted(context, configuration, &owner, &authority).await?;
    let applied = objects::apply(context, &wanted).await?;
    report.deployed(&applied);
    objects::prune(context, &owner, &watches.namespaces(), &wanted).await?;
    if let Some(failure) = failed {
        return Err(failure.into());
    }
    match found {
        Ok(_) => Ok(again),
        // The Service is watched; this is for what a watch may miss.
        Err(EntrypointNotReady::NoAddress { .. }) => Ok(again.min(NO_ADDRESS_RETRY)),
        Err(failure) => Err(failure.into()),
    }
}

fn until(signed: Signed) -> Duration {
    let left = signed.renew_at.duration_since(SystemTime::now());
    // A renewal that is due is found due by the next look.
    left.unwrap_or_default().max(Duration::from_secs(1))
}

/// Upstream does not ask for the namespace to be there, so it is made.
async fn ensure_namespace(context: &Context, name: &str) -> Result<(), RequestFailure> {
    let api: Api<Namespace> = Api::all(context.client.clone());
    let object = format!("Namespace {name}");
    let found = api.get_opt(name).await;
    if found
        .map_err(RequestFailure::of("read", object.clone()))?
        .is_some()
    {
        return Ok(());
    }
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    let created = api.create(&params, &namespace).await;
    match created.map_err(RequestFailure::of("create", object)) {
        Err(error) if !error.is_already_exists() => Err(error),
        _ => Ok(()),
    }
}

/// The certificates of a configuration, each with the condition that tells of it, if there is one.
fn wanted_certificates(
    spec: &ManagedProxyConfigurationSpec,
    entrypoint: Option<&Entrypoint>,
) -> Vec<(Option<&'static str>, Wanted)> {
    let secrets = &spec.authentication.dump.secrets;
    let sans = server_sans(spec, entrypoint);
    let mut wanted = vec![
        (
            Some(PROXY_SERVER_SECRET_SIGNED),
            Wanted::new(
                "proxy-server",
                &secrets.signing_proxy_server_secret_name,
                Leaf::proxy_server(sans.clone()),
            ),
        ),
        (
            Some(AGENT_SERVER_SECRET_SIGNED),
            Wanted::new(
                "agent-server",
                &secrets.signing_agent_server_secret_name,
                Leaf::agent_server(sans),
            ),
        ),
        (
            Some(PROXY_CLIENT_SECRET_SIGNED),
            Wanted::new(
                "proxy-client",
                &secrets.signing_proxy_client_secret_name,
                Leaf::proxy_client(),
            ),
        ),
        (
            None,
            Wanted::new(
                "user-server-client",
                USER_SERVER_CLIENT_SECRET,
                Leaf::user_server_client(),
            ),
        ),
    ];
    if let Some(user_server) = &spec.user_server {
        let mut sans = user_server_sans(&spec.proxy_server.namespace);
        sans.extend(user_server.additional_sans.iter().cloned());
        wanted.push((
            Some(USER_SERVER_SECRET_SIGNED),
            Wanted::new(
                "user-server",
                USER_SERVING_SECRET,
                Leaf::user_server_serving(distinct(sans)),
            ),
        ));
    }
    wanted
}

fn server_sans(
    spec: &ManagedProxyConfigurationSpec,
    entrypoint: Option<&Entrypoint>,
) -> Vec<String> {
    let server = &spec.proxy_server;
    let service = &server.in_cluster_service_name;
    let mut sans = vec![
        format!("{service}.{}", server.namespace),
        format!("{service}.{}.svc", server.namespace),
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
    ];
    sans.extend(entrypoint.and_then(Entrypoint::host).map(str::to_owned));
    if let Some(self_signed) = &spec.authentication.signer.self_signed {
        sans.extend(self_signed.additional_sans.iter().cloned());
    }
    distinct(sans)
}

fn user_server_sans(namespace: &str) -> Vec<String> {
    vec![
        USER_SERVER.to_owned(),
        format!("{USER_SERVER}.{namespace}"),
        format!("{USER_SERVER}.{namespace}.svc"),
        format!("{USER_SERVER}.{namespace}.svc.cluster.local"),
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
    ]
}

/// Each once, in their order, without surrounding space; empty ones are none.
fn distinct(sans: Vec<String>) -> Vec<String> {
    let mut distinct: Vec<String> = Vec::with_capacity(sans.len());
    for san in sans {
        let san = san.trim();
        if !san.is_empty() && !distinct.iter().any(|known| known == san) {
            distinct.push(san.to_owned());
        }
    }
    distinct
}

/// Why a configuration is not in force yet.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationFailure {
    /// The hub did not answer as hoped.
    #[error(transparent)]
    Request(#[from] RequestFailure),
    /// There is no CA.
    #[error(transparent)]
    Authority(#[from] AuthorityFailure),
    /// A certificate is missing.
    #[error(transparent)]
    Certificate(#[from] CertificateFailure),
    /// The configuration asks for what cannot be.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// Agents cannot be told where to go.
    #[error(transparent)]
    Entrypoint(#[from] EntrypointNotReady),
    /// An object without name or uid: no kube-apiserver gives such.
    #[error("the configuration has no uid")]
    NoIdentity,
}

impl ConfigurationFailure {
    /// The reason of an Event, for failures that stay until a person acts.
    fn for_people(&self) -> Option<&'static str> {
        match self {
            Self::Render(_) => Some("ConfigurationInvalid"),
            Self::Entrypoint(EntrypointNotReady::NoHostname | EntrypointNotReady::Port { .. }) => {
                Some("EntrypointInvalid")
            }
            Self::Request(failure)
            | Self::Authority(AuthorityFailure::Request(failure))
            | Self::Certificate(CertificateFailure::Request(failure))
            | Self::Entrypoint(EntrypointNotReady::Request(failure)) => {
                if failure.is_forbidden() {
                    Some("RightMissing")
                } else {
                    failure.is_refused().then_some("RequestRefused")
                }
            }
            Self::Authority(failure) => failure.for_people(),
            Self::Certificate(failure) => failure.for_people(),
            Self::Entrypoint(_) | Self::NoIdentity => None,
        }
    }
}

/// The Secret with the client certificate that makes the user-server's word count.
pub const USER_SERVER_CLIENT_SECRET: &str = "cluster-proxy-user-server-client";

const NAME: &str = "configuration";

/// Reason of the condition and the Event of a configuration that cannot be parsed.
const UNREADABLE: &str = "ConfigurationUnreadable";

/// All is watched; this is for what a watch may have missed.
const RESYNC: Duration = Duration::from_mins(10);

const NO_ADDRESS_RETRY: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
