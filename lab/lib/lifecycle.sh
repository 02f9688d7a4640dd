# shellcheck shell=bash
# up, down, reset, status: both clusters together.

# sysctls of the whole machine: ours (two kubelets need many inotify
# instances), and those that the kubelet sets unasked.
CHANGED_SYSCTLS=(fs.inotify.max_user_instances vm.overcommit_memory kernel.panic kernel.panic_on_oops)
INOTIFY_INSTANCES=4096

# up [LEVEL…]: the bare clusters, and on top of them what is asked for.
up() {
    local level
    for level in "$@"; do need_level_name "$level"; done
    need_root up
    refuse_inside up
    take_lock
    give_way_or_clear
    up_bare
    for level in "$@"; do level "$level"; done
}

up_bare() {
    if lab_is_recorded && lab_healthy; then
        say "the lab is up"
        warn_if_changed
        return
    fi
    install_deps
    check || die "this machine cannot run the lab, see above"
    build
    make_images
    forget_after_reboot
    mkdir -p "$STATE" "$RUN"
    : >"$STATE/.cluster-proxy-lab"
    boot_id | tee "$STATE/running-since-boot" >"$RUN/boot-id"
    printf '%s\n' "$STATE" >"$RUN/state-dir"
    lab_hash >"$RUN/lab-hash"
    prepare_machine
    start_unhealthy
    say "the lab is up"
}

# start_unhealthy: a cluster that works is left alone; any other is stopped,
# as far as it runs, and started on its kept state. Both at once.
start_unhealthy() {
    local cluster pids=() failed=0
    for cluster in "${CLUSTERS[@]}"; do
        cluster_healthy_soon "$cluster" && continue
        stop_cluster "$cluster"
    done
    network_up
    for cluster in "${CLUSTERS[@]}"; do
        daemons_alive "$cluster" && continue
        say "$cluster: starting"
        start_cluster "$cluster" &
        pids+=("$!")
    done
    # They are deaf to Ctrl-C, as all background jobs of a script.
    trap 'kill "${pids[@]}" 2>/dev/null; die "interrupted; \"lab down\" stops what was started"' INT TERM
    local pid
    for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
    trap - INT TERM
    ((failed == 0)) || die "the lab did not start; logs are in $STATE/{hub,managed}/log. \"lab reset\" and \"lab up\" start from nothing"
}

lab_healthy() {
    local cluster
    for cluster in "${CLUSTERS[@]}"; do
        netns_is_complete "$cluster" && cluster_healthy_soon "$cluster" || return 1
    done
}

# On a busy machine a probe may be late: while all daemons are alive, ask
# for some seconds before a cluster that others use is started anew.
cluster_healthy_soon() {
    local round
    for ((round = 0; round < 5; round++)); do
        daemons_alive "$1" || return 1
        cluster_healthy "$1" && return
        sleep 1
    done
    return 1
}

down() {
    need_root down
    refuse_inside down
    take_lock
    give_way_or_clear
    stop
    # A clean end: the state may be used after the next boot as well.
    rm -f "$STATE/running-since-boot"
    say "the lab is down"
}

# stop: ends both clusters and undoes what was made of the machine, as far as
# there is anything of it.
stop() {
    local cluster pids=() failed=0 pid
    for cluster in "${CLUSTERS[@]}"; do
        stop_cluster "$cluster" &
        pids+=("$!")
    done
    for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
    ((failed == 0)) || die "the lab did not stop"
    network_down
    restore_machine
    rm -rf "$RUN"
}

reset() {
    down
    # Not the images and the builds: they are in the cache, and not state.
    remove_state
    say "the lab's state is deleted"
}

remove_state() {
    [[ -e $STATE ]] || return 0
    [[ -e $STATE/.cluster-proxy-lab ]] || die "$STATE does not look like the lab's: not deleting it"
    rm -rf "$STATE"
}

# forget_after_reboot: etcd runs without fsync, so what a machine left behind
# that went down under the lab cannot be trusted.
forget_after_reboot() {
    [[ -e $STATE/running-since-boot ]] || return 0
    [[ $(<"$STATE/running-since-boot") == "$(boot_id)" ]] && return
    say "the machine restarted while the lab was up: starting from nothing"
    remove_state
}

boot_id() { cat /proc/sys/kernel/random/boot_id; }

# === the machine ===

# prepare_machine: notes what it changes, once, for restore_machine.
prepare_machine() {
    local name dir
    if [[ ! -e $RUN/sysctls ]]; then
        for name in "${CHANGED_SYSCTLS[@]}"; do
            printf '%s=%s\n' "$name" "$(sysctl -n "$name")"
        done >"$RUN/sysctls.new"
        mv "$RUN/sysctls.new" "$RUN/sysctls"
    fi
    (($(sysctl -n fs.inotify.max_user_instances) >= INOTIFY_INSTANCES)) ||
        sysctl -qw "fs.inotify.max_user_instances=$INOTIFY_INSTANCES"
    for dir in "${MOUNT_POINTS[@]}"; do
        [[ -d $dir ]] && continue
        mkdir -p "$dir"
        printf '%s\n' "$dir" >>"$RUN/made-dirs"
    done
}

