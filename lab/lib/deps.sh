# shellcheck shell=bash
# What the machine must have: Debian packages, kernel features, room.

# What is looked for (a program or a file) and the package that brings it.
DEPENDENCIES=(
    containerd:containerd
    ctr:containerd
    runc:runc
    /usr/lib/cni/bridge:containernetworking-plugins
    iptables:iptables
    nft:nftables
    conntrack:conntrack
    socat:socat
    ip:iproute2
    /bin/busybox:busybox-static
    openssl:openssl
    jq:jq
    curl:curl
    gcc:gcc
    /usr/include/stdio.h:libc6-dev
)

missing_packages() {
    local entry wanted
    for entry in "${DEPENDENCIES[@]}"; do
        wanted=${entry%%:*}
        if [[ $wanted == /* ]]; then
            [[ -e $wanted ]] && continue
        else
            command -v "$wanted" >/dev/null && continue
        fi
        printf '%s\n' "${entry#*:}"
    done | sort -u
}

install_deps() {
    local packages=()
    mapfile -t packages < <(missing_packages)
    ((${#packages[@]})) || return 0
    ((EUID == 0)) || die "missing packages: ${packages[*]}; run as root, or: apt-get install ${packages[*]}"
    command -v apt-get >/dev/null || die "missing packages: ${packages[*]}, and no apt-get here to install them"
    say "apt-get install ${packages[*]}"
    local log
    log=$(mktemp)
    if ! { apt-get update && DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends "${packages[@]}"; } >"$log" 2>&1; then
        tail -20 "$log" >&2
        die "apt-get install ${packages[*]} failed (log: $log)"
    fi
    rm -f "$log"
    mapfile -t packages < <(missing_packages)
    ((${#packages[@]} == 0)) || die "still missing after apt-get install: ${packages[*]}"
}

# check: says everything that is missing, not only the first thing.
check() {
    local problems=() problem
    mapfile -t problems < <(
        check_root
        check_kernel
        check_cgroups
        check_room
    )
    ((${#problems[@]})) || return 0
    for problem in "${problems[@]}"; do
        printf 'lab: missing: %s\n' "$problem" >&2
    done
    return 1
}

check_root() {
    ((EUID == 0)) || echo "root (network namespaces, mounts, cgroups)"
}

KERNEL_OPTIONS=(
    NAMESPACES NET_NS UTS_NS CGROUPS CGROUP_DEVICE CPUSETS MEMCG OVERLAY_FS
    VETH BRIDGE NF_TABLES NFT_NAT NFT_MASQ NFT_CT NF_CONNTRACK NETFILTER_XT_MATCH_COMMENT
)

check_kernel() {
    local config option
    if [[ -r /proc/config.gz ]]; then
        config=$(zcat /proc/config.gz)
    elif [[ -r /boot/config-$(uname -r) ]]; then
        config=$(<"/boot/config-$(uname -r)")
    else
        return 0 # Nothing to read; a feature that lacks will show at the start.
    fi
    for option in "${KERNEL_OPTIONS[@]}"; do
        grep -q "^CONFIG_$option=[ym]" <<<"$config" || echo "kernel feature CONFIG_$option (kernel $(uname -r))"
    done
}

check_cgroups() {
    local controller
    for controller in cpu cpuset memory pids; do
        if [[ $(cgroup_version) == 2 ]]; then
            grep -qw "$controller" "$CGROUP_ROOT/cgroup.controllers" || echo "cgroup v2 controller $controller"
        else
            [[ -d $CGROUP_ROOT/$controller ]] || echo "cgroup v1 hierarchy $CGROUP_ROOT/$controller"
        fi
    done
}

# Room is asked for before a first build and start only: a lab that runs has
# it, and has taken what it needs.
check_room() {
    lab_is_recorded && return
    local need=15 dir available
    built && need=5
    for dir in "$CACHE" "$STATE"; do
        dir=$(existing_parent "$dir")
        available=$(($(df --output=avail -k "$dir" | tail -1) / 1024 / 1024))
        ((available >= need)) || echo "disk: $need GB free wanted at $dir, it has $available"
    done
    available=$(($(awk '$1 == "MemAvailable:" { print $2 }' /proc/meminfo) / 1024))
    ((available >= 4096)) || echo "memory: 4096 MiB available wanted, the machine has $available"
}

existing_parent() {
    local dir=$1
    until [[ -d $dir ]]; do dir=$(dirname "$dir"); done
    printf '%s' "$dir"
}
