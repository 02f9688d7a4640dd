//! Configuration that nothing can be rendered from.

/// Configuration that nothing can be rendered from, in one line for the person who wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The configuration was not read from a kube-apiserver.
    #[error("the configuration has no uid, so nothing can belong to it")]
    NoUid,
    /// An image is empty.
    #[error("{field} is empty: no image to run")]
    NoImage {
        /// Where it should stand.
        field: &'static str,
    },
    /// Not a port.
    #[error("{field}: {given} is no port")]
    Port {
        /// Where it stands.
        field: &'static str,
        /// What stands there.
        given: i64,
    },
    /// Not a number of pods.
    #[error("{field}: {given:?} is no number of replicas")]
    Replicas {
        /// Where it stands.
        field: &'static str,
        /// What stands there.
        given: String,
    },
    /// Not an annotation that Kubernetes takes. It is not left out: it may be what keeps a load
    /// balancer off the internet.
    #[error("{field}: {given:?} is no key of an annotation")]
    AnnotationKey {
        /// Where it stands.
        field: &'static str,
        /// What stands there.
        given: String,
    },
    /// A variable of an AddOnDeploymentConfig has a value that it cannot have.
    #[error("the variable {name} is {given:?}, and must be {wanted}")]
    Variable {
        /// Its name.
        name: &'static str,
        /// Its value.
        given: String,
        /// What it could be.
        wanted: &'static str,
    },
    /// An issuer without an audience, or the other way round.
    #[error("the variables oidcIssuerURL and oidcClientID go together")]
    OidcIncomplete,
    /// `--oidc-issuer-url` more than once.
    #[error(
        "the OIDC issuer is configured more than once: use the variable oidcIssuerURL or one \
         --oidc-issuer-url in additionalServiceProxyArgs"
    )]
    OidcTwice,
    /// `--enable-impersonation` where it would contradict the permissions.
    #[error(
        "additionalServiceProxyArgs must not set --enable-impersonation: use the variable \
         enableImpersonation, which the permissions follow"
    )]
    ImpersonationArgument,
    /// JSON in an annotation that is none.
    #[error("the annotation {annotation} of ManagedCluster {cluster} cannot be read: {cause}")]
    ClusterAnnotation {
        /// Which annotation.
        annotation: &'static str,
        /// Whose.
        cluster: String,
        /// What is wrong with it.
        cause: String,
    },
    /// Certificates that are none.
    #[error("{source_name} holds no usable certificates: {cause}")]
    Certificates {
        /// Where they stand.
        source_name: &'static str,
        /// What is wrong with them.
        cause: String,
    },
    /// An id of containers that is none.
    #[error(
        "resourceRequirements: the containerID {given:?} is not resource:name:container, each a regular expression or *"
    )]
    ContainerId {
        /// What stands there.
        given: String,
    },
    /// An amount of a resource that is none.
    #[error(
        "resourceRequirements of {container}: {resource} is {given:?}, which is no quantity such \
         as 100m or 64Mi"
    )]
    Quantity {
        /// Of which containers.
        container: String,
        /// Which resource.
        resource: String,
        /// What stands there.
        given: String,
    },
    /// TLS settings with which no server could start.
    #[error("the ConfigMap ocm-tls-profile cannot be used: {cause}")]
    Tls {
        /// What is wrong with them.
        cause: String,
    },
    /// A namespace that Kubernetes does not take.
    #[error("{given:?} is no name of a namespace")]
    Namespace {
        /// What was given.
        given: String,
    },
}
