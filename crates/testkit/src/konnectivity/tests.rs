use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

/// A client by another program's hand.
fn scripted(script: &str) -> DialingClient {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    DialingClient::start(command).unwrap()
}

#[test]
fn both_ways_and_events_are_there() {
    let mut client = scripted(
        r#"echo '{"event":"dialed","ms":7,"bytes":0}' >&2
           cat
           echo '{"event":"output-ended","ms":8,"bytes":5,"error":"cut"}' >&2"#,
    );
    client.write(b"there").unwrap();
    assert_eq!(client.read(2, DEADLINE).unwrap(), b"th");
    client.end_input();
    assert_eq!(client.read_to_end(DEADLINE).unwrap(), b"ere");
    // Asked for in another order than they came.
    let ended = client.event("output-ended", DEADLINE).unwrap();
    assert_eq!((ended.error(), ended.status()), ("cut", None));
    let dialed = client.event("dialed", DEADLINE).unwrap();
    assert_eq!(dialed.at(), Duration::from_millis(7));
    assert!(client.write(b"more").is_err());
}

#[test]
fn an_event_that_cannot_come_is_an_error_at_once() {
    let mut client = scripted("echo usage >&2");
    let error = client.event("dialed", DEADLINE).unwrap_err().to_string();
    assert!(error.contains("usage"), "{error}");
    assert!(error.contains("ended without"), "{error}");
}

#[test]
fn waiting_has_a_deadline() {
    let mut client = scripted("exec sleep 60");
    let short = Duration::from_millis(50);
    assert!(client.event("dialed", short).is_err());
    assert!(client.read(1, short).is_err());
    assert!(client.read_to_end(short).is_err());
    client.kill().unwrap();
    assert!(client.read_to_end(DEADLINE).unwrap().is_empty());
}
