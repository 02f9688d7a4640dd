//! The same events with curl as the client and the server as its HTTPS proxy: what it carries is
//! HTTP, and it ends a connection only as a whole.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use cluster_proxy_testkit::free_port;

use crate::cell::{Tunnel, text};
use crate::event::{Event, NO_SUCH_NAME};
use crate::load::{BULK, LOAD_LIMIT, all_served, pattern, short_ones};
use crate::outcome::{Observed, OtherWay, Outcome, Sight, normalized};
use crate::target::{PATIENCE, Silent, Target, TargetConnection};

/// Lets it happen.
pub(crate) fn observe(tunnel: &Tunnel<'_>, event: Event) -> Result<Observed> {
    match event {
        Event::Refused => failed_dial(tunnel, &format!("127.0.0.1:{}", free_port()?)),
        Event::Unresolvable => failed_dial(tunnel, NO_SUCH_NAME),
        Event::TimedOut => failed_dial(tunnel, &Silent::new()?.address.to_string()),
        Event::NoAgent => failed_dial(tunnel, &Target::new()?.address.to_string()),
        Event::TargetEndsFirst => target_ends_first(tunnel),
        Event::ClientCloses => client_closes(tunnel),
        Event::ClientKilled => client_killed(tunnel),
        Event::TargetResets => target_resets(tunnel),
        Event::AgentKilled => agent_killed(tunnel),
        Event::AgentReplaced => agent_replaced(tunnel),
        Event::ServerKilled => server_killed(tunnel),
        Event::ShortConnections => short_connections(tunnel),
        Event::Bulk => bulk(tunnel),
        Event::OtherMethod => other_method(tunnel),
        Event::ClientEndsFirst | Event::LastBytesThere | Event::LastBytesBack => Ok(Observed {
            outcome: Outcome::NotOffered,
            took: Duration::ZERO,
        }),
    }
}

fn command(tunnel: &Tunnel<'_>) -> Command {
    let shown = tunnel.certificate();
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--noproxy", ""])
        .arg("--max-time")
        .arg(LOAD_LIMIT.as_secs().to_string())
        .args(["--proxy", &format!("https://{}", tunnel.proxy)])
        .args(["--proxy-cacert", &text(&shown.ca)])
        .args(["--proxy-cert", &text(&shown.cert)])
        .args(["--proxy-key", &text(&shown.key)])
        .arg("--proxytunnel");
    command
}

/// A curl that runs beside the target's part; killed when it is dropped.
struct Running(Option<Child>);

