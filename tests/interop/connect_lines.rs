//! What the HTTP CONNECT frontend answers, byte by byte, to requests in order and to others: on a
//! Unix socket, without a client in between that has ideas of its own.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::cell::{Server, Tunnel};
use crate::target::Target;

/// A request and its answer.
struct Line {
    what: &'static str,
    /// `TARGET` is the address of one that echoes.
    request: &'static str,
    /// Whether the client ends its half with the request.
    ends: bool,
    /// All that comes back until the connection is closed, or nothing more comes.
    answer: Answer,
    /// Our server's with our agent, where it is another.
    ours: Option<Answer>,
}

/// The parts of an answer that clients look at.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: &'static str,
    content_type: &'static str,
    body: &'static str,
    /// Whether the server closes after it.
    closes: bool,
}

const TEXT: &str = "text/plain; charset=utf-8";

const fn established(body: &'static str, closes: bool) -> Answer {
    Answer {
        status: "HTTP/1.1 200 Connection Established",
        content_type: "",
        body,
        closes,
    }
}

const fn bad_gateway(body: &'static str) -> Answer {
    Answer {
        status: "HTTP/1.1 502 Bad Gateway",
        content_type: TEXT,
        body,
        closes: true,
    }
}

/// What our server does not hand on to an agent.
const fn refused_here(body: &'static str) -> Option<Answer> {
    Some(Answer {
        status: "HTTP/1.1 400 Bad Request",
        content_type: TEXT,
        body,
        closes: true,
    })
}

const BAD_REQUEST: Answer = Answer {
    status: "HTTP/1.1 400 Bad Request",
    content_type: TEXT,
    body: "400 Bad Request",
    closes: true,
};

/// Observed of Go's server with Go's agent.
const LINES: &[Line] = &[
    Line {
        what: "bytes that come with the request are the target's",
        request: "CONNECT TARGET HTTP/1.1\r\nHost: x\r\n\r\nping",
        ends: false,
        answer: established("ping", false),
        ours: None,
    },
    Line {
        what: "HTTP/1.0 is answered as 1.1",
        request: "CONNECT TARGET HTTP/1.0\r\n\r\nping",
        ends: false,
        answer: established("ping", false),
        ours: None,
    },
    Line {
        what: "Host may be absent",
        request: "CONNECT TARGET HTTP/1.1\r\n\r\nping",
        ends: false,
        answer: established("ping", false),
        ours: None,
    },
    Line {
        what: "refused: the agent's words are the body, without a length",
        request: "CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        ends: false,
        answer: bad_gateway("dial tcp 127.0.0.1:1: connect: connection refused"),
        ours: Some(bad_gateway(
            "the target refused the connection: 127.0.0.1:1: connection refused\n",
        )),
    },
    Line {
        what: "IPv6",
        request: "CONNECT [::1]:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        ends: false,
        answer: bad_gateway("dial tcp [::1]:1: connect: connection refused"),
        ours: Some(bad_gateway(
            "the target refused the connection: [::1]:1: connection refused\n",
        )),
    },
    Line {
        what: "no port",
        request: "CONNECT 127.0.0.1 HTTP/1.1\r\nHost: x\r\n\r\n",
        ends: false,
        answer: bad_gateway("dial tcp: address 127.0.0.1: missing port in address"),
        ours: refused_here("target: the port is missing or not a number from 1 to 65535\n"),
    },
    Line {
        what: "a port that is none",
        request: "CONNECT 127.0.0.1:99999 HTTP/1.1\r\nHost: x\r\n\r\n",
        ends: false,
        answer: bad_gateway("dial tcp: address 99999: invalid port"),
        ours: refused_here("target: the port is missing or not a number from 1 to 65535\n"),
    },
    Line {
        what: "port 0",
        request: "CONNECT 127.0.0.1:0 HTTP/1.1\r\nHost: x\r\n\r\n",
        ends: false,
        answer: bad_gateway("dial tcp 127.0.0.1:0: connect: connection refused"),
        ours: refused_here("target: the port is missing or not a number from 1 to 65535\n"),
    },
    Line {
        what: "an empty name is the agent's own machine",
        request: "CONNECT :1 HTTP/1.1\r\nHost: x\r\n\r\n",
        ends: false,
        answer: bad_gateway("dial tcp :1: connect: connection refused"),
        ours: refused_here(
            "target: the host is neither a host name nor an address (IPv6 goes in brackets)\n",
        ),
    },
    Line {
        what: "unreachable",
        request: "CONNECT 255.255.255.255:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        ends: false,
        answer: bad_gateway("dial tcp 255.255.255.255:1: connect: network is unreachable"),
        ours: Some(bad_gateway(
            "the target is unreachable: 255.255.255.255:1: Network is unreachable (os error 101)\n",
        )),
    },
    Line {
        what: "a port's name",
        request: "CONNECT 127.0.0.1:http HTTP/1.1\r\nHost: x\r\n\r\n",
        ends: false,
        answer: BAD_REQUEST,
        ours: refused_here("target: the port is missing or not a number from 1 to 65535\n"),
    },
    Line {
        what: "no HTTP",
        request: "hello\r\n\r\n",
        ends: false,
        answer: BAD_REQUEST,
        ours: refused_here("this is no HTTP/1.1 request\n"),
    },
    Line {
        what: "another method, after which the connection stays",
        request: "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        ends: false,
        answer: Answer {
            status: "HTTP/1.1 405 Method Not Allowed",
            content_type: TEXT,
            body: "this proxy only supports CONNECT passthrough\n",
            closes: false,
        },
        ours: Some(Answer {
            status: "HTTP/1.1 405 Method Not Allowed",
            content_type: TEXT,
            body: "this proxy serves CONNECT and nothing else\n",
            closes: true,
        }),
    },
    // The bytes before the end may be lost, so there are none.
    Line {
        what: "an end with the request is the end of all",
        request: "CONNECT TARGET HTTP/1.1\r\nHost: x\r\n\r\n",
        ends: true,
        answer: established("", true),
        ours: None,
    },
];