restore_machine() {
    local line dir
    if [[ -e $RUN/sysctls ]]; then
        while read -r line; do
            sysctl -qw "$line" || warn "cannot set back $line"
        done <"$RUN/sysctls"
    fi
    if [[ -e $RUN/made-dirs ]]; then
        while read -r dir; do
            rmdir "$dir" 2>/dev/null || true
        done <"$RUN/made-dirs"
    fi
}

# === which lab runs ===

# Where /run outlives a reboot, what is written there counts for nothing.
lab_is_recorded() {
    [[ -e $RUN/state-dir && $(cat "$RUN/boot-id" 2>/dev/null) == "$(boot_id)" ]]
}

# give_way_or_clear: the lab of another state folder is somebody's while a
# process of it lives; what a killed one left is nobody's.
give_way_or_clear() {
    lab_is_recorded || return 0
    local running cluster
    running=$(<"$RUN/state-dir")
    [[ $running == "$STATE" ]] && return
    for cluster in "${CLUSTERS[@]}"; do
        [[ -z $(cgroup_pids "$cluster") ]] ||
            die "a lab with its state in $running is up, and there is one lab on a machine: \"CLUSTER_PROXY_LAB_STATE=$running lab down\" ends it"
    done
    say "clearing what a killed lab with its state in $running left"
    stop
}

# What a running lab was made by. Another checkout may have another lab; it is
# not for "up" to end what somebody may be using.
lab_hash() {
    cat "$LAB_DIR"/lib/{cluster,config,holder,network,pki}.sh "$LAB_DIR"/manifests/* | sha256sum | cut -c1-12
    kubelab_dir
    images_dir
}

warn_if_changed() {
    [[ $(<"$RUN/lab-hash") == "$(lab_hash)" ]] ||
        warn "the running lab was started by another version of these files; \"lab down\" and \"lab up\" to renew it"
}

# === looking ===

status() {
    local cluster name pid level failed=0
    printf '%-8s %-24s %-8s %-10s %8s\n' CLUSTER WHAT PID STATE MIB
    for cluster in "${CLUSTERS[@]}"; do
        for name in "${DAEMONS[@]}"; do
            if pid=$(pid_in "$RUN/$cluster/$name.pid"); then
                printf '%-8s %-24s %-8s %-10s %8s\n' "$cluster" "$name" "$pid" running "$(memory_of "$pid")"
            else
                printf '%-8s %-24s %-8s %-10s %8s\n' "$cluster" "$name" - stopped -
                failed=1
            fi
        done
        # Without a lab its addresses lead out of the machine: do not ask there.
        netns_is_complete "$cluster" || continue
        status_line "$cluster" "apiserver ${NODE_IP[$cluster]}:6443" api_ready "$cluster" || failed=1
        status_line "$cluster" "node $cluster" node_ready "$cluster" \
            "$(date -u -d '-60 seconds' +%Y-%m-%dT%H:%M:%S)" || failed=1
        status_line "$cluster" "DNS ${DNS_IP[$cluster]}" dns_ready "$cluster" || failed=1
    done
    if ! lab_is_recorded || ! netns_is_complete hub; then return 1; fi
    for level in "${LEVELS[@]}"; do
        level_asked_for "$level" || continue
        status_line hub "$level" level_ready "$level" || failed=1
    done
    return "$failed"
}

# status_line CLUSTER WHAT COMMAND…
status_line() {
    local cluster=$1 what=$2 result=ready
    shift 2
    "$@" >/dev/null 2>&1 || result="not ready"
    printf '%-8s %-24s %-8s %-10s %8s\n' "$cluster" "$what" - "$result" -
    [[ $result == ready ]]
}

memory_of() { awk '$1 == "VmRSS:" { printf "%d", $2 / 1024 }' "/proc/$1/status"; }

# environment [--json]: where things are, for a shell (eval "$(lab env)") or a
# program.
environment() {
    local -A values=(
        [LAB_HUB_KUBECONFIG]=$(kubeconfig_of hub) [LAB_MANAGED_KUBECONFIG]=$(kubeconfig_of managed)
        [LAB_HUB_IP]=${NODE_IP[hub]} [LAB_MANAGED_IP]=${NODE_IP[managed]}
        [LAB_HUB_NETNS]=$(netns_of hub) [LAB_MANAGED_NETNS]=$(netns_of managed)
        [LAB_HELM]=$(helm_program) [LAB_KONNECTIVITY]=$(konnectivity_dir) [LAB_KUBECTL]=$(kubelab_dir)/kubectl
        [LAB_KUBECTL_OLD]=$(kubectl_program old) [LAB_KUBECTL_NEW]=$(kubectl_program new) [LAB_TOOLS_IMAGE]=$TOOLS_IMAGE
        [LAB_SERVICES]=$(services_program) [LAB_STATE]=$STATE
    )
    local name names=()
    mapfile -t names < <(printf '%s\n' "${!values[@]}" | sort)
    if [[ ${1:-} == --json ]]; then
        for name in "${names[@]}"; do
            jq -nc --arg name "$name" --arg value "${values[$name]}" '{($name): $value}'
        done | jq -s add
        return
    fi
    for name in "${names[@]}"; do
        printf 'export %s=%q\n' "$name" "${values[$name]}"
    done
    # shellcheck disable=SC2016 # PATH is for the reader's shell
    printf 'export PATH=%q:"$PATH"\n' "$(kubelab_dir)"
}
