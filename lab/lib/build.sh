# shellcheck shell=bash
# The Go builds: kubelab (Kubernetes, etcd and kubectl in one program) and
# CoreDNS. Results lie in the cache under a name made of the hash of all they
# depend on, so a changed go.mod builds anew and branches do not fight.

KUBERNETES_VERSION=v1.35.4
COREDNS_VERSION=v1.14.0
KUBELAB_PROGRAMS=(etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl)

# The version that every component and kubectl report; without these they say
# v0.0.0-master.
kubelab_ldflags() {
    local server=k8s.io/component-base/version client=k8s.io/client-go/pkg/version package
    printf '%s' "-s -w"
    for package in $server $client; do
        printf ' -X %s' "$package.gitVersion=$KUBERNETES_VERSION" "$package.gitMajor=1" \
            "$package.gitMinor=35" "$package.gitTreeState=clean"
    done
}

# build_key MODULE: names the result of a build.
build_key() {
    {
        cat "$LAB_DIR/go/$1"/{go.mod,go.sum,main.go}
        [[ $1 == kubelab ]] && kubelab_ldflags
    } | sha256sum | cut -c1-12
}

kubelab_dir() { printf '%s/kubelab-%s-%s' "$CACHE" "$KUBERNETES_VERSION" "$(build_key kubelab)"; }
coredns_dir() { printf '%s/coredns-%s-%s' "$CACHE" "$COREDNS_VERSION" "$(build_key coredns)"; }

built() { [[ -d $(kubelab_dir) && -d $(coredns_dir) ]]; }

build() {
    local stale
    for stale in "$CACHE"/*.new.*; do
        kill -0 "${stale##*.}" 2>/dev/null || rm -rf "$stale"
    done
    built && return
    need_go
    mkdir -p "$CACHE"
    go_build "1 of 2" kubelab "$(kubelab_dir)" "$(kubelab_ldflags)" "7 min on 2 idle cores"
    go_build "2 of 2" coredns "$(coredns_dir)" "-s -w" "2 min on 2 idle cores"
}

need_go() {
    command -v go >/dev/null || die "no go here: Go 1.25 or newer builds Kubernetes and CoreDNS (https://go.dev/dl)"
    local version minor
    version=$(go env GOVERSION)
    minor=${version#go1.}
    minor=${minor%%[!0-9]*}
    ((minor >= 25)) || die "Go 1.25 or newer wanted, $(command -v go) is $version"
}

# go_build STEP MODULE DIR LDFLAGS TIME: builds beside DIR, moves into place.
go_build() {
    local step=$1 module=$2 dir=$3 ldflags=$4 time=$5 pid last=$SECONDS
    [[ -d $dir ]] && return
    local new=$dir.new.$$
    mkdir -p "$new"
    say "build $step: $module (cold: $time)"
    (
        cd "$LAB_DIR/go/$module" || exit
        # The machine is the developer's: stay behind whatever else it does.
        GOWORK=off GOFLAGS='' CGO_ENABLED=0 exec nice -n 5 \
            go build -mod=readonly -trimpath -buildvcs=false -ldflags="$ldflags" -o "$new/$module" .
    ) >"$new/log" 2>&1 &
    pid=$!
    # Bash starts it deaf to Ctrl-C; the trap makes up for it.
    # shellcheck disable=SC2064 # the values of now are meant
    trap "kill $pid 2>/dev/null || true; rm -rf '$new'" EXIT
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.5
        if ((SECONDS - last >= 20)); then
            last=$SECONDS
            say "build $step: $module … $(grep -c downloading "$new/log" || true) modules fetched, compiling"
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
    # Fails when somebody else was quicker, which is as good.
    mv -T "$new" "$dir" 2>/dev/null || rm -rf "$new"
    say "build $step: $module done"
}