/// Says each line, and compares all before it fails.
pub(crate) fn check(tunnel: &Tunnel<'_>, server: Server) -> Result<()> {
    let target = Target::new()?.serve(|mut connection| {
        let mut buffer = [0; 64];
        loop {
            match connection.stream.read(&mut buffer)? {
                0 => return Ok(()),
                length => connection.write(&buffer[..length])?,
            }
        }
    });
    let mut wrong = Vec::new();
    for line in LINES {
        let (said, closed) =
            say(tunnel, line, target.address).with_context(|| line.what.to_owned())?;
        let expected = match (server, &line.ours) {
            (Server::Ours, Some(ours)) => ours,
            _ => &line.answer,
        };
        if let Some(difference) = differs(expected, &said, closed) {
            wrong.push(format!("{}: {difference}", line.what));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n    "));
    Ok(())
}

/// All that comes back, and whether the server closed after it.
fn say(tunnel: &Tunnel<'_>, line: &Line, target: SocketAddr) -> Result<(String, bool)> {
    let socket = tunnel.proxy.strip_prefix("unix:").context("no socket")?;
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(SILENCE))?;
    let request = line.request.replace("TARGET", &target.to_string());
    stream.write_all(request.as_bytes())?;
    if line.ends {
        stream.shutdown(Shutdown::Write)?;
    }
    let mut said = Vec::new();
    let closed = match stream.read_to_end(&mut said) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => return Err(error).context("read"),
    };
    Ok((String::from_utf8(said)?, closed))
}

/// After which nothing more is expected; answers take milliseconds.
const SILENCE: Duration = Duration::from_secs(1);

fn differs(expected: &Answer, said: &str, closed: bool) -> Option<String> {
    let Some((head, body)) = said.split_once("\r\n\r\n") else {
        return Some(format!("no answer: {said:?}"));
    };
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    let content_type = lines
        .find_map(|line| line.strip_prefix("Content-Type: "))
        .unwrap_or_default();
    let same = (status, content_type, body, closed)
        == (
            expected.status,
            expected.content_type,
            expected.body,
            expected.closes,
        );
    (!same).then(|| format!("{said:?}, closed: {closed}; expected {expected:?}"))
}
