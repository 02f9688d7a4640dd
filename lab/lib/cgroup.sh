# shellcheck shell=bash
# One cgroup per cluster, /lab-<cluster>, in every hierarchy.
#
# It does two things. The kubelet keeps its pods in it: two kubelets on one
# tree would delete each other's pods as orphans. And everything that belongs
# to a cluster is started inside of it, so that stopping needs no list of pids
# and finds what a killed run left behind.
#
# Version 1 (also hybrid) is what this was proven on; version 2 is written
# from the kernel's documentation and has not been tried.

CGROUP_ROOT=/sys/fs/cgroup

cgroup_version() {
    if [[ $(stat -fc %T "$CGROUP_ROOT") == cgroup2fs ]]; then echo 2; else echo 1; fi
}

# The hierarchies that a cluster's cgroup is made in, one a line.
cgroup_hierarchies() {
    if [[ $(cgroup_version) == 2 ]]; then
        echo "$CGROUP_ROOT"
        return
    fi
    local name
    for name in systemd pids cpu cpuacct cpuset memory devices freezer blkio net_cls net_prio hugetlb perf_event unified; do
        # Symbolic links (cpu -> cpu,cpuacct) lead to a hierarchy seen anyway.
        [[ -d $CGROUP_ROOT/$name ]] && readlink -f "$CGROUP_ROOT/$name"
    done | sort -u
}

cgroup_make() {
    local cluster=$1 hierarchy group file
    for hierarchy in $(cgroup_hierarchies); do
        group=$hierarchy/lab-$cluster
        mkdir -p "$group"
        if [[ -e $group/cgroup.subtree_control ]]; then
            enable_controllers "$hierarchy"
            enable_controllers "$group"
        fi
        # An empty cpuset takes no process: copy the parent's.
        for file in cpuset.cpus cpuset.mems; do
            if [[ -e $group/$file && -z $(<"$group/$file") && -e $hierarchy/$file ]]; then
                cat "$hierarchy/$file" >"$group/$file"
            fi
        done
        # All pods of a cluster together compete as one group with every other
        # single process of the machine: let them weigh as much as a few.
        [[ -e $group/cpu.shares ]] && echo 4096 >"$group/cpu.shares"
        # In version 2 a group with children holds no processes itself.
        mkdir -p "$group/system"
    done
}

enable_controllers() {
    local controller
    for controller in $(<"$1/cgroup.controllers"); do
        echo "+$controller" >"$1/cgroup.subtree_control" 2>/dev/null || true
    done
}

# Where a cluster's daemons are put. One hierarchy is enough to find them; in
# the others they stay where they are, so that no controller holds them back.
cgroup_of_daemons() {
    local cluster=$1 hierarchy
    for hierarchy in "$CGROUP_ROOT/systemd" "$CGROUP_ROOT/pids" "$CGROUP_ROOT"; do
        if [[ -d $hierarchy/lab-$cluster/system ]]; then
            printf '%s' "$hierarchy/lab-$cluster/system"
            return
        fi
    done
    die "no cgroup for $cluster under $CGROUP_ROOT"
}

cgroup_dirs() {
    local hierarchy
    for hierarchy in $(cgroup_hierarchies); do
        [[ -d $hierarchy/lab-$1 ]] && printf '%s\n' "$hierarchy/lab-$1"
    done
    return 0
}

# All processes of a cluster, its pods' included.
cgroup_pids() {
    local dir
    for dir in $(cgroup_dirs "$1"); do
        find "$dir" -name cgroup.procs -exec cat {} + 2>/dev/null || true
    done | sort -un
}

cgroup_remove() {
    local dir
    for dir in $(cgroup_dirs "$1"); do
        # The kernel lets go of a group a moment after its last process.
        wait_for 5 "$dir to be empty" remove_tree "$dir" || die "cannot remove $dir"
    done
}

remove_tree() {
    [[ -d $1 ]] || return 0
    find "$1" -depth -type d -exec rmdir {} + 2>/dev/null || true
    [[ ! -d $1 ]]
}
