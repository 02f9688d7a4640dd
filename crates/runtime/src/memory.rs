//! How much memory this process may use, for limits that are shares of it.

use std::fs;
use std::path::Path;

/// Bytes: what the container is limited to, else what the machine has. `None` when the system says
/// neither.
#[must_use]
pub fn limit() -> Option<u64> {
    let container = [CGROUP_V2, CGROUP_V1].iter().find_map(|path| read(path));
    let machine = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|meminfo| total(&meminfo));
    match (container, machine) {
        (Some(container), Some(machine)) => Some(container.min(machine)),
        (container, machine) => container.or(machine),
    }
}

/// In a container its own limit is at the root; `max` where there is none.
const CGROUP_V2: &str = "/sys/fs/cgroup/memory.max";

/// Nearly 2^63 where there is none.
const CGROUP_V1: &str = "/sys/fs/cgroup/memory/memory.limit_in_bytes";

fn read(path: &str) -> Option<u64> {
    fs::read_to_string(Path::new(path))
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// MemTotal of /proc/meminfo, which is in KiB.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read() {
        let meminfo = "MemTotal:       24683932 kB\nMemFree:        18163000 kB\n";
        assert_eq!(total(meminfo), Some(24_683_932 * 1024));
        assert_eq!(total("MemFree: 1 kB\n"), None);
        assert_eq!(total("MemTotal: much\n"), None);
    }

    #[test]
    fn this_machine_says_how_much_it_has() {
        assert!(limit().is_some_and(|bytes| bytes > 64 * 1024 * 1024));
    }
}
