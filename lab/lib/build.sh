# shellcheck shell=bash
# The Go builds: kubelab (Kubernetes, etcd and kubectl in one program) and
# CoreDNS for every lab; OCM, cert-manager, helm, the konnectivity programs,
# kubectl of two more versions and the suites' own program for those who ask
# for them.
# Results lie in the cache under a name made of the hash of all they depend on,
# so a changed go.mod builds anew and branches do not fight.

COREDNS_VERSION=v1.14.0
CERT_MANAGER_VERSION=v1.11.5
KONNECTIVITY_VERSION=v0.36.0
KUBERNETES_VERSION=v1.35.4
HELM_VERSION=v3.22.0
# Older and newer than the clusters.
KUBECTL_OLD_VERSION=v1.32.3
KUBECTL_NEW_VERSION=v1.37.2
OCM_VERSION=v1.0.0
# Of client-go, which it uses.
SERVICES_VERSION=v0.37.2
declare -A MODULE_VERSION=(
    [cert-manager]=$CERT_MANAGER_VERSION
    [coredns]=$COREDNS_VERSION
    [helm]=$HELM_VERSION
    [konnectivity]=$KONNECTIVITY_VERSION
    [kubectl-new]=$KUBECTL_NEW_VERSION
    [kubectl-old]=$KUBECTL_OLD_VERSION
    [kubelab]=$KUBERNETES_VERSION
    [ocm]=$OCM_VERSION
    [services]=$SERVICES_VERSION
)

KUBELAB_PROGRAMS=(etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl)

# kubernetes_ldflags VERSION: the version that every component and kubectl
# report; without these they say v0.0.0-master.
kubernetes_ldflags() {
    local server=k8s.io/component-base/version client=k8s.io/client-go/pkg/version package minor=${1#v1.}
    printf '%s' "-s -w"
    for package in $server $client; do
        printf ' -X %s' "$package.gitVersion=$1" "$package.gitMajor=1" \
            "$package.gitMinor=${minor%%.*}" "$package.gitTreeState=clean"
    done
}

module_ldflags() {
    case $1 in
    kubelab | kubectl-*) kubernetes_ldflags "${MODULE_VERSION[$1]}" ;;
    helm) printf '%s' "-s -w -X helm.sh/helm/v3/internal/version.version=$HELM_VERSION" ;;
    ocm) printf '%s' "-s -w -X open-cluster-management.io/ocm/pkg/version.versionFromGit=$OCM_VERSION" ;;
    cert-manager) printf '%s' "-s -w -X github.com/cert-manager/cert-manager/pkg/util.AppVersion=$CERT_MANAGER_VERSION" ;;
    *) printf '%s' "-s -w" ;;
    esac
}

