# shellcheck shell=bash
# Two network namespaces on one bridge, and the fence between them.
#
#   labbr0 (the machine's own namespace) 10.77.0.1
#     ├─ lab-hub      eth0 10.77.0.10
#     └─ lab-managed  eth0 10.77.0.20   new connections from the hub: dropped
#
# The machine may dial both (the operator's kubectl works on both clusters);
# the hub's node and pods may not open a connection to the managed cluster.

network_up() {
    if ! ip link show "$BRIDGE" >/dev/null 2>&1; then
        ip link add "$BRIDGE" type bridge
    fi
    ip addr replace "$BRIDGE_IP/24" dev "$BRIDGE"
    ip link set "$BRIDGE" up
    local cluster
    for cluster in "${CLUSTERS[@]}"; do
        netns_is_complete "$cluster" && continue
        netns_remove "$cluster"
        netns_make "$cluster"
    done
}

# netns_is_complete CLUSTER: usable as it is. False also for the plain file
# that a reboot leaves where /run is kept.
netns_is_complete() {
    local cluster=$1
    in_net "$cluster" ip -4 -br addr show dev eth0 2>/dev/null | grep -qw "${NODE_IP[$cluster]}/24" &&
        in_net "$cluster" ip route show default | grep -qw "$BRIDGE_IP" &&
        ip link show "labv-$cluster" 2>/dev/null | grep -qw "master $BRIDGE" &&
        { [[ $cluster != managed ]] || in_net managed nft list table inet lab-fence >/dev/null 2>&1; }
}

netns_make() {
    local cluster=$1
    ip netns add "lab-$cluster"
    ip link add "labv-$cluster" type veth peer name eth0 netns "lab-$cluster"
    in_net "$cluster" sysctl -qw net.ipv4.ip_forward=1
    in_net "$cluster" ip link set lo up
    in_net "$cluster" ip addr add "${NODE_IP[$cluster]}/24" dev eth0
    # Before the link is up: there is no moment without a fence.
    [[ $cluster == managed ]] && fence
    ip link set "labv-$cluster" master "$BRIDGE" up
    in_net "$cluster" ip link set eth0 up
    # It leads nowhere, since the machine does not forward. It must exist all
    # the same: without a route the node's own packets to a Service address
    # fail before kube-proxy's rules see them.
    in_net "$cluster" ip route add default via "$BRIDGE_IP"
}

# After conntrack (-200), before the NAT of Services (-100): answers to what
# the managed side opened pass, everything that the hub opens is dropped
# without a word, as a firewall in front of a real edge site does. IPv6 link
# addresses would be a way around it.
fence() {
    in_net managed nft -f - <<END
table inet lab-fence {
    chain from-hub {
        type filter hook prerouting priority -150; policy accept;
        iifname "eth0" meta nfproto ipv6 drop
        iifname "eth0" ip saddr { ${NODE_IP[hub]}, ${POD_CIDR[hub]} } ct state new,invalid,untracked counter drop
    }
}
END
}

network_down() {
    local cluster
    for cluster in "${CLUSTERS[@]}"; do
        netns_remove "$cluster"
    done
    ip link del "$BRIDGE" 2>/dev/null || true
    # "ip netns" mounts this folder on itself and never undoes it; it goes
    # unless somebody else has a namespace in it.
    if [[ -d /run/netns && -z $(ls -A /run/netns) ]]; then
        umount /run/netns 2>/dev/null || true
        rmdir /run/netns 2>/dev/null || true
    fi
}

netns_remove() {
    local cluster=$1
    # Programs of "lab run" would keep the namespace alive without a name.
    kill_all "lab run $cluster" netns_pids "$cluster"
    ip link del "labv-$cluster" 2>/dev/null || true
    ip netns del "lab-$cluster" 2>/dev/null || true
    rm -f "$(netns_of "$cluster")"
}

netns_pids() { ip netns pids "lab-$1" 2>/dev/null || true; }

# refuse_inside: a shell of "lab run" would end itself half way through.
refuse_inside() {
    local cluster
    for cluster in "${CLUSTERS[@]}"; do
        [[ /proc/self/ns/net -ef $(netns_of "$cluster") ]] &&
            die "this shell is inside of the lab's network ($cluster): run \"lab $1\" from outside"
    done
    return 0
}

# check_network: the fence holds, and only the fence: the same addresses
# answer the machine itself, and the hub answers the managed cluster.
check_network() {
    local failed=0
    expect_dial open "the machine" managed 6443 || failed=1
    expect_dial open "the machine" managed 10250 || failed=1
    expect_dial open managed hub 6443 || failed=1
    expect_dial dropped hub managed 6443 || failed=1
    expect_dial dropped hub managed 10250 || failed=1
    return "$failed"
}

# expect_dial open|dropped FROM TO PORT
expect_dial() {
    local expected=$1 from=$2 to=$3 port=$4 result=open code=0
    local dial=(curl --silent --noproxy '*' --output /dev/null --insecure --connect-timeout 2 "https://${NODE_IP[$to]}:$port/")
    if [[ $from == "the machine" ]]; then
        "${dial[@]}" || code=$?
    else
        in_net "$from" "${dial[@]}" || code=$?
    fi
    case $code in
    0) ;;
    28) result=dropped ;;
    *) result="curl exit code $code" ;;
    esac
    if [[ $result == "$expected" ]]; then
        printf 'ok      %s → %s %s:%s %s\n' "$from" "$to" "${NODE_IP[$to]}" "$port" "$result"
    else
        printf 'FAILED  %s → %s %s:%s is %s, expected %s\n' "$from" "$to" "${NODE_IP[$to]}" "$port" "$result" "$expected"
        return 1
    fi
}
