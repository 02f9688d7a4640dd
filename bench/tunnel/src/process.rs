//! What a running program uses, from /proc.

use anyhow::{Context as _, Result};

/// Seconds of CPU, user and system, of this process with all its children that have ended and were waited for.
pub(crate) fn own_cpu_seconds() -> Result<f64> {
    let fields = stat_fields("/proc/self/stat")?;
    Ok(fields[11..15].iter().sum::<f64>() / TICKS_PER_SECOND)
}

/// Seconds of CPU that the whole machine has used so far, idle and waiting time aside.
pub(crate) fn machine_cpu_seconds() -> Result<f64> {
    let path = "/proc/stat";
    let text = std::fs::read_to_string(path).context(path)?;
    let line = text.lines().next().context(path)?;
    let fields: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .map(str::parse)
        .collect::<Result<_, _>>()
        .context(path)?;
    // user, nice, system, idle, iowait, irq, softirq (proc_stat(5)).
    let busy = fields.iter().take(7).sum::<f64>() - fields[3] - fields[4];
    Ok(busy / TICKS_PER_SECOND)
}

/// The numbers after a process's name, from its third field on (`proc_pid_stat(5)`).
fn stat_fields(path: &str) -> Result<Vec<f64>> {
    let stat = std::fs::read_to_string(path).context(path.to_owned())?;
    // The name, in brackets, may hold spaces.
    let (_, fields) = stat.rsplit_once(") ").context(path.to_owned())?;
    let numbers: Vec<f64> = fields
        .split_whitespace()
        // The first is the state, a letter.
        .map(|field| field.parse().unwrap_or_default())
        .collect();
    anyhow::ensure!(numbers.len() > 15, "{path}: {stat}");
    Ok(numbers)
}

/// Memory of a process in KiB.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    /// Resident, pages shared with others included.
    pub(crate) rss: f64,
    /// Resident, shared pages by the share.
    pub(crate) pss: f64,
}

impl Memory {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        let field = |name: &str| -> Result<f64> {
            let value = text
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .and_then(|rest| rest.trim().strip_suffix(" kB"))
                .with_context(|| format!("{path}: no {name}"))?;
            Ok(value.trim().parse()?)
        };
        Ok(Self {
            rss: field("Rss:")?,
            pss: field("Pss:")?,
        })
    }
}

/// The load average of the last minute.
pub(crate) fn load_average() -> Result<f64> {
    let path = "/proc/loadavg";
    let text = std::fs::read_to_string(path).context(path)?;
    Ok(text.split(' ').next().context(path)?.parse()?)
}

/// `sysconf(_SC_CLK_TCK)`, 100 on every Linux there is.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use cluster_proxy_testkit::process_usage::cpu_seconds;

    use super::*;

    #[test]
    fn this_process_is_there() {
        let pid = std::process::id();
        let memory = Memory::of(pid).unwrap();
        assert!(memory.rss > 100.0 && memory.pss > 0.0 && memory.pss <= memory.rss);
        let mut sum = 0_u64;
        while cpu_seconds(pid).unwrap() < 0.02 {
            sum = sum.wrapping_add((0..100_000_u64).sum::<u64>());
        }
        assert!(own_cpu_seconds().unwrap() >= cpu_seconds(pid).unwrap());
        assert!(machine_cpu_seconds().unwrap() > 0.02 && sum > 0);
        assert!(load_average().unwrap() >= 0.0);
    }
}
