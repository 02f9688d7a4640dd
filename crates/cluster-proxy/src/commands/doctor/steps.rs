//! What was tried and what came of it, for people and for programs.

use std::io::Write as _;

use cluster_proxy_identity::ClusterName;
use serde::Serialize;
use serde_json::json;

/// One thing that must work.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Step {
    name: &'static str,
    state: State,
    detail: String,
    /// Whose fault it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none", rename = "whatToDo")]
    what_to_do: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warning,
    Failed,
    Skipped,
}

impl Step {
    pub(super) fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, State::Ok, detail)
    }

    /// It works, and will not for ever.
    pub(super) fn warning(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, State::Warning, detail)
    }

    pub(super) fn failed(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, State::Failed, detail)
    }

    /// It was not tried; `detail` says why.
    pub(super) fn skipped(name: &'static str, detail: impl Into<String>) -> Self {
        Self::new(name, State::Skipped, detail)
    }

    /// Whose fault it is, and what to do.
    pub(super) fn by(self, fault: &'static str, what_to_do: impl Into<String>) -> Self {
        Self {
            fault: Some(fault),
            what_to_do: Some(what_to_do.into()),
            ..self
        }
    }

    fn new(name: &'static str, state: State, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self {
            name,
            state,
            // What comes from elsewhere must not draw on the terminal.
            detail: detail
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect(),
            fault: None,
            what_to_do: None,
        }
    }
}

/// All steps so far; printed as they come, unless a program reads them.
#[derive(Debug)]
pub(super) struct Report {
    steps: Vec<Step>,
    printed: bool,
    terminal: bool,
}

impl Report {
    pub(super) fn new(printed: bool, terminal: bool) -> Self {
        Self {
            steps: Vec::new(),
            printed,
            terminal,
        }
    }

    /// Shows on a terminal what is waited for.
    pub(super) fn doing(&self, name: &str) {
        if self.printed && self.terminal {
            let mut out = std::io::stdout();
            drop(write!(out, "\r{name:NAME_WIDTH$}  …"));
            drop(out.flush());
        }
    }

    pub(super) fn add(&mut self, step: Step) {
        if self.printed {
            let clear = if self.terminal { "\r\x1b[K" } else { "" };
            let text = format!("{clear}{}", line(&step, self.terminal));
            drop(std::io::stdout().write_all(text.as_bytes()));
        }
        self.steps.push(step);
    }

    /// Whether nothing failed, and something was tried.
    pub(super) fn is_well(&self) -> bool {
        let failed = |step: &Step| step.state == State::Failed;
        let tried = |step: &Step| step.state == State::Ok;
        !self.steps.iter().any(failed) && self.steps.iter().any(tried)
    }

    pub(super) fn summary(&self) -> String {
        let count = |state| self.steps.iter().filter(|step| step.state == state).count();
        let failed = self.steps.iter().find(|step| step.state == State::Failed);
        let counts = format!(
            "{} ok, {} warnings, {} failed, {} skipped",
            count(State::Ok),
            count(State::Warning),
            count(State::Failed),
            count(State::Skipped)
        );
        match failed {
            None => format!("\n{counts}\n"),
            Some(first) => format!("\n{counts}: it breaks at \"{}\"\n", first.name),
        }
    }

    pub(super) fn to_json(&self, cluster: &ClusterName) -> String {
        let report = json!({
            "cluster": cluster.as_str(), "well": self.is_well(), "steps": self.steps,
        });
        format!("{report:#}\n")
    }
}

fn line(step: &Step, colour: bool) -> String {
    let (word, code) = match step.state {
        State::Ok => ("ok", 32),
        State::Warning => ("WARNING", 33),
        State::Failed => ("FAILED", 31),
        State::Skipped => ("skipped", 2),
    };
    let word = format!("{word:STATE_WIDTH$}");
    let word = if colour {
        format!("\x1b[{code}m{word}\x1b[0m")
    } else {
        word
    };
    let mut text = format!("{:NAME_WIDTH$}  {word}  {}\n", step.name, step.detail);
    let indent = " ".repeat(NAME_WIDTH + STATE_WIDTH + 4);
    if let Some(fault) = step.fault {
        text.push_str(&format!("{indent}fault: {fault}\n"));
    }
    if let Some(what) = &step.what_to_do {
        text.push_str(&format!("{indent}do:    {what}\n"));
    }
    text
}

/// The longest name of a step.
const NAME_WIDTH: usize = 20;

/// The longest word for what came of it.
const STATE_WIDTH: usize = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_tried_is_not_well_and_a_warning_is() {
        let mut report = Report::new(false, false);
        report.add(Step::skipped("dns", "why"));
        assert!(!report.is_well());
        report.add(Step::ok("tcp", ""));
        report.add(Step::warning("tls", "soon"));
        assert!(report.is_well());
        report.add(Step::failed("agent", "gone").by("the managed cluster", "look"));
        assert!(!report.is_well());
        assert!(
            report
                .summary()
                .ends_with("1 ok, 1 warnings, 1 failed, 1 skipped: it breaks at \"agent\"\n")
        );
        let cluster = "one".parse().expect("a name");
        let json: serde_json::Value =
            serde_json::from_str(&report.to_json(&cluster)).expect("JSON");
        assert_eq!(json["well"], false);
        assert_eq!(json["steps"][3]["fault"], "the managed cluster");
        assert_eq!(json["steps"][3]["whatToDo"], "look");
    }

    #[test]
    fn what_others_say_does_not_draw_on_the_terminal() {
        let step = Step::failed("agent", "a\x1b[2Jb\r\nc");
        assert!(
            !step.detail.contains(|c: char| c.is_control()),
            "{:?}",
            step.detail
        );
    }
}
