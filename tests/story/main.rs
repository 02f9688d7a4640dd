//! The user's story in two real clusters: a hub user's token reaches a managed cluster that the
//! hub cannot dial, and what must never work does not.
//!
//! The roles run as programs, installed by hand; the user's side is curl and kubectl.

mod identity;
mod kubectl;
mod operation;
mod requests;
mod services;
mod setting;

use std::process::ExitCode;

use crate::setting::Setting;

fn main() -> ExitCode {
    cluster_proxy_tests::run(
        "story",
        Setting::new,
        &[
            (
                "the hub cannot dial the managed cluster",
                requests::the_fence_holds,
            ),
            ("pods come back to curl", requests::pods_come_back),
            (
                "pods come back over HTTP/1.1 too",
                requests::pods_come_back_over_http1,
            ),
            (
                "another namespace is 403 and names the user",
                requests::another_namespace,
            ),
            (
                "no, empty and wrong tokens are 401",
                requests::tokens_that_are_none,
            ),
            (
                "an unknown cluster is a clear Status",
                requests::unknown_cluster,
            ),
            (
                "a cluster without an agent is a clear Status",
                requests::cluster_without_agent,
            ),
            (
                "nobody without a token learns which clusters exist",
                requests::no_oracle,
            ),
            (
                "a request with a body is refused readably",
                requests::refused_with_a_body,
            ),
            ("refused URLs get a Status", requests::refused_urls),
            (
                "exposed Services are reached, others are not",
                services::exposed,
            ),
            (
                "nothing is dialled per request",
                requests::nothing_is_dialled_per_request,
            ),
            (
                "a managed cluster's own token works as itself",
                identity::managed_token,
            ),
            (
                "a hub token of another audience stays on the hub",
                identity::other_audience,
            ),
            (
                "a hub user acts as whom the cluster lets them",
                identity::acting_as,
            ),
            (
                "the hub says who may use which cluster",
                identity::authorized_on_hub,
            ),
            (
                "Impersonate-* gains nothing",
                identity::impersonation_headers,
            ),
            (
                "identity headers of a client gain nothing",
                identity::remote_headers,
            ),
            (
                "only the user-server's word counts",
                identity::service_proxy_alone,
            ),
            (
                "even the user-server's word is bounded",
                identity::bounded_word,
            ),
            (
                "a deleted account is refused within the cache's time",
                identity::deleted_account,
            ),
            ("kubectl get", kubectl::get),
            ("kubectl get -w", kubectl::watch),
            ("kubectl logs -f", kubectl::logs),
            ("kubectl exec over WebSocket", kubectl::exec),
            ("kubectl auth can-i", kubectl::auth_can_i),
            ("errors print well in kubectl", kubectl::errors),
            ("health, readiness and metrics", operation::listeners),
            (
                "TLS versions are those of ocm-tls-profile",
                operation::tls_profile,
            ),
            ("no token in any log", operation::no_token_in_logs),
            (
                "an agent that comes back is found",
                operation::agent_comes_back,
            ),
            ("SIGTERM ends every role cleanly", operation::terminate),
        ],
    )
}
