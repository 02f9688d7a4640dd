//! The figures of a run: printed as they come, and written to a dated file where one is wanted.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};

use crate::scale;

/// Figures in the order in which they were noted.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Mutex<Vec<(String, String)>>,
}

impl Report {
    /// Notes one figure, and prints it.
    #[expect(clippy::print_stdout, reason = "the suite's report")]
    pub(crate) fn note(&self, what: impl Into<String>, figure: impl Into<String>) {
        let (what, figure) = (what.into(), figure.into());
        println!("    {what}: {figure}");
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.push((what, figure));
    }

    /// Writes the figures where `CLUSTER_PROXY_REPORT` says.
    pub(crate) fn finish(&self) -> Result<()> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(!rows.is_empty(), "nothing was measured");
        let form = if scale::is_long() { "long" } else { "CI" };
        let build = if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        };
        let cores = std::thread::available_parallelism()?;
        let mut text = format!(
            "\nThe {form} form, a {build} build, {cores} cores.\n\n| what | figure |\n|---|---|\n"
        );
        for (what, figure) in rows.iter() {
            writeln!(text, "| {what} | {figure} |")?;
        }
        if let Some(path) = std::env::var_os("CLUSTER_PROXY_REPORT") {
            let head = "# The hostile suite's figures\n";
            std::fs::write(&path, format!("{head}{text}"))
                .with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }
}
