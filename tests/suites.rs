//! What the end-to-end suites share: a runner for steps that need one slow fixture.
//!
//! The standard harness runs each test in a thread of its own and never drops a shared fixture,
//! so programs that a suite started would outlive it. Here a suite is a list of named steps, run
//! in order against one fixture that is dropped at the end.

pub mod http;
pub mod objects;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

/// A named step of a suite.
pub type Step<F> = (&'static str, fn(&F) -> Result<()>);

/// Makes the fixture and runs the steps whose names contain the first argument that is no flag
/// (all without one). A fixture that cannot be made fails the suite.
#[expect(clippy::print_stdout, reason = "a test's report")]
pub fn run<F>(suite: &str, fixture: impl FnOnce() -> Result<F>, steps: &[Step<F>]) -> ExitCode {
    let filter = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    let wanted = |name: &str| {
        filter
            .as_ref()
            .is_none_or(|filter| name.contains(filter.as_str()))
    };
    let began = Instant::now();
    let fixture = match fixture() {
        Ok(fixture) => fixture,
        Err(error) => {
            println!("{suite}: cannot begin: {error:#}");
            println!("0 passed, 1 failed");
            return ExitCode::FAILURE;
        }
    };
    println!(
        "{suite}: ready after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    let (mut passed, mut failed) = (0_u32, 0_u32);
    for (name, step) in steps.iter().filter(|(name, _)| wanted(name)) {
        let began = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| step(&fixture)));
        let seconds = began.elapsed().as_secs_f64();
        match outcome {
            Ok(Ok(())) => {
                passed += 1;
                println!("{suite}: {name} ... ok ({seconds:.1} s)");
            }
            Ok(Err(error)) => {
                failed += 1;
                println!("{suite}: {name} ... FAILED ({seconds:.1} s)\n    {error:#}");
            }
            Err(panic) => {
                failed += 1;
                println!(
                    "{suite}: {name} ... FAILED ({seconds:.1} s)\n    {}",
                    words(&*panic)
                );
            }
        }
    }
    if failed > 0 {
        show_logs(fixture);
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 && passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Programs that a fixture holds print their last lines when they are dropped by a panic.
fn show_logs<F>(fixture: F) {
    drop(catch_unwind(AssertUnwindSafe(move || {
        let _dropped_while_panicking = fixture;
        panic!("a step failed; what the programs said last:");
    })));
}

fn words(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("panicked")
}

/// The `cluster-proxy` that `cargo build` left beside this test.
///
/// # Panics
/// When this test has no path of its own, which no system does.
#[must_use]
pub fn program() -> PathBuf {
    let mut folder = std::env::current_exe().expect("a running program has a path");
    while folder.pop() {
        let program = folder.join("cluster-proxy");
        if program.is_file() {
            return program;
        }
    }
    PathBuf::from("cluster-proxy")
}
