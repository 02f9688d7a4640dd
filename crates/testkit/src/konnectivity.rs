//! The Go programs of konnectivity that `lab build konnectivity` makes, as peers of a test: the
//! proxy-server, the proxy-agent, and a client on the public Go client package.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct KonnectivityPrograms {
    folder: PathBuf,
}

impl KonnectivityPrograms {
    /// Those of the folder that `LAB_KONNECTIVITY` names.
    ///
    /// # Errors
    /// When it is not set, or a program is not there.
    pub fn find() -> Result<Self> {
        let folder = std::env::var_os("LAB_KONNECTIVITY")
            .context("LAB_KONNECTIVITY is not set: run this suite by `tests/run interop`")?;
        let programs = Self {
            folder: folder.into(),
        };
        for name in [SERVER, AGENT, CLIENT] {
            let program = programs.folder.join(name);
            ensure!(
                program.is_file(),
                "{}: not built; run `lab/lab build konnectivity`",
                program.display()
            );
        }
        Ok(programs)
    }

    /// The proxy-server of module sigs.k8s.io/apiserver-network-proxy.
    #[must_use]
    pub fn proxy_server(&self) -> Command {
        Command::new(self.folder.join(SERVER))
    }

    /// The proxy-agent of the same module.
    #[must_use]
    pub fn proxy_agent(&self) -> Command {
        Command::new(self.folder.join(AGENT))
    }

    /// The client; lab/go/konnectivity says what it does.
    #[must_use]
    pub fn client(&self) -> Command {
        Command::new(self.folder.join(CLIENT))
    }
}

const SERVER: &str = "proxy-server";
const AGENT: &str = "proxy-agent";
const CLIENT: &str = "konnectivity-client";

/// What a client shows to a proxy-server, and whom it trusts.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl ClientCertificate {
    /// The client's flags.
    pub fn add_to(&self, command: &mut Command) {
        let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
        command
            .arg(flag("ca", &self.ca))
            .arg(flag("cert", &self.cert))
            .arg(flag("key", &self.key));
    }
}

/// A running `konnectivity-client dial`: stdin and stdout are the connection's two ways, stderr
/// tells what happened. Killed when dropped.
#[derive(Debug)]
pub struct DialingClient {
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<Vec<u8>>,
    /// Read from `output` beyond what was asked for.
    left: Vec<u8>,
    events: Receiver<Value>,
    /// Events that nobody has asked for yet.
    seen: Vec<Value>,
}

impl DialingClient {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", command.get_program().display()))?;
        let input = child.stdin.take();
        let stdout = child.stdout.take().context("no stdout")?;
        let stderr = child.stderr.take().context("no stderr")?;
        let (pieces, output) = sync_channel(QUEUE);
        let (lines, events) = sync_channel(QUEUE);
        std::thread::spawn(move || read_pieces(stdout, &pieces));
        std::thread::spawn(move || read_events(stderr, &lines));
        Ok(Self {
            child,
            input,
            output,
            left: Vec::new(),
            events,
            seen: Vec::new(),
        })
    }

    /// The first event of this name, which is taken; waits for it.
    ///
    /// # Errors
    /// When it does not come within the deadline, or the program ended without it.
    pub fn event(&mut self, name: &str, deadline: Duration) -> Result<ClientEvent> {
        self.event_of(&[name], deadline)
    }

    /// As [`Self::event`], for the first of several names.
    ///
    /// # Errors
    /// As [`Self::event`].
    pub fn event_of(&mut self, names: &[&str], deadline: Duration) -> Result<ClientEvent> {
        let wanted = |event: &Value| names.iter().any(|name| event["event"] == *name);
        let end = Instant::now() + deadline;
        loop {
            if let Some(at) = self.seen.iter().position(wanted) {
                return Ok(ClientEvent(self.seen.remove(at)));
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) => self.seen.push(event),
                Err(RecvTimeoutError::Timeout) => {
                    bail!("no {names:?} within {deadline:?}, but {:?}", self.seen)
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("the client ended without {names:?}, after {:?}", self.seen)
                }
            }
        }
    }

    /// Sends bytes to the target: a few, since this blocks.
    ///
    /// # Errors
    /// When the client has gone or its input was ended.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let input = self.input.as_mut().context("its input was ended")?;
        input.write_all(bytes).context("write to the client")
    }

    /// The way to the target, for a thread of its own; dropped, it ends.
    pub fn take_input(&mut self) -> Option<ChildStdin> {
        self.input.take()
    }

    /// Ends the way to the target.
    pub fn end_input(&mut self) {
        self.input = None;
    }

    /// The next `length` bytes from the target.
    ///
    /// # Errors
    /// When fewer come within the deadline.
    pub fn read(&mut self, length: usize, deadline: Duration) -> Result<Vec<u8>> {
        let mut bytes = std::mem::take(&mut self.left);
        let end = Instant::now() + deadline;
        while bytes.len() < length {
            let left = end.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(piece) => bytes.extend(piece),
                Err(error) => bail!("{} bytes of {length} came: {error}", bytes.len()),
            }
        }
        self.left = bytes.split_off(length);
        Ok(bytes)
    }

    /// All that still comes from the target, to its end.
    ///
    /// # Errors
    /// When there is no end within the deadline.
    pub fn read_to_end(&mut self, deadline: Duration) -> Result<Vec<u8>> {
        let mut bytes = std::mem::take(&mut self.left);
        let end = Instant::now() + deadline;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(piece) => bytes.extend(piece),
                Err(RecvTimeoutError::Disconnected) => return Ok(bytes),
                Err(RecvTimeoutError::Timeout) => {
                    bail!("no end within {deadline:?}, after {} bytes", bytes.len())
                }
            }
        }
    }

    /// SIGKILL, as a machine that fails does it.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().context("kill the client")?;
        self.child.wait().context("wait for the client")?;
        Ok(())
    }
}

impl Drop for DialingClient {
    fn drop(&mut self) {
        // Whatever fails here: the test has its result already.
        let _ = self.kill();
    }
}

/// Pieces and events between a client and its test: enough that a client whose events nobody
/// reads is not stopped by that.
const QUEUE: usize = 1024;

/// One read of a pipe.
const PIECE: usize = 64 * 1024;

fn read_pieces(mut from: impl std::io::Read, to: &SyncSender<Vec<u8>>) {
    let mut piece = vec![0; PIECE];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        if to.send(piece[..length].to_vec()).is_err() {
            return;
        }
    }
}

fn read_events(from: impl std::io::Read, to: &SyncSender<Value>) {
    for line in BufReader::new(from).lines().map_while(Result::ok) {
        // What is no event is a usage text or a panic's trace, and is shown as it is.
        let event = serde_json::from_str(&line).unwrap_or(Value::String(line));
        if to.send(event).is_err() {
            return;
        }
    }
}

/// One line of the client's stderr.
#[derive(Debug)]
pub struct ClientEvent(Value);

impl ClientEvent {
    /// `dialed`, `dial-failed`, `input-ended`, `write-failed`, `output-ended`, `closed`, `log`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0["event"].as_str().unwrap_or_default()
    }

    /// Since the client's start.
    #[must_use]
    pub fn at(&self) -> Duration {
        Duration::from_millis(self.0["ms"].as_u64().unwrap_or_default())
    }

    /// The error's text; empty is none.
    #[must_use]
    pub fn error(&self) -> &str {
        self.0["error"].as_str().unwrap_or_default()
    }

    /// The answer to CONNECT, where there was one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.0["status"]
            .as_u64()
            .and_then(|code| code.try_into().ok())
    }
}

#[cfg(test)]
mod tests;
