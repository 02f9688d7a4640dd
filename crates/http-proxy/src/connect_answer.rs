//! The head of an answer to `CONNECT`.

use http::StatusCode;

/// A final answer of a proxy, less what nothing depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectAnswer {
    /// The status; never an informational one.
    pub status: StatusCode,
    /// How the proxy words the status: printable, at most 80 characters, often empty.
    pub reason: String,
    /// The kinds of authentication that the proxy takes (`Basic`, `Negotiate`), at most four.
    pub schemes: Vec<String>,
}

impl ConnectAnswer {
    /// The answer at the beginning of `bytes` and the length of its head, informational answers
    /// before it included; nothing if there is no whole head yet.
    ///
    /// # Errors
    /// [`AnswerError`] when it is no answer in HTTP/1, or longer than [`MAX_ANSWER`].
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, AnswerError> {
        let mut begin = 0;
        loop {
            let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
            let mut answer = httparse::Response::new(&mut headers);
            let head = match answer.parse(&bytes[begin..]) {
                Ok(httparse::Status::Complete(head)) => head,
                Ok(httparse::Status::Partial) if bytes.len() >= MAX_ANSWER => {
                    return Err(AnswerError::TooLong);
                }
                Ok(httparse::Status::Partial) => return Ok(None),
                Err(httparse::Error::TooManyHeaders) => return Err(AnswerError::TooLong),
                Err(_) => return Err(AnswerError::Malformed),
            };
            begin += head;
            if begin > MAX_ANSWER {
                return Err(AnswerError::TooLong);
            }
            let status = answer.code.and_then(|code| StatusCode::from_u16(code).ok());
            let status = status.ok_or(AnswerError::Malformed)?;
            // RFC 9110 section 15.2: any number of these may come first. CONNECT asks for no
            // other protocol, so 101 would be a final answer that makes no sense.
            if status == StatusCode::SWITCHING_PROTOCOLS {
                return Err(AnswerError::Malformed);
            }
            if !status.is_informational() {
                let answer = Self {
                    status,
                    reason: shown(answer.reason.unwrap_or_default().as_bytes(), MAX_REASON),
                    schemes: schemes(answer.headers),
                };
                return Ok(Some((answer, begin)));
            }
        }
    }
}

/// The first words of the challenges. One header may hold several (RFC 9110 section 11.6.1); those
/// after the first are not looked for, since proxies send a header each.
fn schemes(headers: &[httparse::Header<'_>]) -> Vec<String> {
    headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case("proxy-authenticate"))
        .filter_map(|header| header.value.split(u8::is_ascii_whitespace).next())
        .filter(|scheme| !scheme.is_empty())
        .take(MAX_SCHEMES)
        .map(|scheme| shown(scheme, MAX_SCHEME))
        .collect()
}

fn shown(bytes: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim().escape_debug().take(most).collect()
}

/// Why bytes are no answer to `CONNECT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Not HTTP/1.
    #[error("it does not answer as an HTTP/1.1 proxy")]
    Malformed,
    /// A head beyond the limits.
    #[error(
        "the head of its answer is longer than {} KiB or has more than {MAX_HEADERS} headers",
        MAX_ANSWER / 1024
    )]
    TooLong,
}

/// The longest head that is read, informational answers included. Real ones have a few hundred
/// bytes; Negotiate challenges and cookies of a corporate proxy some thousands.
pub const MAX_ANSWER: usize = 16 * 1024;

/// Headers in a head.
const MAX_HEADERS: usize = 64;

/// How much of a foreign text stands in an error.
const MAX_REASON: usize = 80;
const MAX_SCHEME: usize = 20;
const MAX_SCHEMES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn status(text: &str) -> Result<Option<(u16, usize)>, AnswerError> {
        let parsed = ConnectAnswer::parse(text.as_bytes())?;
        Ok(parsed.map(|(answer, head)| (answer.status.as_u16(), head)))
    }

    #[test]
    fn answers_end_with_their_head() {
        let established = "HTTP/1.1 200 Connection established\r\n\r\n";
        assert_eq!(status(established), Ok(Some((200, established.len()))));
        assert_eq!(
            status("HTTP/1.0 200 OK\r\nA: b\r\n\r\nrest"),
            Ok(Some((200, 25)))
        );
        assert_eq!(status("HTTP/1.1 200\n\n"), Ok(Some((200, 14))));
        for end in 0..established.len() {
            assert_eq!(status(&established[..end]), Ok(None), "{end}");
        }
        let after_100 = format!("HTTP/1.1 100 Continue\r\n\r\n{established}");
        assert_eq!(status(&after_100), Ok(Some((200, after_100.len()))));
        assert_eq!(status("HTTP/1.1 100 Continue\r\n\r\n"), Ok(None));
    }

    #[test]
    fn a_refusal_says_what_the_proxy_wants() {
        let text = "HTTP/1.1 407 Proxy \u{7f}auth\r\nProxy-Authenticate: Negotiate\r\n\
                    proxy-authenticate: Basic realm=\"x\"\r\nContent-Length: 5\r\n\r\nhello";
        // httparse drops a reason with bytes beyond ASCII, and control characters are no HTTP.
        assert_eq!(status(text), Err(AnswerError::Malformed));
        let (answer, head) = ConnectAnswer::parse(text.replace('\u{7f}', "").as_bytes())
            .unwrap()
            .unwrap();
        assert_eq!(answer.reason, "Proxy auth");
        assert_eq!(answer.schemes, ["Negotiate", "Basic"]);
        assert_eq!(head, text.len() - 1 - "hello".len());
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for text in [
            "SSH-2.0-OpenSSH_9.6\r\n",
            "\x15\x03\x01\x00\x02\x02\x16",
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.1 2OO OK\r\n\r\n",
            "HTTP/1.1 099 No\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        ] {
            assert_eq!(status(text), Err(AnswerError::Malformed), "{text:?}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "a".repeat(MAX_ANSWER));
        assert_eq!(status(&endless), Err(AnswerError::TooLong));
        assert_eq!(
            status(&format!("{endless}\r\n\r\n")),
            Err(AnswerError::TooLong)
        );
        let many = format!(
            "HTTP/1.1 200 OK\r\n{}\r\n",
            "a: b\r\n".repeat(MAX_HEADERS + 1)
        );
        assert_eq!(status(&many), Err(AnswerError::TooLong));
        let patient = "HTTP/1.1 100 Continue\r\n\r\n".repeat(MAX_ANSWER / 20);
        assert_eq!(status(&patient), Err(AnswerError::TooLong));
    }
}
