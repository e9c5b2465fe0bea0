//! A node that turns an attach away has not ended the session: the client keeps its locks until its own deadline.

use lockstead_client_core::{Config, Ending, Input, Lease, Output, Session};
use lockstead_types::{
    NodeId, SessionId, Span, Time,
    message::{ClientMessage, PROTOCOL_VERSION, Rejection, ServerMessage, Welcome},
    report::Meta,
};

const TTL: Span = Span::from_secs(10);

fn at(millis: u64) -> Time {
    Time::from_nanos(millis * 1_000_000)
}

/// Whether it attaches.
fn tell(session: &mut Session, now: Time, input: Input) -> bool {
    session.handle(now, input);
    let mut attaches = false;
    while let Some(output) = session.poll_output() {
        attaches |= matches!(output, Output::Send(ClientMessage::Attach { .. }));
    }
    attaches
}

fn greet(session: &mut Session, now: Time) -> bool {
    let welcome =
        Welcome { version: PROTOCOL_VERSION, node: NodeId(1), epoch: 1, local: false, credit: 8, frame_bytes: 1 << 20 };
    tell(session, now, Input::Connected);
    tell(session, now, Input::Message(ServerMessage::Welcome(welcome)))
}

/// [RESTART-9] The node turns late claimers away with `Idle`; `Full` and `Stopping` are no more of an end.
#[test]
fn the_lease_goes_on_to_its_own_deadline() {
    let config = Config {
        session: SessionId(7),
        ttl: TTL,
        meta: Meta::default(),
        rho_ppm: 10_000,
        guard: Span::ZERO,
        backlog: 8,
        seed: 1,
    };
    let mut session = Session::new(config, at(0));
    while session.poll_output().is_some() {}
    greet(&mut session, at(0));
    tell(&mut session, at(0), Input::Message(ServerMessage::Opened { ttl: TTL }));
    let deadline = session.deadline().expect("open");
    tell(&mut session, at(1_000), Input::Disconnected);
    let mut now = 1_000;
    for why in [Rejection::Idle, Rejection::Full, Rejection::Stopping, Rejection::Idle] {
        now += 1_500;
        tell(&mut session, at(now), Input::Tick);
        assert!(greet(&mut session, at(now)), "it tries again");
        tell(&mut session, at(now), Input::Message(ServerMessage::Rejected { why }));
        assert_eq!((session.lease(at(now)), session.ending()), (Lease::Unsure, None), "{why:?}");
        assert_eq!(session.deadline(), Some(deadline), "nothing was renewed");
    }
    tell(&mut session, deadline, Input::Tick);
    assert_eq!((session.lease(deadline), session.ending()), (Lease::Lost, Some(Ending::Deadline)));
}
