# shellcheck shell=bash
# cert-manager on the hub, from the chart of its Go module.

CERT_MANAGER_NAMESPACE=cert-manager
CERT_MANAGER_PROGRAMS=(controller webhook cainjector)
CERT_MANAGER_USER=1000

cert_manager_images() {
    local dir=$1 root=$1/root program source chart=$1/chart
    mkdir -p "$root/tmp"
    chmod 1777 "$root/tmp"
    cp "$(build_dir cert-manager)/cert-manager" "$root/cert-manager"
    for program in "${CERT_MANAGER_PROGRAMS[@]}"; do
        ln -s cert-manager "$root/$program"
    done
    for program in "${CERT_MANAGER_PROGRAMS[@]}"; do
        image --name "quay.io/jetstack/cert-manager-$program:$CERT_MANAGER_VERSION" --rootfs "$root" \
            --out "$dir/$program.tar" --entrypoint "[\"/$program\"]" --user "$CERT_MANAGER_USER"
    done
    rm -rf "$root"

    # The module has the chart's sources: a release adds the version and the CRDs.
    source=$(build_dir cert-manager)/deploy
    cp -r "$source/charts/cert-manager" "$chart"
    sed -e "s/^\(version\|appVersion\): .*/\1: $CERT_MANAGER_VERSION/" -e '/^annotations:/,$d' \
        "$chart/Chart.template.yaml" >"$chart/Chart.yaml"
    cp "$source"/crds/crd-*.yaml "$chart/templates/"
}

# The webhook is asked through the apiserver, so its certificate is in place as
# well. Nothing is created.
cert_manager_ready() {
    deployments_available hub "$CERT_MANAGER_NAMESPACE" "${#CERT_MANAGER_PROGRAMS[@]}" &&
        kubectl_of hub create --dry-run=server -f - >/dev/null 2>&1 <<'END'
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {name: lab-probe, namespace: default}
spec: {selfSigned: {}}
END
}

# startupapicheck waits for the same as cert_manager_ready, with a program that
# is not built here.
cert_manager_up() {
    build_cert_manager
    make_level_images cert-manager
    import_images hub "$(level_images cert-manager)"
    helm_install hub "$CERT_MANAGER_NAMESPACE" cert-manager "$(level_images cert-manager)/chart" \
        --set startupapicheck.enabled=false
    wait_for 180 "cert-manager" cert_manager_ready ||
        die "cert-manager does not come up: kubectl get pods -n $CERT_MANAGER_NAMESPACE on hub"
}
