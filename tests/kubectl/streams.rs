//! Streams that somebody speaks through: logs, exec, attach, run, debug.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_testkit::process::Running;

use crate::conversation::Conversation;
use crate::kubectl::{Transport, here, said};
use crate::setting::{LISTENER, Setting, WORKER};

const LIMIT: Duration = Duration::from_secs(20);

/// Lines come while they are written, not when the connection ends.
pub(crate) fn logs(setting: &Setting) -> Result<()> {
    let mut all = Vec::new();
    for way in setting.versions() {
        let command = way.endless(&here(&["logs", "-f", "--tail=1", WORKER]));
        all.push(Running::start(format!("logs-f-{way}"), command)?);
    }
    for logs in &all {
        let first = number(&logs.wait_for_line("line ", LIMIT)?)?;
        let begin = Instant::now();
        logs.wait_for_line(&format!("line {}", first + 6), LIMIT)?;
        let took = begin.elapsed();
        ensure!(
            took < Duration::from_secs(6),
            "{}: six lines of half a second took {took:?}",
            logs.name()
        );
        // None is lost, none comes twice.
        let numbers = logs
            .lines()
            .iter()
            .map(|line| number(line))
            .collect::<Result<Vec<_>>>()?;
        ensure!(
            numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
            "{numbers:?}"
        );
    }
    Ok(())
}

fn number(line: &str) -> Result<u64> {
    let number = line.rsplit(' ').next().context("an empty line")?;
    number.parse().with_context(|| line.to_owned())
}

pub(crate) fn exec(setting: &Setting) -> Result<()> {
    for way in setting.ways() {
        let answer = way.ask(&here(&[
            "exec",
            WORKER,
            "--",
            "sh",
            "-c",
            "echo out; echo err >&2; exit 7",
        ]))?;
        ensure!(
            answer.code == Some(7)
                && answer.stdout == "out\n"
                && answer.stderr == "err\ncommand terminated with exit code 7\n",
            "{way}: {answer:?}"
        );
        let missing = here(&["exec", WORKER, "--", "no-such-program"]);
        let answer = way.ask(&missing)?;
        ensure!(
            answer.code.is_some_and(|code| code != 0) && answer.stderr.contains("no-such-program"),
            "{way}: {answer:?}"
        );
        let answer = way.ask(&here(&["exec", "no-such-pod", "--", "true"]))?;
        ensure!(
            answer.code == Some(1) && answer.stderr.contains("pods \"no-such-pod\" not found"),
            "{way}: {answer:?}"
        );
        let input = numbers(1_000_000);
        let answer = way.with_input(&here(&["exec", "-i", WORKER, "--", "cat"]), &input)?;
        ensure!(answer.as_bytes() == input, "{way}: {} bytes", answer.len());
    }
    Ok(())
}

/// Text of at least this length that does not repeat.
fn numbers(length: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(length + 16);
    let mut number = 0_u32;
    while text.len() < length {
        text.extend_from_slice(format!("{number}\n").as_bytes());
        number += 1;
    }
    text
}

/// kubectl falls back from WebSocket to SPDY without a word; its log tells.
pub(crate) fn transports(setting: &Setting) -> Result<()> {
    for way in setting.ways() {
        let answer = way.ask(&here(&["-v=8", "exec", WORKER, "--", "true"]))?;
        ensure!(answer.code == Some(0), "{way}: {answer:?}");
        let log = answer.stderr;
        let spdy = log.contains("SPDY/3.1");
        let websocket = log.to_lowercase().contains("websocket");
        ensure!(
            match way.transport {
                Transport::WebSocket => websocket && !spdy && !log.contains("fallback"),
                Transport::Spdy => spdy && !websocket,
            },
            "{way}: WebSocket {websocket}, SPDY {spdy}: {log}"
        );
    }
    Ok(())
}