# build_key MODULE: names the result of a build.
build_key() {
    local dir=$LAB_DIR/go/$1
    {
        cat "$dir"/{go.mod,go.sum}
        [[ ! -e $dir/main.go ]] || cat "$dir"/*.go
        # CoreDNS has none of its own.
        [[ $1 == coredns ]] || module_ldflags "$1"
    } | sha256sum | cut -c1-12
}

build_dir() { printf '%s/%s-%s-%s' "$CACHE" "$1" "${MODULE_VERSION[$1]}" "$(build_key "$1")"; }

kubelab_dir() { build_dir kubelab; }
coredns_dir() { build_dir coredns; }

built() { [[ -d $(kubelab_dir) && -d $(coredns_dir) ]]; }

build() {
    forget_killed_builds
    go_build kubelab "7 min on 2 idle cores"
    go_build coredns "2 min on 2 idle cores"
}

# The longest first, for whoever stops it half way.
build_levels() {
    build_ocm
    build_helm
    build_cert_manager
    build_konnectivity
    build_kubectl
    build_services
}

build_ocm() { go_build ocm "5 min on 2 idle cores"; }
build_helm() { go_build helm "3 min on 2 idle cores"; }
build_cert_manager() { go_build cert-manager "4 min on 2 idle cores"; }
build_konnectivity() { go_build konnectivity "2 min on 2 idle cores"; }

build_kubectl() {
    go_build kubectl-old "3 min on 2 idle cores"
    go_build kubectl-new "3 min on 2 idle cores"
}

# kubectl_program old|new
kubectl_program() { printf '%s/kubectl-%s' "$(build_dir "kubectl-$1")" "$1"; }

build_services() { go_build services "2 min on 2 idle cores"; }
services_program() { printf '%s/services' "$(build_dir services)"; }

konnectivity_dir() { build_dir konnectivity; }

forget_killed_builds() {
    local stale
    for stale in "$CACHE"/*.new.*; do
        kill -0 "${stale##*.}" 2>/dev/null || rm -rf "$stale"
    done
}

# need_go MODULE: as new as its go.mod says.
need_go() {
    command -v go >/dev/null || die "no go here: Go 1.26 or newer builds Kubernetes and all else (https://go.dev/dl)"
    local version minor wanted
    wanted=$(awk '$1 == "go" { split($2, part, "."); print part[2] }' "$LAB_DIR/go/$1/go.mod")
    version=$(go env GOVERSION)
    minor=${version#go1.}
    minor=${minor%%[!0-9]*}
    ((minor >= wanted)) || die "Go 1.$wanted or newer wanted for $1, $(command -v go) is $version"
}

# What is built of a module, and what of its files is kept beside the program:
# its charts, at an address that outlives the Go module cache.
module_packages() {
    case $1 in
    helm) echo helm.sh/helm/v3/cmd/helm ;;
    konnectivity) echo . sigs.k8s.io/apiserver-network-proxy/cmd/{server,agent} ;;
    *) echo . ;;
    esac
}
module_source() {
    case $1 in
    ocm) echo open-cluster-management.io/ocm ;;
    cert-manager) echo github.com/cert-manager/cert-manager ;;
    esac
}

# go_build MODULE TIME: builds beside its folder, moves into place.
go_build() {
    local module=$1 time=$2 dir new output pid last=$SECONDS source packages
    dir=$(build_dir "$module")
    [[ -d $dir ]] && return
    need_go "$module"
    new=$dir.new.$$
    mkdir -p "$new"
    read -ra packages <<<"$(module_packages "$module")"
    # Several are named by their folders.
    output=$new/$module
    ((${#packages[@]} == 1)) || output=$new/
    say "build: $module ${MODULE_VERSION[$module]} (cold: $time)"
    (
        cd "$LAB_DIR/go/$module" || exit
        # The machine is the developer's: stay behind whatever else it does.
        GOWORK=off GOFLAGS='' CGO_ENABLED=0 exec nice -n 5 go build -mod=readonly -trimpath -buildvcs=false \
            -ldflags="$(module_ldflags "$module")" -o "$output" "${packages[@]}"
    ) >"$new/log" 2>&1 &
    pid=$!
    # Bash starts it deaf to Ctrl-C; the trap makes up for it.
    # shellcheck disable=SC2064 # the values of now are meant
    trap "kill $pid 2>/dev/null || true; rm -rf '$new'" EXIT
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.5
        if ((SECONDS - last >= 20)); then
            last=$SECONDS
            say "build: $module … $(grep -c downloading "$new/log" || true) modules fetched, compiling"
        fi
    done
    if ! wait "$pid"; then
        tail -20 "$new/log" >&2
        die "building $module failed"
    fi
    trap - EXIT
    if [[ $module == kubelab ]]; then
        local program
        for program in "${KUBELAB_PROGRAMS[@]}"; do ln -s kubelab "$new/$program"; done
    fi
    if [[ $module == konnectivity ]]; then
        mv "$new/konnectivity" "$new/konnectivity-client"
        mv "$new/server" "$new/proxy-server"
        mv "$new/agent" "$new/proxy-agent"
    fi
    source=$(module_source "$module")
    if [[ -n $source ]]; then
        cp -r "$(cd "$LAB_DIR/go/$module" && GOWORK=off GOFLAGS='' go list -m -f '{{.Dir}}' "$source")/deploy" "$new/deploy"
        chmod -R u+w "$new/deploy"
    fi
    # Fails when somebody else was quicker, which is as good.
    mv -T "$new" "$dir" 2>/dev/null || rm -rf "$new"
    say "build: $module done"
}
