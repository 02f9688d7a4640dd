//! A large download, and what it costs in memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cluster_proxy_testkit::process_usage::resident;

use crate::setting::{Setting, output_of, service_path};

const BYTES: u64 = 1 << 30;

/// How much either program may grow meanwhile: windows of the connections on both sides of it.
const GROWTH_LIMIT: u64 = 16 << 20;

/// Between two looks at the memory.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

#[expect(clippy::print_stdout, reason = "figures for who reads the report")]
pub(crate) fn gigabyte(setting: &Setting) -> Result<()> {
    let path = |what: &str| service_path("http:site:web", &format!("/{what}/{BYTES}"));
    let digest = setting.get(&path("digest"))?;
    ensure!(digest.code == 200 && digest.body.len() == 64, "{digest:?}");

    let installation = &setting.installation;
    let roles = [&installation.user_server, &installation.service_proxy];
    let before = roles.map(|role| resident(role.id()));
    let over = AtomicBool::new(false);
    let begun = Instant::now();
    let (most, received) = std::thread::scope(|scope| {
        let watched = scope.spawn(|| {
            let mut most = [0, 0];
            while !over.load(Ordering::Relaxed) {
                for (most, role) in most.iter_mut().zip(&roles) {
                    *most = (*most).max(resident(role.id()).unwrap_or(u64::MAX));
                }
                std::thread::sleep(LOOK_INTERVAL);
            }
            most
        });
        let received = download(setting, &setting.url(&path("bytes")));
        over.store(true, Ordering::Relaxed);
        (watched.join(), received)
    });
    let took = begun.elapsed().as_secs_f64();
    let received = received?;
    let most = most.map_err(|_| anyhow::anyhow!("nobody looked at the memory"))?;
    ensure!(
        received.trim_end().trim_end_matches([' ', '-']) == digest.body,
        "{received} instead of {}",
        digest.body
    );
    for ((role, before), most) in roles.iter().zip(before).zip(most) {
        let before = before?;
        let after = resident(role.id())?;
        println!(
            "    {}: {before} bytes before, {most} at most, {after} after {took:.1} s",
            role.name()
        );
        ensure!(
            most <= before + GROWTH_LIMIT,
            "{} grew from {before} to {most} bytes",
            role.name()
        );
    }
    Ok(())
}

/// What `sha256sum` says of what curl got; a download that breaks off fails.
fn download(setting: &Setting, url: &str) -> Result<String> {
    let mut command = setting.program("bash", 90);
    command
        .args([
            "-c",
            "set -o pipefail; curl -sS --fail --cacert \"$1\" -H @\"$2\" \"$3\" | sha256sum",
            "-",
        ])
        .arg(setting.installation.ca())
        .arg(header_file(setting)?)
        .arg(url);
    output_of(command)
}

fn header_file(setting: &Setting) -> Result<std::path::PathBuf> {
    let path = setting.file("header");
    std::fs::write(&path, format!("Authorization: Bearer {}\n", setting.token))?;
    Ok(path)
}
