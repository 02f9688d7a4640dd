//! What the hub's objects say of the cluster.

use std::time::Duration;

use cluster_proxy_identity::ClusterName;
use cluster_proxy_kube_api::addon::{AVAILABLE, ManagedClusterAddOn, TUNNEL_REACHABLE};
use cluster_proxy_kube_api::managed_cluster::ManagedCluster;
use cluster_proxy_kube_api::names::ADDON_NAME;
use cluster_proxy_runtime::error::with_sources;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::Api;
use tokio::time::timeout;

use super::steps::{Report, Step};
use crate::commands::hub::Hub;

/// Looks at the ManagedCluster and its addon.
pub(super) async fn look(report: &mut Report, hub: &Hub, cluster: &ClusterName, limit: Duration) {
    report.doing("hub");
    let client = match timeout(limit, hub.connect()).await {
        Ok(Ok(connection)) => connection.client(),
        Ok(Err(error)) => return report.add(Step::skipped("hub objects", error.to_string())),
        Err(_elapsed) => {
            return report.add(Step::skipped(
                "hub objects",
                "the hub's kubeconfig takes too long",
            ));
        }
    };
    let clusters: Api<ManagedCluster> = Api::all(client.clone());
    let asked = timeout(limit, clusters.get_opt(cluster.as_str())).await;
    report.add(match answer(asked, limit) {
        Err(why) => Step::skipped("ManagedCluster", why),
        Ok(None) => Step::failed(
            "ManagedCluster",
            format!("the hub has no ManagedCluster {cluster}"),
        )
        .by(
            "you, or the hub",
            "look at the name: kubectl get managedclusters",
        ),
        Ok(Some(found)) if !found.spec.hub_accepts_client => {
            Step::failed("ManagedCluster", "the hub has not accepted it").by(
                "the hub's administrator",
                format!("clusteradm accept --clusters {cluster}"),
            )
        }
        Ok(Some(found)) => {
            let conditions = found.status.unwrap_or_default().conditions;
            judged(
                "ManagedCluster",
                &conditions,
                "ManagedClusterConditionAvailable",
            )
        }
    });
    let addons: Api<ManagedClusterAddOn> = Api::namespaced(client, cluster.as_str());
    let asked = timeout(limit, addons.get_opt(ADDON_NAME)).await;
    match answer(asked, limit) {
        Err(why) => report.add(Step::skipped("addon", why)),
        Ok(None) => report.add(
            Step::failed(
                "addon",
                format!("{cluster} has no ManagedClusterAddOn {ADDON_NAME}"),
            )
            .by(
                "the hub",
                "look at the manager's pods, and at the placement that installs the addon",
            ),
        ),
        Ok(Some(found)) => {
            let conditions = found.status.unwrap_or_default().conditions;
            report.add(judged("addon", &conditions, AVAILABLE));
            report.add(judged("addon's tunnel", &conditions, TUNNEL_REACHABLE));
        }
    }
}

/// What a condition says. One that is not there says nothing.
fn judged(name: &'static str, conditions: &[Condition], wanted: &str) -> Step {
    let Some(condition) = conditions.iter().find(|it| it.type_ == wanted) else {
        return Step::skipped(name, format!("it has no condition {wanted}"));
    };
    let said = format!("{wanted}: {}", condition.message);
    match condition.status.as_str() {
        "True" => Step::ok(name, said),
        "False" => Step::failed(name, said).by(
            "the managed cluster, or the way from it to the hub",
            "look at the agent's pods there: kubectl get pods -A -l \
             proxy.open-cluster-management.io/component-name=proxy-agent",
        ),
        _ => Step::warning(name, said),
    }
}

type Asked<T> = Result<kube::Result<Option<T>>, tokio::time::error::Elapsed>;

/// An object, or why nobody can tell: a right that is missing is no fault of the way.
fn answer<T>(asked: Asked<T>, limit: Duration) -> Result<Option<T>, String> {
    match asked {
        Err(_elapsed) => Err(format!(
            "the hub did not answer within {} s",
            limit.as_secs()
        )),
        Ok(Ok(found)) => Ok(found),
        Ok(Err(kube::Error::Api(status))) => Err(status.message.clone()),
        Ok(Err(error)) => Err(with_sources(&error)),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    #[test]
    fn an_unknown_condition_is_neither_well_nor_broken() {
        let condition = |status: &str| Condition {
            type_: AVAILABLE.to_owned(),
            status: status.to_owned(),
            message: "m".to_owned(),
            reason: "r".to_owned(),
            last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
            observed_generation: None,
        };
        for (conditions, state) in [
            (vec![condition("True")], "ok"),
            (vec![condition("False")], "failed"),
            (vec![condition("Unknown")], "warning"),
            (vec![], "skipped"),
        ] {
            let step = serde_json::to_value(judged("addon", &conditions, AVAILABLE)).expect("JSON");
            assert_eq!(step["state"], state);
        }
    }
}
