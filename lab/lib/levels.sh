# shellcheck shell=bash
# What can be put on top of the bare clusters, each by a name that "up" takes:
# OCM (lib/ocm.sh), cert-manager (lib/cert-manager.sh), and the hub joined to
# itself (lib/local-cluster.sh). A level stays until "reset": its state is the
# clusters' own.

LEVELS=(ocm cert-manager local-cluster)

need_level_name() {
    local level
    for level in "${LEVELS[@]}"; do [[ ${1:-} == "$level" ]] && return; done
    usage_error "there is no \"${1:-}\" to bring up, only: ${LEVELS[*]}"
}

# level LEVEL: brings it up, does nothing when it is. The clusters are up.
level() {
    if level_asked_for "$1" && [[ $(<"$(level_mark "$1")") == "$(level_images "$1")" ]] && level_ready "$1"; then
        say "$1 is up"
        return
    fi
    forget_killed_builds
    build_helm
    level_images "$1" >"$(level_mark "$1")"
    "${1//-/_}_up"
    say "$1 is up"
}

# The mark goes with the state, and the level with it.
level_mark() { printf '%s/level-%s' "$STATE" "$1"; }
level_asked_for() { [[ -e $(level_mark "$1") ]]; }
level_ready() { "${1//-/_}_ready"; }

# level_module LEVEL: what it is built from.
level_module() {
    if [[ $1 == local-cluster ]]; then printf ocm; else printf '%s' "$1"; fi
}

# level_images LEVEL: the folder of its tars (and chart), named by all that
# goes into them.
level_images() {
    printf '%s/images-%s-%s' "$CACHE" "$1" "$({
        cat "$LAB_DIR/lib/image.sh" "$LAB_DIR/lib/$1.sh"
        build_key "$(level_module "$1")"
    } | sha256sum | cut -c1-12)"
}

# make_level_images LEVEL: <level>_images FOLDER fills the folder.
make_level_images() {
    local dir new
    dir=$(level_images "$1")
    [[ -d $dir ]] && return
    say "making images: $1"
    new=$dir.new.$$
    rm -rf "$new"
    mkdir -p "$new"
    "${1//-/_}_images" "$new"
    mv -T "$new" "$dir" 2>/dev/null || rm -rf "$new"
}

# === helm ===

helm_program() { printf '%s/helm' "$(build_dir helm)"; }

# helm_install CLUSTER NAMESPACE RELEASE CHART [ARGUMENT…]
helm_install() {
    local cluster=$1 namespace=$2 release=$3 chart=$4
    shift 4
    # A killed run leaves a release that helm takes for one in progress.
    kubectl_of "$cluster" delete secret --namespace "$namespace" --ignore-not-found \
        --selector "owner=helm,name=$release,status in (pending-install,pending-upgrade,pending-rollback)" >/dev/null
    helm_of "$cluster" upgrade "$release" "$chart" --install --namespace "$namespace" --create-namespace "$@" >/dev/null ||
        die "$cluster: helm cannot install $release"
}

# With folders of its own: the caller's plugins and repositories are not the lab's.
helm_of() {
    local cluster=$1
    shift
    NO_PROXY='*' KUBECONFIG=$(kubeconfig_of "$cluster") \
        HELM_CACHE_HOME=$RUN/helm HELM_CONFIG_HOME=$RUN/helm HELM_DATA_HOME=$RUN/helm \
        "$(helm_program)" "$@"
}

# === looking ===

# condition_is CLUSTER PATH TYPE STATUS: of an object.
condition_is() {
    api "$1" "$2" | jq -e --arg type "$3" --arg status "$4" \
        'any(.status.conditions[]?; .type == $type and .status == $status)' >/dev/null
}

# deployments_available CLUSTER NAMESPACE NUMBER: there are that many, and all.
deployments_available() {
    api "$1" "/apis/apps/v1/namespaces/$2/deployments" | jq -e --argjson number "$3" '
        [.items[] | select(.status.observedGeneration == .metadata.generation
            and (.status.readyReplicas // 0) == .spec.replicas and (.status.updatedReplicas // 0) == .spec.replicas)]
        | length == $number' >/dev/null
}

# alive_since: the moment after which somebody who is alive must have said so,
# who does so every minute (or a quarter later) and at its start. What was said
# before the clusters' last start is a former run's.
alive_since() {
    local started now
    printf -v now '%(%s)T'
    started=$(stat -c %Y "$RUN/lab-hash")
    date -u -d "@$((started > now - 90 ? started : now - 90))" +%Y-%m-%dT%H:%M:%S
}
