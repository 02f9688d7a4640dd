use bytes::Bytes;

use super::*;
use crate::PeerText;

const NOW: Duration = Duration::from_secs(100);

fn connect(number: i64) -> ConnectId {
    ConnectId::new(number).unwrap()
}

/// A table with short bounds.
fn table() -> ServerTable {
    ServerTable::new(ServerLimits {
        dials: 2,
        connections: 3,
        ..ServerLimits::default()
    })
}

fn handle(table: &mut ServerTable, now: Duration, event: ServerEvent) -> Vec<ServerAction> {
    let mut actions = Vec::new();
    table.handle(now, event, &mut actions);
    actions
}

fn dial(table: &mut ServerTable, number: u64) -> Vec<ServerAction> {
    let address = "10.0.0.1:443".to_owned();
    let frontend = FrontendId::new(number);
    handle(table, NOW, ServerEvent::Dial { frontend, address })
}

fn answer(table: &mut ServerTable, dial: i64, number: i64) -> Vec<ServerAction> {
    let packet = Packet::DialResponse {
        dial: DialId::new(dial),
        result: Ok(connect(number)),
    };
    handle(table, NOW, ServerEvent::Agent(packet))
}

fn data(number: i64) -> ServerEvent {
    ServerEvent::Agent(Packet::Data {
        connect: connect(number),
        data: Bytes::from_static(b"x"),
    })
}

fn gone(number: u64) -> ServerEvent {
    let frontend = FrontendId::new(number);
    ServerEvent::FrontendGone { frontend }
}

fn close_request(number: i64) -> ServerAction {
    let connect = connect(number);
    ServerAction::Send(Packet::CloseRequest { connect })
}

#[test]
fn a_late_answer_to_a_cancelled_dial_is_met_by_a_close() {
    let mut table = table();
    dial(&mut table, 1);
    let close_dial = Packet::CloseDial {
        dial: DialId::new(1),
    };
    assert_eq!(
        handle(&mut table, NOW, gone(1)),
        [ServerAction::Send(close_dial)]
    );
    assert!(table.is_empty());
    assert_eq!(
        answer(&mut table, 1, 7),
        [ServerAction::Count(Stray::UnknownDial), close_request(7)]
    );
    // What is on its way is dropped and counted, not answered again.
    for _ in 0..3 {
        let stray = ServerAction::Count(Stray::DataAfterClose);
        assert_eq!(handle(&mut table, NOW, data(7)), [stray]);
    }
    let closed = Packet::CloseResponse {
        connect: connect(7),
        error: PeerText::default(),
    };
    assert_eq!(handle(&mut table, NOW, ServerEvent::Agent(closed)), []);
    assert!(table.is_empty());
}

#[test]
fn a_dial_is_answered_in_time_or_fails() {
    let mut table = table();
    dial(&mut table, 1);
    let deadline = NOW + Duration::from_secs(30);
    assert_eq!(table.next_deadline(), Some(deadline));
    let early = deadline - Duration::from_millis(1);
    assert_eq!(handle(&mut table, early, ServerEvent::Tick), []);
    let actions = handle(&mut table, deadline, ServerEvent::Tick);
    assert_eq!(
        actions[1],
        ServerAction::DialFailed {
            frontend: FrontendId::new(1),
            failure: DialFailure::TimedOut,
        }
    );
    assert!(table.is_empty());
}

#[test]
fn dials_and_connections_are_bounded() {
    let mut table = table();
    let overloaded = |actions: Vec<ServerAction>| {
        let failure = DialFailure::Overloaded;
        matches!(&actions[..], [ServerAction::DialFailed { failure: f, .. }] if *f == failure)
    };
    dial(&mut table, 1);
    dial(&mut table, 2);
    assert!(overloaded(dial(&mut table, 3)), "two dials are waiting");
    answer(&mut table, 1, 1);
    answer(&mut table, 2, 2);
    dial(&mut table, 4);
    assert!(
        overloaded(dial(&mut table, 5)),
        "three connections are there"
    );
    assert_eq!((table.pending_dials(), table.established()), (1, 2));
    // An agent that invents ids is answered and fills no memory.
    let before = table.clone();
    for number in 100..200 {
        let actions = handle(&mut table, NOW, data(number));
        assert_eq!(actions[1], close_request(number));
    }
    assert_eq!(table, before);
}

#[test]
fn an_id_that_is_in_use_ends_only_the_dial_that_got_it() {
    let mut table = table();
    dial(&mut table, 1);
    answer(&mut table, 1, 5);
    dial(&mut table, 2);
    let failure = DialFailure::IdInUse;
    let frontend = FrontendId::new(2);
    assert_eq!(
        answer(&mut table, 2, 5),
        [
            ServerAction::Count(Stray::IdInUse),
            ServerAction::DialFailed { frontend, failure }
        ]
    );
    let delivered = handle(&mut table, NOW, data(5));
    let frontend = FrontendId::new(1);
    assert!(matches!(delivered[..], [ServerAction::Deliver { frontend: f, .. }] if f == frontend));
}

#[test]
fn an_agent_that_never_confirms_a_close_holds_nobody() {
    let mut table = table();
    dial(&mut table, 1);
    answer(&mut table, 1, 5);
    let frontend = FrontendId::new(1);
    let close = ServerEvent::FrontendClose { frontend };
    assert_eq!(handle(&mut table, NOW, close.clone()), [close_request(5)]);
    let twice = ServerAction::Count(Stray::ClosedTwice);
    assert_eq!(handle(&mut table, NOW, close), [twice]);
    let reason = CloseReason::Unanswered;
    assert_eq!(
        handle(&mut table, NOW + Duration::from_secs(10), ServerEvent::Tick),
        [
            ServerAction::Count(Stray::CloseUnanswered),
            ServerAction::Closed { frontend, reason }
        ]
    );
    assert!(table.is_empty());
}
