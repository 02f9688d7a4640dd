# shellcheck shell=bash
# Keys, certificates and kubeconfigs of a cluster: made once, kept with its state.
# Each cluster has its own CAs and its own service account key.

pki_dir() { printf '%s/%s/pki' "$STATE" "$1"; }
kubeconfig_of() { printf '%s/%s/%s.kubeconfig' "$STATE" "$1" "${2:-admin}"; }

make_pki() {
    local cluster=$1 dir
    dir=$(pki_dir "$cluster")
    [[ -d $dir ]] && return
    # Into place in one step: a killed run leaves no half of it.
    rm -rf "$dir.new"
    mkdir -p "$dir.new"
    chmod 700 "$dir.new"
    (
        cd "$dir.new" || exit
        trap '[[ $? == 0 ]] || cat openssl.log >&2' EXIT
        write_openssl_config
        make_ca ca "lab-$cluster-ca"
        make_ca front-proxy-ca "lab-$cluster-front-proxy-ca"
        local names=DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc
        names+=,DNS:kubernetes.default.svc.cluster.local,DNS:localhost,IP:127.0.0.1
        names+=",IP:${NODE_IP[$cluster]},IP:${SERVICE_FIRST_IP[$cluster]}"
        make_cert apiserver ca /CN=kube-apiserver serverAuth "$names"
        make_cert kubelet-serving ca "/CN=$cluster" serverAuth "DNS:$cluster,IP:${NODE_IP[$cluster]}"
        make_cert apiserver-kubelet-client ca /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
        make_cert front-proxy-client front-proxy-ca /CN=front-proxy-client clientAuth
        make_cert admin ca /O=system:masters/CN=lab-admin clientAuth
        make_cert controller-manager ca /CN=system:kube-controller-manager clientAuth
        make_cert scheduler ca /CN=system:kube-scheduler clientAuth
        make_cert kubelet ca "/O=system:nodes/CN=system:node:$cluster" clientAuth
        make_cert kube-proxy ca /CN=system:kube-proxy clientAuth
        openssl genrsa -out sa.key 2048 2>>openssl.log
        openssl rsa -in sa.key -pubout -out sa.pub 2>>openssl.log
        rm -f openssl.cnf openssl.log
    )
    mv -T "$dir.new" "$dir"
}

write_openssl_config() {
    cat >openssl.cnf <<'END'
[req]
distinguished_name = dn
[dn]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, digitalSignature, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
END
}

# make_ca NAME CN
make_ca() {
    openssl req -x509 -config openssl.cnf -extensions ca -days 3650 -subj "/CN=$2" \
        -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.crt" 2>>openssl.log
}

# make_cert NAME CA SUBJECT USAGE [SUBJECT-ALT-NAMES]
make_cert() {
    local name=$1 ca=$2 subject=$3 usage=$4 names=${5:-} extensions=()
    extensions=(-addext "extendedKeyUsage=$usage")
    [[ -n $names ]] && extensions+=(-addext "subjectAltName=$names")
    openssl req -x509 -config openssl.cnf -extensions leaf -days 3650 -subj "$subject" \
        -CA "$ca.crt" -CAkey "$ca.key" "${extensions[@]}" \
        -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$name.key" -out "$name.crt" 2>>openssl.log
}

# make_kubeconfigs CLUSTER: with the certificates in them, so that a copy works
# anywhere.
make_kubeconfigs() {
    local cluster=$1 who
    for who in admin controller-manager scheduler kubelet kube-proxy; do
        write_kubeconfig "$cluster" "$who" >"$(kubeconfig_of "$cluster" "$who").new"
        chmod 600 "$(kubeconfig_of "$cluster" "$who").new"
        mv "$(kubeconfig_of "$cluster" "$who").new" "$(kubeconfig_of "$cluster" "$who")"
    done
}

write_kubeconfig() {
    local cluster=$1 who=$2 pki
    pki=$(pki_dir "$cluster")
    cat <<END
apiVersion: v1
kind: Config
clusters:
  - name: $cluster
    cluster:
      server: https://${NODE_IP[$cluster]}:6443
      certificate-authority-data: $(base64 -w0 "$pki/ca.crt")
users:
  - name: $who
    user:
      client-certificate-data: $(base64 -w0 "$pki/$who.crt")
      client-key-data: $(base64 -w0 "$pki/$who.key")
contexts:
  - name: $cluster
    context: {cluster: $cluster, user: $who}
current-context: $cluster
END
}
