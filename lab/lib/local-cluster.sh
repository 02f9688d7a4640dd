# shellcheck shell=bash
# The hub as its own managed cluster, "local-cluster", as installations have it
# that manage the hub as well.

local_cluster_ready() { ocm_joined local-cluster; }

local_cluster_up() {
    level ocm
    klusterlet_install hub local-cluster
    ocm_join hub local-cluster
    kubectl_of hub label --overwrite managedcluster local-cluster local-cluster=true >/dev/null ||
        die "local-cluster: cannot label the ManagedCluster"
}
