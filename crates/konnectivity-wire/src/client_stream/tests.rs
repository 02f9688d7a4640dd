use bytes::Bytes;

use super::*;
use crate::server_table::DialFailure;

fn connect(number: i64) -> ConnectId {
    ConnectId::new(number).unwrap()
}

fn handle(stream: &mut ClientStream, event: ClientEvent) -> Vec<ClientAction> {
    let mut actions = Vec::new();
    stream.handle(event, &mut actions);
    actions
}

fn client(stream: &mut ClientStream, packet: Packet) -> Vec<ClientAction> {
    handle(stream, ClientEvent::Client(packet))
}

fn request(address: &str, dial: i64) -> Packet {
    Packet::DialRequest {
        protocol: "tcp".to_owned(),
        address: address.to_owned(),
        dial: DialId::new(dial),
    }
}

fn data(number: i64) -> Packet {
    Packet::Data {
        connect: connect(number),
        data: Bytes::from_static(b"x"),
    }
}

/// A stream with a dial 9 that became connection 5.
fn open() -> ClientStream {
    let mut stream = ClientStream::default();
    let address = "a:1".to_owned();
    assert_eq!(
        client(&mut stream, request(&address, 9)),
        [ClientAction::Dial { address }]
    );
    let connect = connect(5);
    handle(&mut stream, ClientEvent::Dialled { connect });
    stream
}

#[test]
fn a_foreign_connection_is_out_of_reach() {
    let mut stream = open();
    let close = Packet::CloseRequest {
        connect: connect(6),
    };
    assert_eq!(
        client(&mut stream, close),
        [
            ClientAction::Count(Stray::UnknownConnection),
            closed(connect(6), "not a connection of this stream")
        ]
    );
    // Its own one goes on, until it sends bytes for another.
    assert!(matches!(
        client(&mut stream, data(5))[..],
        [ClientAction::Data { .. }]
    ));
    assert_eq!(
        client(&mut stream, data(6)),
        [
            ClientAction::Count(Stray::UnknownConnection),
            ClientAction::Gone,
            closed(connect(5), MISMATCH),
            closed(connect(6), MISMATCH),
            ClientAction::Finish
        ]
    );
}

#[test]
fn a_cancellation_that_crossed_the_answer_ends_the_connection() {
    let mut stream = open();
    let dial = DialId::new(9);
    assert_eq!(
        client(&mut stream, Packet::CloseDial { dial }),
        [ClientAction::Gone, ClientAction::Finish]
    );
}

#[test]
fn a_failed_dial_says_why_and_ends_the_stream() {
    let mut stream = ClientStream::default();
    client(&mut stream, request("a:1", 9));
    let failure = DialFailure::AgentLost;
    let why = PeerText::new(&failure.to_string());
    assert_eq!(
        handle(&mut stream, ClientEvent::DialFailed { failure }),
        [failed(DialId::new(9), why), ClientAction::Finish]
    );
    let mut stream = ClientStream::default();
    let long = "a".repeat(MAX_ADDRESS + 1);
    let actions = client(&mut stream, request(&long, 9));
    let why = PeerText::new("the address is too long");
    assert_eq!(actions, [failed(DialId::new(9), why), ClientAction::Finish]);
}

#[test]
fn an_end_says_whether_it_broke() {
    for (reason, error) in [
        (CloseReason::Ended, ""),
        (CloseReason::AgentLost, "the agent was lost"),
        (CloseReason::Failed(PeerText::new("reset")), "reset"),
    ] {
        let mut stream = open();
        assert_eq!(
            handle(&mut stream, ClientEvent::Closed { reason }),
            [closed(connect(5), error), ClientAction::Finish]
        );
    }
}
