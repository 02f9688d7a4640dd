//! Every way to install that docs/chart-values.md and an AddOnDeploymentConfig offer, one after the
//! other in one lab as a user would change them, each with a request that goes through. Needs a
//! lab that nobody else has installed anything in, and the image's tar in `CLUSTER_PROXY_IMAGE`.

mod cluster_profile;
mod deployment_config;
mod entrypoint;
mod http_proxy;
mod kube_api_proxy;
mod local_cluster;
mod memory;
mod network_policies;
mod placement;
mod serving_certificate;
mod setting;

use std::process::ExitCode;

use setting::Setting;

fn main() -> ExitCode {
    cluster_proxy_tests::run(
        "variants",
        Setting::new,
        &[
            (
                "without cert-manager the manager signs",
                serving_certificate::signed_by_the_manager,
            ),
            (
                "the certificate's names and no others",
                serving_certificate::names,
            ),
            (
                "PortForward: no port of the hub but its kube-apiserver's",
                entrypoint::port_forward,
            ),
            (
                "an address takes the place of PortForward",
                entrypoint::address,
            ),
            (
                "a name is added without a restart",
                serving_certificate::another_name,
            ),
            ("memory when idle", memory::within_limits),
            (
                "AddOnDeploymentConfig: every kind of setting",
                deployment_config::customized,
            ),
            (
                "AddOnDeploymentConfig: no impersonation",
                deployment_config::without_impersonation,
            ),
            (
                "AddOnDeploymentConfig: one that is unusable",
                deployment_config::unusable,
            ),
            (
                "AddOnDeploymentConfig: another namespace",
                deployment_config::moved,
            ),
            (
                "AddOnDeploymentConfig: taken back",
                deployment_config::taken_back,
            ),
            (
                "an HTTP proxy with its CA and a password",
                http_proxy::in_between,
            ),
            (
                "enableKubeApiProxy: the cluster's names lead to its kube-apiserver",
                kube_api_proxy::on,
            ),
            (
                "enableKubeApiProxy=false: they lead nowhere",
                kube_api_proxy::off,
            ),
            (
                "a load balancer without an address",
                entrypoint::load_balancer_without_address,
            ),
            (
                "a load balancer with an IP address",
                entrypoint::load_balancer_ip,
            ),
            (
                "a load balancer with a name",
                entrypoint::load_balancer_name,
            ),
            (
                "a ClusterProfile gets an access provider",
                cluster_profile::access_provider,
            ),
            ("network policies", network_policies::ports),
            ("network policies off again", network_policies::off),
            (
                "a placement that does not select the cluster",
                placement::deselected,
            ),
            ("nothing is left of its addon", placement::nothing_left),
            ("a placement that selects the cluster", placement::selected),
            (
                "the hub is its own managed cluster",
                local_cluster::requests,
            ),
            ("a ManagedCluster is deleted", local_cluster::detached),
        ],
    )
}