impl Running {
    fn start(mut command: Command) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("curl cannot be run")?;
        Ok(Self(Some(child)))
    }

    /// Its end, for which its own limit is the deadline.
    fn output(mut self) -> Result<Output> {
        let child = self.0.take().context("it was waited for")?;
        child.wait_with_output().context("wait for curl")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn failed_dial(tunnel: &Tunnel<'_>, target: &str) -> Result<Observed> {
    let began = Instant::now();
    let mut curl = command(tunnel);
    curl.args(["--write-out", "%{http_connect}"])
        .arg(format!("http://{target}/"));
    let output = Running::start(curl)?.output()?;
    let took = began.elapsed();
    ensure!(!output.status.success(), "{target} was dialled");
    let code = String::from_utf8_lossy(&output.stdout);
    Ok(Observed {
        outcome: Outcome::DialFailed {
            status: code.trim().parse().ok().filter(|code| *code != 0),
            says: said(&output),
        },
        took,
    })
}

fn said(output: &Output) -> String {
    normalized(String::from_utf8_lossy(&output.stderr).trim())
}

/// A request that reached the target.
fn asked(tunnel: &Tunnel<'_>) -> Result<(Running, TargetConnection)> {
    let target = Target::new()?;
    let mut curl = command(tunnel);
    curl.arg(format!("http://{}/", target.address));
    let curl = Running::start(curl)?;
    let mut connection = target.accept()?;
    connection.read_head()?;
    Ok((curl, connection))
}

fn sight(output: &Output) -> Sight {
    if output.status.success() {
        Sight::End
    } else {
        Sight::Error(said(output))
    }
}

fn target_ends_first(tunnel: &Tunnel<'_>) -> Result<Observed> {
    let (curl, mut connection) = asked(tunnel)?;
    let began = Instant::now();
    connection.write(UNTIL_THE_END)?;
    connection.end_output()?;
    let output = curl.output()?;
    let took = began.elapsed();
    ensure!(output.stdout == b"half", "{:?}", output.stdout);
    let (_, target) = connection.watch();
    Ok(Observed {
        outcome: Outcome::ended(sight(&output), target, OtherWay::NotTried),
        took,
    })
}

fn client_closes(tunnel: &Tunnel<'_>) -> Result<Observed> {
    let (curl, mut connection) = asked(tunnel)?;
    let began = Instant::now();
    connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhalf")?;
    let output = curl.output()?;
    let (_, target) = connection.watch();
    Ok(Observed {
        outcome: Outcome::ended(sight(&output), target, OtherWay::NotTried),
        took: began.elapsed(),
    })
}

fn client_killed(tunnel: &Tunnel<'_>) -> Result<Observed> {
    let (curl, mut connection) = asked(tunnel)?;
    let began = Instant::now();
    drop(curl);
    let (_, target) = connection.watch();
    Ok(Observed {
        outcome: Outcome::ended(None, target, OtherWay::NotTried),
        took: began.elapsed(),
    })
}

/// A body that ends with the connection: whether it was cut shows in nothing else.
const UNTIL_THE_END: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf";

/// Until curl has surely got what was sent before the event.
const ARRIVAL: Duration = Duration::from_millis(300);

fn target_resets(tunnel: &Tunnel<'_>) -> Result<Observed> {
    let (curl, mut connection) = asked(tunnel)?;
    connection.write(UNTIL_THE_END)?;
    std::thread::sleep(ARRIVAL);
    let began = Instant::now();
    connection.reset()?;
    let output = curl.output()?;
    Ok(Observed {
        outcome: Outcome::ended(sight(&output), None, OtherWay::NotTried),
        took: began.elapsed(),
    })
}

fn agent_killed(tunnel: &Tunnel<'_>) -> Result<Observed> {
    let (curl, mut connection) = asked(tunnel)?;
    connection.write(UNTIL_THE_END)?;
    std::thread::sleep(ARRIVAL);
    let began = Instant::now();
    tunnel.kill_agent()?;
    let output = curl.output()?;
    let took = began.elapsed();
    let (_, target) = connection.watch();
    Ok(Observed {
        outcome: Outcome::ended(sight(&output), target, OtherWay::NotTried),
        took,
    })
}

fn agent_replaced(tunnel: &Tunnel<'_>) -> Result<Observed> {
    let began = Instant::now();
    tunnel.replace_agent()?;
    asked(tunnel)?;
    Ok(Observed {
        outcome: Outcome::Moved(1),
        took: began.elapsed(),
    })
}

fn server_killed(tunnel: &Tunnel<'_>) -> Result<Observed> {
    let (curl, mut connection) = asked(tunnel)?;
    connection.write(UNTIL_THE_END)?;
    std::thread::sleep(ARRIVAL);
    let began = Instant::now();
    tunnel.kill_server()?;
    let output = curl.output()?;
    let (_, target) = connection.watch();
    Ok(Observed {
        outcome: Outcome::ended(sight(&output), target, OtherWay::NotTried),
        took: began.elapsed(),
    })
}

fn short_connections(tunnel: &Tunnel<'_>) -> Result<Observed> {
    let target = Target::new()?.serve(|mut connection| {
        connection.read_head()?;
        connection.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
    });
    let began = Instant::now();
    let mut curl = command(tunnel);
    curl.args(["--parallel", "--parallel-max", "4", "--no-progress-meter"])
        .args(["--output", "/dev/null", "--write-out", "%{http_code}\n"])
        .arg(format!("http://{}/[1-{}]", target.address, short_ones()));
    let output = Running::start(curl)?.output()?;
    let took = began.elapsed();
    let answers = String::from_utf8_lossy(&output.stdout);
    let ok = answers.lines().filter(|line| *line == "200").count() as u64;
    ensure!(
        ok == short_ones(),
        "{ok} of {}: {}",
        short_ones(),
        said(&output)
    );
    all_served(target.address, || target.served())?;
    Ok(Observed {
        outcome: Outcome::Moved(ok),
        took,
    })
}

fn bulk(tunnel: &Tunnel<'_>) -> Result<Observed> {
    // The target answers each piece as it comes, so both ways are busy.
    let target = Target::new()?.serve(|mut connection| {
        connection.read_head()?;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BULK}\r\n\r\n");
        connection.write(head.as_bytes())?;
        let mut buffer = vec![0; 64 * 1024];
        let mut left = BULK;
        while left > 0 {
            let length = connection.stream.read(&mut buffer)?;
            ensure!(length > 0, "cut with {left} bytes to come");
            connection.write(&buffer[..length])?;
            left -= length;
        }
        Ok(())
    });
    let sent = pattern(3, BULK);
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(&sent)?;
    let began = Instant::now();
    let mut curl = command(tunnel);
    curl.args(["--header", "Expect:", "--upload-file", &text(file.path())])
        .arg(format!("http://{}/", target.address));
    let output = Running::start(curl)?.output()?;
    let took = began.elapsed();
    ensure!(output.status.success(), "{}", said(&output));
    ensure!(output.stdout == sent, "what came back differs");
    Ok(Observed {
        outcome: Outcome::Moved(BULK as u64),
        took,
    })
}

/// A request to the server itself.
fn other_method(tunnel: &Tunnel<'_>) -> Result<Observed> {
    let shown = tunnel.certificate();
    let began = Instant::now();
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--noproxy", "*"])
        .arg("--max-time")
        .arg(PATIENCE.as_secs().to_string())
        .args(["--cacert", &text(&shown.ca)])
        .args(["--cert", &text(&shown.cert)])
        .args(["--key", &text(&shown.key)])
        .args(["--write-out", "\n%{http_code}"])
        .arg(format!("https://{}/", tunnel.proxy));
    let output = Running::start(curl)?.output()?;
    ensure!(output.status.success(), "{}", said(&output));
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, code) = answer.rsplit_once('\n').context("no code")?;
    Ok(Observed {
        outcome: Outcome::dial_failed(code.parse::<u16>()?, body.trim()),
        took: began.elapsed(),
    })
}
