//! curl, as a user runs it, and its answer in parts.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// No answer takes longer than this.
const LIMIT_SECONDS: &str = "20";

/// What curl got.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub code: u16,
    /// From the first byte sent to the last received.
    pub took: Duration,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// When it is not JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("not JSON: {}", self.body))
    }

    /// Checks that the body is a Kubernetes `Status` of this answer's code, and gives its message.
    ///
    /// # Errors
    /// When it is not.
    pub fn status_message(&self, code: u16, reason: &str) -> Result<String> {
        ensure!(
            self.code == code,
            "{} instead of {code}: {}",
            self.code,
            self.body
        );
        let status = self.json()?;
        ensure!(
            status["kind"] == "Status" && status["apiVersion"] == "v1",
            "{status}"
        );
        ensure!(
            status["status"] == "Failure" && status["code"] == code,
            "{status}"
        );
        ensure!(status["reason"] == reason, "{status}");
        Ok(status["message"].as_str().context("no message")?.to_owned())
    }
}

/// Runs `curl`, a prepared command (in some cluster's network, say), with `arguments`.
///
/// # Errors
/// When curl itself fails: no connection, no TLS, no answer in time.
pub fn curl(mut curl: Command, arguments: &[&str]) -> Result<Answer> {
    let output = curl
        .args(["--silent", "--show-error", "--max-time", LIMIT_SECONDS])
        .args(["--write-out", "\n%{http_code} %{time_total}"])
        .args(arguments)
        .output()
        .context("curl cannot be run")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "curl {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let (body, last) = text.rsplit_once('\n').context("curl said nothing")?;
    let (code, took) = last.split_once(' ').context("curl said no code")?;
    Ok(Answer {
        code: code.parse()?,
        took: Duration::from_secs_f64(took.parse()?),
        body: body.to_owned(),
    })
}
