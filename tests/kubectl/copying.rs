//! Bytes in bulk: cp and port-forward.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_testkit::process::Running;

use crate::kubectl::{Way, here};
use crate::setting::{NAMESPACE, Setting, WEB, WORKER};

const LIMIT: Duration = Duration::from_secs(20);
const SIZE: usize = 10_000_000;
const CONNECTIONS: usize = 32;

/// Not to be compressed, and the same in every run.
fn noise(length: usize, mut state: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub(crate) fn copy(setting: &Setting) -> Result<()> {
    for (seed, way) in (1..).zip(setting.ways()) {
        let bytes = noise(SIZE, seed);
        let (there, back) = (setting.file("there"), setting.file("back"));
        std::fs::write(&there, &bytes)?;
        let _ = std::fs::remove_file(&back);
        let remote = format!("{NAMESPACE}/{WORKER}:/tmp/{way}");
        way.kubectl(&["cp", there.to_str().context("an odd path")?, &remote])?;
        let size = way.directly(&here(&[
            "exec",
            WORKER,
            "--",
            "wc",
            "-c",
            &format!("/tmp/{way}"),
        ]))?;
        ensure!(size.starts_with(&format!("{SIZE} ")), "{way}: {size}");
        way.kubectl(&["cp", &remote, back.to_str().context("an odd path")?])?;
        ensure!(
            std::fs::read(&back)? == bytes,
            "{way}: not the bytes that went"
        );
        way.kubectl(&here(&["exec", WORKER, "--", "rm", &format!("/tmp/{way}")]))?;
    }
    Ok(())
}

/// Each connection brings the file whole, all at once.
pub(crate) fn port_forward(setting: &Setting) -> Result<()> {
    for way in setting.ways() {
        let sum = way.directly(&here(&["exec", WEB, "--", "sha256sum", "/www/file"]))?;
        let sum = sum.split(' ').next().context("no sum")?.to_owned();
        let forward = forward(&way, ":8080")?;
        let port = forwarded_port(&forward, LIMIT)?;
        let folder = setting.file(&format!("forwarded-{way}"));
        std::fs::create_dir(&folder)?;
        let out = folder.join("#1").display().to_string();
        fetch(
            setting,
            &port,
            &format!("/file?[1-{CONNECTIONS}]"),
            &[
                "--parallel",
                "--parallel-immediate",
                "--parallel-max",
                "32",
                "-o",
                &out,
            ],
        )
        .with_context(|| way.tag())?;
        let mut files = 0;
        for entry in std::fs::read_dir(&folder)? {
            let output = std::process::Command::new("sha256sum")
                .arg(entry?.path())
                .output()?;
            let got = String::from_utf8_lossy(&output.stdout);
            ensure!(got.starts_with(&sum), "{way}: {got} and not {sum}");
            files += 1;
        }
        ensure!(files == CONNECTIONS, "{way}: {files} files");
        let handled = forward
            .lines()
            .iter()
            .filter(|line| line.contains("Handling connection"))
            .count();
        ensure!(handled == CONNECTIONS, "{way}: {handled} connections");
        // The same stream still takes more.
        let one = fetch(setting, &port, "/file", &[]).with_context(|| way.tag())?;
        ensure!(one.len() == 1_000_000, "{way}: {} bytes", one.len());
    }
    closed_port(setting)
}

/// A port that nobody listens at is the pod's refusal, said as such.
fn closed_port(setting: &Setting) -> Result<()> {
    for way in setting.ways() {
        let forward = forward(&way, ":9")?;
        let port = forwarded_port(&forward, LIMIT)?;
        ensure!(
            fetch(setting, &port, "/", &[]).is_err(),
            "{way}: an answer of nobody"
        );
        forward
            .wait_for_line("refused", LIMIT)
            .with_context(|| way.tag())?;
    }
    Ok(())
}

fn forward(way: &Way<'_>, ports: &str) -> Result<Running> {
    let arguments = here(&["port-forward", WEB, ports]);
    Running::start(format!("port-forward-{way}"), way.endless(&arguments))
}

/// Of the IPv4 line, the first.
pub(crate) fn forwarded_port(forward: &Running, limit: Duration) -> Result<String> {
    let line = forward.wait_for_line("Forwarding from 127.0.0.1:", limit)?;
    let port = line.split([':', ' ']).nth(3).context("no port")?;
    ensure!(port.parse::<u16>().is_ok(), "no port in {line:?}");
    Ok(port.to_owned())
}

/// What curl gets of a port on the loopback address of the hub's network.
pub(crate) fn fetch(setting: &Setting, port: &str, path: &str, more: &[&str]) -> Result<Vec<u8>> {
    let output = setting
        .lab
        .hub
        .command("curl")
        .args([
            "--silent",
            "--show-error",
            "--fail-with-body",
            "--max-time",
            "30",
            "--noproxy",
            "*",
        ])
        .args(more)
        .arg(format!("http://127.0.0.1:{port}{path}"))
        .output()
        .context("run curl")?;
    ensure!(
        output.status.success(),
        "{path}: {} {}",
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    Ok(output.stdout)
}
