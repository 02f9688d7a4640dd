//! What a process holds and has used, as the system sees it.

use std::fs;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

/// Resident memory in bytes.
///
/// # Errors
/// When there is no such process.
pub fn resident(pid: u32) -> Result<u64> {
    field(pid, "VmRSS:")
}

/// The most that was resident since [`forget_peak`], in bytes.
///
/// # Errors
/// When there is no such process.
pub fn peak(pid: u32) -> Result<u64> {
    field(pid, "VmHWM:")
}

/// Lets the peak begin at what is resident now.
///
/// # Errors
/// When there is no such process, or it is another user's.
pub fn forget_peak(pid: u32) -> Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("forget the peak of memory")
}

/// Open file descriptors.
///
/// # Errors
/// When there is no such process, or it is another user's.
pub fn descriptors(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// CPU time used so far, in seconds.
///
/// # Errors
/// When there is no such process.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(')').context("no /proc/pid/stat")?;
    let ticks = |index: usize| -> Result<f64> {
        let field = rest.split_whitespace().nth(index).context("too short")?;
        Ok(field.parse()?)
    };
    // utime and stime, fields 14 and 15 of proc(5), in the ticks of every Linux user space.
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

/// A suite of thousands of connections needs more than most systems give by default.
///
/// # Errors
/// When the system refuses.
pub fn raise_descriptor_limit() -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let current = maximum;
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).context("raise the descriptor limit")
}

/// Lets a running process open no more than so many.
///
/// # Errors
/// When there is no such process, or it is another user's.
pub fn limit_descriptors(pid: u32, current: u64) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("no process")?;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current: Some(current),
        maximum,
    };
    prlimit(Some(pid), Resource::Nofile, limit).context("limit descriptors")?;
    Ok(())
}

fn field(pid: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB"));
    let kibibytes: u64 = kibibytes.context("no such field")?.trim().parse()?;
    Ok(kibibytes * 1024)
}

/// Mebibytes, to be printed.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}
