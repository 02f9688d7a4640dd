# shellcheck shell=bash disable=SC2034 # used by the other files
# Names, addresses and small helpers that all other files use.

CLUSTERS=(hub managed)

# Fixed addresses: there is one lab on a machine. The node prefix and the pod
# ranges are not routed anywhere outside of the lab's network namespaces.
BRIDGE=labbr0
BRIDGE_IP=10.77.0.1
declare -A NODE_IP=([hub]=10.77.0.10 [managed]=10.77.0.20)
declare -A POD_CIDR=([hub]=10.244.0.0/24 [managed]=10.245.0.0/24)
declare -A SERVICE_CIDR=([hub]=10.96.0.0/16 [managed]=10.97.0.0/16)
declare -A SERVICE_FIRST_IP=([hub]=10.96.0.1 [managed]=10.97.0.1)
declare -A DNS_IP=([hub]=10.96.0.10 [managed]=10.97.0.10)

# The issuer name of both clusters' tokens is the same, their keys are not:
# whoever tells clusters apart by issuer name alone must fail here.
ISSUER=https://kubernetes.default.svc.cluster.local

CACHE=${CLUSTER_PROXY_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/cluster-proxy}
STATE=${CLUSTER_PROXY_LAB_STATE:-/var/lib/cluster-proxy-lab}
CACHE=$(realpath -m "$CACHE")
STATE=$(realpath -m "$STATE")

# What is true of the running lab only: pids, the values of changed sysctls.
# Fixed, like the addresses, so that a second lab with another STATE is noticed.
RUN=/run/cluster-proxy-lab
LOCK=/run/lock/cluster-proxy-lab.lock

say() { printf '[%3ds] %s\n' "$SECONDS" "$*" >&2; }
warn() { printf 'lab: warning: %s\n' "$*" >&2; }
die() {
    printf 'lab: %s\n' "$*" >&2
    exit 1
}
usage_error() {
    printf 'lab: %s (see lab --help)\n' "$*" >&2
    exit 64
}

need_root() {
    ((EUID == 0)) || die "\"lab $1\" needs root: it makes network namespaces, mounts and cgroups"
}

need_cluster_name() {
    [[ ${1:-} == hub || ${1:-} == managed ]] || usage_error "expected hub or managed, got \"${1:-}\""
}

# netns_of CLUSTER: the path that nsenter takes.
netns_of() { printf '/run/netns/lab-%s' "$1"; }

# in_net CLUSTER COMMAND…: run in the network of a cluster.
in_net() {
    local cluster=$1
    shift
    nsenter --net="$(netns_of "$cluster")" -- "$@"
}

# take_lock: one command that changes the lab at a time. Held until exit.
# Daemons must not inherit it: whoever starts one closes LOCK_FD for it.
take_lock() {
    mkdir -p "${LOCK%/*}"
    exec {LOCK_FD}>>"$LOCK"
    if ! flock -n "$LOCK_FD"; then
        say "waiting for another lab command to end (lock: $LOCK)"
        # It may be building Kubernetes: no telling how long that is.
        until flock -w 60 "$LOCK_FD"; do say "still waiting for another lab command"; done
    fi
}

# wait_for SECONDS WHAT COMMAND…: until the command succeeds.
wait_for() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        if ((SECONDS >= deadline)); then
            say "gave up waiting for $what"
            return 1
        fi
        sleep 0.2
    done
}

# === processes ===

# start_time PID: in clock ticks since boot; with the pid it names one process
# for ever. Nothing for a zombie.
start_time() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    # The name, in brackets, may hold blanks: read what comes after it.
    read -r -a stat <<<"${stat##*) }"
    [[ ${stat[0]} != Z ]] && printf '%s' "${stat[19]}"
}

record_pid() { printf '%s %s\n' "$2" "$(start_time "$2")" >"$1"; }

# pid_in FILE: the pid in a pid file, if that very process still runs. A file
# that outlived its process, or the machine's boot, is as good as none.
pid_in() {
    local pid start
    { read -r pid start <"$1"; } 2>/dev/null || return 1
    [[ -n $start && $(start_time "$pid") == "$start" ]] && printf '%s' "$pid"
}

# kill_all WHAT COMMAND…: end every process the command lists (one pid a
# line): TERM, up to 3 s, KILL until none is left.
kill_all() {
    local what=$1 pids=() round signal=TERM
    shift
    for ((round = 0; round < 100; round++)); do
        mapfile -t pids < <("$@")
        ((${#pids[@]})) || return 0
        ((round < 30)) || signal=KILL
        if ((round == 0 || round >= 30)); then
            kill "-$signal" "${pids[@]}" 2>/dev/null || true
        fi
        sleep 0.1
    done
    die "processes of $what do not end: ${pids[*]}"
}