/// In a terminal of 40 by 132 that becomes one of 50 by 100 meanwhile.
pub(crate) fn terminal(setting: &Setting) -> Result<()> {
    for way in setting.ways() {
        let script = setting.file(&format!("terminal-{way}"));
        let remote = "for i in $(seq 25); do stty size; sleep 0.1; done; tty; exit 3";
        std::fs::write(
            &script,
            format!(
                "stty rows 40 cols 132 </dev/tty\n\
                 (sleep 1; stty rows 50 cols 100 </dev/tty) &\n\
                 \"$KUBECTL\" exec -it {} {WORKER} -- sh -c '{remote}'\n\
                 code=$?\nwait\nexit $code\n",
                here(&[]).join(" ")
            ),
        )?;
        let inner = format!("sh {}", script.display());
        let arguments = ["-qefc", inner.as_str(), "/dev/null"];
        let mut command = way.command_of("script".as_ref(), &arguments);
        command.env("KUBECTL", way.program());
        let answer = said(command, &arguments)?;
        let lines: Vec<_> = answer.stdout.lines().map(str::trim).collect();
        let first = lines.iter().position(|line| *line == "40 132");
        let last = lines.iter().rposition(|line| *line == "50 100");
        ensure!(
            answer.code == Some(3) && first.is_some() && first < last,
            "{way}: {answer:?}"
        );
        ensure!(
            lines.iter().any(|line| line.starts_with("/dev/pts/")),
            "{way}: {answer:?}"
        );
    }
    Ok(())
}

pub(crate) fn attach(setting: &Setting) -> Result<()> {
    for way in setting.ways() {
        let command = way.endless(&here(&["attach", "-i", LISTENER]));
        let mut conversation = Conversation::begin(command)?;
        for word in ["one", "two"] {
            let word = format!("{word}-{way}");
            conversation.say(&word)?;
            conversation
                .hear(&format!("heard {word}"), LIMIT)
                .with_context(|| way.tag())?;
        }
    }
    Ok(())
}

pub(crate) fn run(setting: &Setting) -> Result<()> {
    let image = format!("--image={}", setting.lab.tools_image());
    for way in setting.ways() {
        let name = format!("run-{way}");
        let command = way.endless(&here(&[
            "run",
            &name,
            "-i",
            "--rm",
            "--quiet",
            "--restart=Never",
            "--image-pull-policy=Never",
            &image,
            "--grace-period=1",
            "--command",
            "--",
            "sh",
            "-c",
            "while read -r word; do echo heard $word; done; echo the end",
        ]));
        let mut conversation = Conversation::begin(command)?;
        for word in ["one", "two"] {
            conversation.say(word)?;
            let heard = conversation.hear(&format!("heard {word}"), LIMIT);
            heard.with_context(|| way.tag())?;
        }
        let status = conversation.end(LIMIT).with_context(|| way.tag())?;
        ensure!(status.success(), "{way}: {status}");
        conversation
            .hear("the end", LIMIT)
            .with_context(|| way.tag())?;
        let said = way.ask_directly(&here(&["get", "pod", &name]))?;
        ensure!(said.stderr.contains("(NotFound)"), "{way}: {said:?}");
    }
    Ok(())
}

/// A container beside the worker's, in its process namespace.
pub(crate) fn debug(setting: &Setting) -> Result<()> {
    let image = format!("--image={}", setting.lab.tools_image());
    for way in setting.ways() {
        let container = format!("debug-{way}");
        let command = way.endless(&here(&[
            "debug",
            WORKER,
            "-i",
            "--quiet",
            "--image-pull-policy=Never",
            &image,
            "--target=main",
            "--profile=general",
            "-c",
            &container,
            "--",
            "sh",
            "-c",
            "while read -r word; do echo heard $word of $(tr \"\\0\" \" \" </proc/1/cmdline); done",
        ]));
        let mut conversation = Conversation::begin(command)?;
        for word in ["one", "two"] {
            conversation.say(word)?;
            let heard = conversation.hear(&format!("heard {word}"), LIMIT);
            let heard = heard.with_context(|| way.tag())?;
            ensure!(heard.contains("echo line"), "{way}: {heard}");
        }
        let status = conversation.end(LIMIT).with_context(|| way.tag())?;
        ensure!(status.success(), "{way}: {status}");
    }
    Ok(())
}
