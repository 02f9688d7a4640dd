//! CPU seconds and memory of running programs, from /proc.

use anyhow::{Context as _, Result};

/// Seconds of CPU, user and system, that a process has used so far.
pub(crate) fn seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    // The name, in brackets, may hold spaces; fields count from 3 after it (proc(5)).
    let (_, fields) = stat.rsplit_once(") ").with_context(|| path.clone())?;
    let field = |number: usize| -> Result<f64> {
        let text = fields
            .split(' ')
            .nth(number - 3)
            .with_context(|| path.clone())?;
        Ok(text.parse::<f64>()?)
    };
    Ok((field(14)? + field(15)?) / TICKS_PER_SECOND)
}

/// Resident memory of a process, in KiB.
pub(crate) fn resident_kib(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let text = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(text.with_context(|| path.clone())?.trim().parse()?)
}

/// `sysconf(_SC_CLK_TCK)`, 100 on every Linux there is.
const TICKS_PER_SECOND: f64 = 100.0;
