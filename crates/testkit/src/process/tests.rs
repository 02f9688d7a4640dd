use std::os::unix::process::ExitStatusExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

const SOON: Duration = Duration::from_secs(10);

fn shell(script: &str) -> Running {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    Running::start("shell", command).unwrap()
}

#[test]
fn finds_lines_of_both_outputs_in_order() {
    let running = shell("echo one; echo two >&2; echo three; exec sleep 60");
    assert_eq!(running.wait_for_line("thr", SOON).unwrap(), "three");
    assert_eq!(running.wait_for_line("one", SOON).unwrap(), "one");
    assert_eq!(running.lines(), ["one", "two", "three"]);
    assert_eq!(
        std::fs::read_to_string(running.log_path()).unwrap(),
        "one\ntwo\nthree\n"
    );
}

#[test]
fn a_program_that_ends_is_not_waited_for_until_the_deadline() {
    let mut running = shell("echo no such flag >&2; exit 64");
    let begin = Instant::now();
    let error = running
        .wait_for_line("ready", Duration::from_secs(60))
        .unwrap_err()
        .to_string();
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    assert!(
        error.contains("it ended") && error.contains("no such flag"),
        "{error}"
    );
    assert_eq!(running.wait(SOON).unwrap().code(), Some(64));
}

#[test]
fn a_line_that_does_not_come_is_an_error() {
    let running = shell("echo other; exec sleep 60");
    let error = running
        .wait_for_line("ready", Duration::from_millis(300))
        .unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("the deadline passed") && error.contains("other"),
        "{error}"
    );
}

#[test]
fn terminate_lets_a_program_end_by_itself() {
    let mut running =
        shell("trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.02; done");
    running.wait_for_line("ready", SOON).unwrap();
    assert_eq!(running.terminate().unwrap().code(), Some(3));
    assert_eq!(running.find_line("bye").as_deref(), Some("bye"));
    // Once more is no error, and signals nobody.
    assert_eq!(running.terminate().unwrap().code(), Some(3));
}

#[test]
fn terminate_kills_what_does_not_listen() {
    let mut running = shell("trap '' TERM; echo ready; while :; do sleep 0.02; done");
    running.wait_for_line("ready", SOON).unwrap();
    let status = running
        .terminate_within(Duration::from_millis(200))
        .unwrap();
    assert_eq!(status.signal(), Some(9));
}

#[test]
fn drop_kills_and_removes_the_log() {
    let running = shell("exec sleep 60");
    let (process, log) = (
        format!("/proc/{}", running.id()),
        running.log_path().to_owned(),
    );
    drop(running);
    assert!(!Path::new(&process).exists());
    assert!(!log.exists());
}

#[test]
fn a_failing_test_keeps_the_log() {
    let mut kept = None;
    let result = catch_unwind(AssertUnwindSafe(|| {
        let running = shell("echo why it failed; exec sleep 60");
        running.wait_for_line("why", SOON).unwrap();
        kept = Some(running.log_path().to_owned());
        panic!("as a failing test does (this message is expected)");
    }));
    assert!(result.is_err());
    let kept = kept.unwrap();
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "why it failed\n");
    std::fs::remove_file(kept).unwrap();
}

#[test]
fn a_program_that_does_not_exist_is_named() {
    let error = Running::start("ghost", Command::new("/no/such/program")).unwrap_err();
    assert!(
        format!("{error:#}").contains("start ghost (/no/such/program): No such file"),
        "{error:#}"
    );
}

#[test]
fn only_the_last_lines_are_kept_in_memory() {
    let mut running = shell("seq 1 10001");
    running.wait(SOON).unwrap();
    running.wait_for_line("10001", SOON).unwrap();
    let lines = running.lines();
    assert_eq!(
        (lines.len(), lines.first().map(String::as_str)),
        (LINES_KEPT, Some("2"))
    );
}
