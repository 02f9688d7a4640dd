use bytes::Bytes;

use super::*;

const NOW: Duration = Duration::from_secs(100);

fn connect(number: i64) -> ConnectId {
    ConnectId::new(number).unwrap()
}

fn handle(table: &mut AgentTable, now: Duration, event: AgentEvent) -> Vec<AgentAction> {
    let mut actions = Vec::new();
    table.handle(now, event, &mut actions);
    actions
}

fn server(table: &mut AgentTable, packet: Packet) -> Vec<AgentAction> {
    handle(table, NOW, AgentEvent::Server(packet))
}

fn request(protocol: &str, dial: i64) -> Packet {
    Packet::DialRequest {
        protocol: protocol.to_owned(),
        address: "10.0.0.1:443".to_owned(),
        dial: DialId::new(dial),
    }
}

/// The error of the one DIAL_RSP among `actions`.
fn error(actions: &[AgentAction], id: i64) -> PeerText {
    let mut errors = actions.iter().filter_map(|action| match action {
        AgentAction::Send(Packet::DialResponse {
            dial,
            result: Err(error),
        }) if *dial == DialId::new(id) => Some(error.clone()),
        _ => None,
    });
    let error = errors.next().expect("an error");
    assert_eq!(errors.next(), None);
    error
}

/// A table with one open connection, number 1.
fn open() -> AgentTable {
    let mut table = AgentTable::new(AgentLimits::default());
    server(&mut table, request("tcp", 1));
    let connect = connect(1);
    let result = Ok(connect);
    let dial = DialId::new(1);
    assert_eq!(
        handle(&mut table, NOW, AgentEvent::Dialled { connect }),
        [AgentAction::Send(Packet::DialResponse { dial, result })]
    );
    table
}

fn close_request(number: i64) -> Packet {
    Packet::CloseRequest {
        connect: connect(number),
    }
}

fn close_response(number: i64, error: &str) -> AgentAction {
    AgentAction::Send(Packet::CloseResponse {
        connect: connect(number),
        error: PeerText::new(error),
    })
}

#[test]
fn a_close_is_confirmed_once_the_last_bytes_are_written() {
    let mut table = open();
    let connect = connect(1);
    assert_eq!(
        server(&mut table, close_request(1)),
        [AgentAction::Finish { connect }]
    );
    let ended = AgentEvent::TargetEnded {
        connect,
        error: PeerText::default(),
    };
    assert_eq!(handle(&mut table, NOW, ended), [close_response(1, "")]);
    assert!(table.is_empty());
    // A server that forgot is answered again.
    let again = server(&mut table, close_request(1));
    assert_eq!(again[1], close_response(1, "unknown connectID"));
}

#[test]
fn a_target_that_takes_nothing_is_cut_off_with_an_error() {
    let mut table = open();
    server(&mut table, close_request(1));
    let deadline = NOW + Duration::from_secs(5);
    assert_eq!(table.next_deadline(), Some(deadline));
    let connect = connect(1);
    assert_eq!(
        handle(&mut table, deadline, AgentEvent::Tick),
        [
            AgentAction::Abort { connect },
            close_response(1, "the target did not take the last bytes in time")
        ]
    );
    assert!(table.is_empty());
}

#[test]
fn data_that_crossed_the_end_is_dropped_and_of_the_unknown_is_answered() {
    let mut table = open();
    let data = |number| Packet::Data {
        connect: connect(number),
        data: Bytes::from_static(b"x"),
    };
    let ended = AgentEvent::TargetEnded {
        connect: connect(1),
        error: PeerText::new("reset"),
    };
    assert_eq!(handle(&mut table, NOW, ended), [close_response(1, "reset")]);
    let stray = AgentAction::Count(Stray::DataAfterClose);
    assert_eq!(server(&mut table, data(1)), [stray]);
    let unknown = server(&mut table, data(2));
    assert_eq!(unknown[1], close_response(2, "unknown connectID"));
}

#[test]
fn dials_fail_in_words_that_a_go_server_understands() {
    let mut table = AgentTable::new(AgentLimits {
        dials: 1,
        ..AgentLimits::default()
    });
    let udp = server(&mut table, request("udp", 1));
    assert!(error(&udp, 1).as_str().contains("only tcp"));
    let long = Packet::DialRequest {
        protocol: "tcp".to_owned(),
        address: "a".repeat(crate::MAX_ADDRESS + 1),
        dial: DialId::new(3),
    };
    let long = server(&mut table, long);
    assert!(error(&long, 3).as_str().contains("too long"));
    server(&mut table, request("tcp", 1));
    let full = server(&mut table, request("tcp", 2));
    let kind = DialFailureKind::of(&error(&full, 2));
    assert_eq!(kind, DialFailureKind::Exhausted);
    let late = handle(&mut table, NOW + Duration::from_secs(5), AgentEvent::Tick);
    let kind = DialFailureKind::of(&error(&late, 1));
    assert_eq!(kind, DialFailureKind::TimedOut);
    assert!(table.is_empty());
}

#[test]
fn a_second_dial_of_one_id_never_becomes_a_connection() {
    let mut table = AgentTable::new(AgentLimits::default());
    server(&mut table, request("tcp", 1));
    let second = server(&mut table, request("tcp", 1));
    assert!(error(&second, 1).as_str().contains("in use"));
    assert_eq!(table.dials.len(), 1);
}
