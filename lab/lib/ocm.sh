# shellcheck shell=bash
# Open Cluster Management on both clusters, from its own two charts as they
# are: the hub's cluster-manager on hub, and managed joined to it as "managed".

OCM_NAMESPACE=open-cluster-management
OCM_PROGRAMS=(registration-operator registration placement work addon)
OCM_REGISTRY=quay.io/open-cluster-management
OCM_USER=10001

# One image under the five names that the charts and the operators give out.
ocm_images() {
    local dir=$1 root=$1/root program names=()
    mkdir -p "$root/tmp"
    chmod 1777 "$root/tmp"
    cp "$(build_dir ocm)/ocm" "$root/ocm"
    for program in "${OCM_PROGRAMS[@]}"; do
        ln -s ocm "$root/$program"
        if [[ $program == addon ]]; then program=addon-manager; fi
        names+=(--name "$OCM_REGISTRY/$program:$OCM_VERSION")
    done
    image "${names[@]}" --rootfs "$root" --out "$dir/ocm.tar" --user "$OCM_USER"
    rm -rf "$root"
}

ocm_ready() { ocm_joined managed; }

# managed_cluster NAME: its path at the hub.
managed_cluster() { printf '/apis/cluster.open-cluster-management.io/v1/managedclusters/%s' "$1"; }

# ocm_joined NAME: available by the word of an agent that is alive, not of a
# former run's.
ocm_joined() {
    condition_is hub "$(managed_cluster "$1")" ManagedClusterConditionAvailable True &&
        api hub "/apis/coordination.k8s.io/v1/namespaces/$1/leases/managed-cluster-lease" |
        jq -e --arg since "$(alive_since)" '.spec.renewTime >= $since' >/dev/null
}

ocm_up() {
    local cluster pids=() pid charts
    build_ocm
    make_level_images ocm
    for cluster in "${CLUSTERS[@]}"; do
        import_images "$cluster" "$(level_images ocm)" &
        pids+=("$!")
    done
    for pid in "${pids[@]}"; do wait "$pid" || exit 1; done

    charts=$(build_dir ocm)/deploy
    helm_install hub "$OCM_NAMESPACE" cluster-manager "$charts/cluster-manager/chart/cluster-manager" \
        --set "images.tag=$OCM_VERSION,replicaCount=1,createBootstrapSA=true"
    klusterlet_install managed managed
    say "ocm: both charts installed"
    wait_for 180 "ocm: the hub's controllers" deployments_available hub open-cluster-management-hub 5 ||
        die "ocm: the hub does not come up: kubectl get pods -n open-cluster-management-hub"
    say "ocm: the hub's controllers run"
    ocm_join managed managed
}

# klusterlet_install CLUSTER NAME: the agent that asks the hub to let CLUSTER
# join under that name.
klusterlet_install() {
    local kubeconfig charts
    charts=$(build_dir ocm)/deploy
    kubeconfig=$(bootstrap_kubeconfig) || die "ocm: no bootstrap token from the hub"
    adopt_namespace "$1" open-cluster-management-agent klusterlet
    helm_install "$1" "$OCM_NAMESPACE" klusterlet "$charts/klusterlet/chart/klusterlet" \
        --set "images.tag=$OCM_VERSION,replicaCount=1,klusterlet.clusterName=$2,klusterlet.mode=Singleton" \
        --set-file bootstrapHubKubeConfig=<(printf '%s\n' "$kubeconfig")
}

# ocm_join CLUSTER NAME: lets it in, and waits until it is.
ocm_join() {
    wait_for 180 "ocm: $2 to be joined and available" ocm_accept_and_see "$2" ||
        die "ocm: $2 did not join: kubectl get managedclusters,csr on hub, pods in open-cluster-management-agent on $1"
}

# adopt_namespace CLUSTER NAMESPACE RELEASE: where somebody has made it already,
# the release takes it over.
adopt_namespace() {
    kubectl_of "$1" get namespace "$2" >/dev/null 2>&1 || return 0
    kubectl_of "$1" label --overwrite namespace "$2" app.kubernetes.io/managed-by=Helm >/dev/null
    kubectl_of "$1" annotate --overwrite namespace "$2" \
        "meta.helm.sh/release-name=$3" "meta.helm.sh/release-namespace=$OCM_NAMESPACE" >/dev/null
}

# What "clusteradm join" gives to a managed cluster: how to ask the hub for a
# certificate.
bootstrap_kubeconfig() {
    local token
    token=$(kubectl_of hub create token agent-registration-bootstrap --namespace "$OCM_NAMESPACE" --duration 24h) || exit
    cat <<END
apiVersion: v1
kind: Config
clusters:
  - name: hub
    cluster:
      server: https://${NODE_IP[hub]}:6443
      certificate-authority-data: $(base64 -w0 "$(pki_dir hub)/ca.crt")
users: [{name: bootstrap, user: {token: $token}}]
contexts: [{name: bootstrap, context: {cluster: hub, user: bootstrap}}]
current-context: bootstrap
END
}

# What "clusteradm accept NAME" does: approve the certificate, let the cluster in.
ocm_accept_and_see() {
    local cluster pending
    if cluster=$(api hub "$(managed_cluster "$1")") && jq -e '.spec.hubAcceptsClient | not' <<<"$cluster" >/dev/null; then
        kubectl_of hub patch managedcluster "$1" --type merge --patch '{"spec":{"hubAcceptsClient":true}}' >/dev/null || return 1
    fi
    mapfile -t pending < <(
        api hub "/apis/certificates.k8s.io/v1/certificatesigningrequests?labelSelector=open-cluster-management.io/cluster-name=$1" |
            jq -r '.items[] | select(.status == {}) | .metadata.name'
    )
    if ((${#pending[@]})); then
        kubectl_of hub certificate approve "${pending[@]}" >/dev/null || return 1
    fi
    ocm_joined "$1"
}
