//! kubectl of some version, over some transport, as the hub user or directly.

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::setting::{NAMESPACE, Setting};

/// No command takes longer; what waits says so itself before.
const LIMIT_SECONDS: &str = "60";

/// What `timeout` says of a command that did.
const TIMED_OUT: i32 = 124;

/// The names of the two versions.
pub(crate) const OLD: &str = "old";
pub(crate) const NEW: &str = "new";

pub(crate) struct Client {
    name: &'static str,
    program: PathBuf,
}

impl Client {
    pub(crate) fn from_environment(name: &'static str, variable: &str) -> Result<Self> {
        let program = std::env::var_os(variable).map(PathBuf::from);
        let program = program.with_context(|| format!("{variable} is not set (lab/lab env)"))?;
        ensure!(
            program.is_file(),
            "{} is not built: lab/lab build kubectl",
            program.display()
        );
        Ok(Self { name, program })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    WebSocket,
    Spdy,
}

/// How a command reaches the managed cluster.
#[derive(Clone, Copy)]
pub(crate) struct Way<'a> {
    pub(crate) setting: &'a Setting,
    pub(crate) client: &'a Client,
    pub(crate) transport: Transport,
}

impl fmt::Display for Way<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.tag())
    }
}

/// What a command said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Way<'_> {
    /// Part of the names of what this way makes.
    pub(crate) fn tag(&self) -> String {
        let transport = match self.transport {
            Transport::WebSocket => "websocket",
            Transport::Spdy => "spdy",
        };
        format!("{}-{transport}", self.client.name)
    }

    /// kubectl in the suite's namespace as the hub user, in the hub's network, without a limit.
    pub(crate) fn endless(&self, arguments: &[&str]) -> Command {
        let mut command = self.setting.lab.hub.command(&self.client.program);
        self.finish(&mut command, &self.setting.kubeconfig, arguments);
        command
    }

    /// The same, ended after a minute.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(&self.client.program, arguments)
    }

    /// Another program in place of kubectl, with the same environment.
    pub(crate) fn command_of(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = self.setting.lab.hub.command("timeout");
        command
            .args(["--foreground", "--kill-after=2", LIMIT_SECONDS])
            .arg(program);
        self.finish(&mut command, &self.setting.kubeconfig, arguments);
        command
    }

    /// The managed cluster's administrator, past cluster-proxy.
    fn direct_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command
            .args(["--foreground", "--kill-after=2", LIMIT_SECONDS])
            .arg(&self.client.program);
        self.finish(
            &mut command,
            self.setting.lab.managed.kubeconfig(),
            arguments,
        );
        command
    }

    fn finish(&self, command: &mut Command, kubeconfig: &Path, arguments: &[&str]) {
        let websocket = (self.transport == Transport::WebSocket).to_string();
        command
            .args(arguments)
            .env("KUBECONFIG", kubeconfig)
            // For what kubectl keeps of its discoveries.
            .env("HOME", self.setting.file(self.client.name))
            .env("NO_PROXY", "*")
            .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", &websocket)
            .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", &websocket)
            .stdin(Stdio::null());
    }

    pub(crate) fn is_old(&self) -> bool {
        self.client.name == OLD
    }

    pub(crate) fn program(&self) -> &Path {
        &self.client.program
    }

    /// What it said, whether it failed or not.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<Said> {
        said(self.command(arguments), arguments)
    }

    /// What it printed, when it succeeds.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.succeeded(arguments, self.ask(arguments)?)
    }

    /// The same with something on its standard input.
    pub(crate) fn with_input(&self, arguments: &[&str], input: &[u8]) -> Result<String> {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("run kubectl")?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        let output = std::thread::scope(|scope| {
            // One that fails before it has read everything says why itself.
            scope.spawn(move || drop(stdin.write_all(input)));
            child.wait_with_output()
        });
        self.succeeded(
            arguments,
            heard(output.context("wait for kubectl")?, arguments)?,
        )
    }

    /// What the same kubectl says when it asks the managed cluster directly.
    pub(crate) fn ask_directly(&self, arguments: &[&str]) -> Result<Said> {
        said(self.direct_command(arguments), arguments)
    }

    pub(crate) fn directly(&self, arguments: &[&str]) -> Result<String> {
        self.succeeded(arguments, self.ask_directly(arguments)?)
    }

    fn succeeded(&self, arguments: &[&str], said: Said) -> Result<String> {
        if said.code != Some(0) {
            bail!(
                "{self}: kubectl {}: {:?}: {}{}",
                arguments.join(" "),
                said.code,
                said.stdout,
                said.stderr
            );
        }
        Ok(said.stdout)
    }
}

/// In the suite's namespace.
pub(crate) fn here<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [&["-n", NAMESPACE], arguments].concat()
}

pub(crate) fn said(mut command: Command, arguments: &[&str]) -> Result<Said> {
    let output = command
        .output()
        .with_context(|| format!("run {}", command.get_program().display()))?;
    heard(output, arguments)
}

fn heard(output: Output, arguments: &[&str]) -> Result<Said> {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() != Some(TIMED_OUT),
        "{}: no end within {LIMIT_SECONDS} s: {stderr}",
        arguments.join(" ")
    );
    Ok(Said {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr,
    })
}
