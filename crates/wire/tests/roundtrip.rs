//! What is written is read back the same: random messages of every kind, and frames of many.

mod support;

use std::collections::BTreeSet;

use lockstead_types::{
    Flags, LimitName, Mode, NodeId, Refusal, RequestId, SessionId, Slot, Span,
    message::{ClientMessage, ServerMessage},
    peer::{Envelope, PeerMessage},
    reply::Reply,
    report::{DeadlockReport, Deadlocks, Meta, Report, SessionRow, WaitEdge, Waits},
    request::{Claim, LockRequest, Op},
};
use lockstead_wire::{
    EncodeError, FrameWriter, HEADER_BYTES, LINK_FRAME_BYTES, LINK_MAGIC, close_frame, encode_client, encode_peer,
    encode_server, open_frame, split_frame,
};
use support::{decode_client, decode_peer, decode_server, kinds, peer, random::Rng, samples};

#[test]
fn random_messages_of_every_kind_come_back() {
    let mut seen = BTreeSet::new();
    let mut bytes = Vec::new();
    for seed in 0..20_000 {
        let mut rng = Rng(seed);
        let (client, server) = (rng.client(), rng.server());
        bytes.clear();
        encode_client(&client, &mut bytes).expect("a random message can be written");
        seen.insert(kinds::client_kind(&client));
        assert_eq!(decode_client(&bytes), Ok(vec![client]), "seed {seed}");
        bytes.clear();
        encode_server(&server, &mut bytes).expect("a random message can be written");
        seen.insert(kinds::server_name(&server));
        assert_eq!(decode_server(&bytes), Ok(vec![server]), "seed {seed}");
    }
    for kind in kinds::CLIENT_KINDS.iter().copied().chain(kinds::server_names()) {
        assert!(seen.contains(kind), "no random message was a {kind}");
    }
}

#[test]
fn random_messages_between_nodes_come_back() {
    let mut seen = BTreeSet::new();
    let mut bytes = Vec::new();
    for seed in 0..20_000 {
        let envelope = Rng(seed).peer();
        bytes.clear();
        encode_peer(&envelope, &mut bytes).expect("a random message can be written");
        seen.insert(peer::peer_kind(&envelope.message));
        assert_eq!(decode_peer(&bytes), Ok(vec![envelope]), "seed {seed}");
    }
    for kind in peer::PEER_KINDS {
        assert!(seen.contains(kind), "no random message was a {kind}");
    }
}

#[test]
fn a_link_is_told_from_a_client_by_its_first_bytes() {
    assert!(split_frame(&LINK_MAGIC, LINK_FRAME_BYTES).is_err());
}

#[test]
fn an_answer_too_long_for_a_frame_is_refused_and_a_report_never_is() {
    let envelope = |message| Envelope { seq: 1, ack: 0, epoch: 1, scn: 1, message };
    let (_, edges) = samples::server().into_iter().find(|(name, _)| *name == "report-waits").expect("a sample");
    let ServerMessage::Reply { reply: Reply::Report(report), .. } = edges else { panic!("no report") };
    let (mut writer, mut out) = (FrameWriter::new(128), Vec::new());
    writer.peer(&mut out, &envelope(PeerMessage::Answer { ask: 9, report: *report })).expect("a refusal fits");
    let (body, _) = split_frame(&out, 128).expect("a frame").expect("whole");
    let refused = Reply::Refused(Refusal::Limit(LimitName::FrameBytes));
    assert_eq!(decode_peer(body), Ok(vec![envelope(PeerMessage::Obeyed { ask: 9, reply: refused })]));

    let before = out.clone();
    let unsettled = vec![Slot(1); 64];
    let done = envelope(PeerMessage::ReportDone { epoch: 1, unsettled });
    assert!(matches!(writer.peer(&mut out, &done), Err(EncodeError::FrameTooLong { .. })));
    assert_eq!(out, before);
}

#[test]
fn many_messages_share_frames_of_bounded_length() {
    for (seed, max) in (0..60).zip([100_000, 200_000, 1_000_000].into_iter().cycle()) {
        let mut rng = Rng(seed);
        let (mut writer, mut out, mut sent) = (FrameWriter::new(max), Vec::new(), Vec::new());
        for _ in 0..200 {
            let message = rng.client();
            match writer.client(&mut out, &message) {
                Ok(()) => sent.push(message),
                Err(error) => assert!(matches!(error, EncodeError::FrameTooLong { .. }), "{error}"),
            }
            if rng.below(50) == 0 {
                writer.finish();
            }
        }
        let (mut got, mut rest) = (Vec::new(), &out[..]);
        while let Some((body, used)) = split_frame(rest, max).expect("our own frames") {
            got.extend(decode_client(body).expect("our own messages"));
            rest = &rest[used..];
        }
        assert!(rest.is_empty(), "seed {seed}: the buffer does not hold whole frames");
        assert!(got == sent, "seed {seed}");
    }
}

#[test]
fn a_frame_is_whole_after_every_message() {
    let (mut writer, mut out) = (FrameWriter::new(64), Vec::new());
    let renew = ClientMessage::Renew { seq: 1 };
    for count in 1..=12 {
        writer.client(&mut out, &renew).expect("fits");
        let (mut messages, mut rest) = (0, &out[..]);
        while let Some((body, used)) = split_frame(rest, 64).expect("our own") {
            messages += body.len() / 9;
            rest = &rest[used..];
        }
        assert_eq!((messages, rest.len()), (count, 0));
    }
    // 8 + 6 * 9 = 62: six to a frame.
    assert_eq!(out.len(), 2 * HEADER_BYTES + 12 * 9);
}

#[test]
fn an_empty_frame_leaves_nothing() {
    let mut out = vec![1, 2, 3];
    let mark = open_frame(&mut out);
    close_frame(&mut out, mark);
    assert_eq!(out, [1, 2, 3]);
}

#[test]
fn what_a_reader_would_refuse_is_not_written() {
    let long = vec![b'x'; 65_536];
    let lock = |lock: LockRequest<'static>| ClientMessage::Request { id: RequestId(1), op: Op::Lock(lock) };
    let long_name =
        ClientMessage::Request { id: RequestId(1), op: Op::Lock(LockRequest { name: &long, ..samples::lock() }) };
    let cases = [
        (long_name, EncodeError::TooLong { field: "name", length: 65_536, max: 65_535 }),
        (lock(LockRequest { flags: Flags(1 << 31), ..samples::lock() }), EncodeError::Number { field: "flag" }),
        (lock(LockRequest { claim: Claim::Mode(Mode(32)), ..samples::lock() }), EncodeError::Number { field: "mode" }),
    ];
    for (message, error) in cases {
        let (mut writer, mut out) = (FrameWriter::new(1 << 20), Vec::new());
        assert_eq!(writer.client(&mut out, &message), Err(error));
        assert!(out.is_empty(), "the buffer is as before");
        writer.client(&mut out, &ClientMessage::Goodbye).expect("the writer goes on");
        assert_eq!(writer.client(&mut out, &message), Err(error));
        assert_eq!(out.len(), HEADER_BYTES + 1, "the buffer is as before");
    }
}

fn report(report: Report) -> ServerMessage {
    ServerMessage::Reply { id: RequestId(3), reply: Reply::Report(Box::new(report)) }
}

#[test]
fn a_report_too_long_for_a_frame_says_that_there_is_more() {
    let row = |n: u32| SessionRow {
        session: SessionId(n.into()),
        home: NodeId(1),
        local: true,
        connected: true,
        ttl: Span::from_secs(10),
        left: Span::from_secs(9),
        age: Span::from_secs(8),
        locks: n,
        principal: String::new(),
        meta: Meta { purpose: format!("{n:0800}"), ..Meta::default() },
    };
    let rows: Vec<_> = (0..100).map(row).collect();
    let long = report(Report::Sessions { rows: rows.clone(), more: false });
    let (mut writer, mut out) = (FrameWriter::new(32_768), Vec::new());
    assert!(matches!(writer.server(&mut out, &long), Err(EncodeError::FrameTooLong { .. })));
    assert!(out.is_empty());
    writer.server_fitting(&mut out, &long).expect("a shorter one fits");
    let (body, _) = split_frame(&out, 32_768).expect("a frame").expect("whole");
    let expected = report(Report::Sessions { rows: rows[..25].to_vec(), more: true });
    assert!(decode_server(body) == Ok(vec![expected]));
}

/// The report among the samples.
fn sample(name: &str) -> Report {
    let found = samples::server().into_iter().find(|sample| sample.0 == name);
    match found.map(|sample| sample.1) {
        Some(ServerMessage::Reply { reply: Reply::Report(report), .. }) => *report,
        other => panic!("{name}: {other:?}"),
    }
}

/// What of a report arrives where a frame is small.
fn fitted(long: Report) -> Report {
    let (mut writer, mut out) = (FrameWriter::new(4_096), Vec::new());
    writer.server_fitting(&mut out, &report(long)).expect("a shorter one fits");
    let (body, _) = split_frame(&out, 4_096).expect("a frame").expect("whole");
    match decode_server(body).expect("messages").pop() {
        Some(ServerMessage::Reply { reply: Reply::Report(report), .. }) => *report,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_report_cut_short_says_what_it_leaves_out() {
    let Report::Waits(Waits { edges, .. }) = sample("report-waits") else { panic!("waits") };
    let edges: Vec<WaitEdge> = edges.iter().cycle().take(500).cloned().collect();
    let Report::Waits(part) = fitted(Report::Waits(Waits { edges, waiting: 500, more: false, taking_over: 0 })) else {
        panic!("waits")
    };
    assert_eq!((part.waiting, part.more, part.edges.len()), (500, true, 500 / 32));

    let Report::Resource(Some(mut detail)) = sample("report-resource") else { panic!("a resource") };
    detail.waiting = detail.waiting.iter().cycle().take(8_000).cloned().collect();
    let Report::Resource(Some(part)) = fitted(Report::Resource(Some(detail))) else { panic!("a resource") };
    assert_eq!(
        (part.granted.len(), part.converting.len(), part.left_out.granted),
        (1, 1, 0),
        "short queues stay whole"
    );
    assert_eq!(part.waiting.len() as u32 + part.left_out.waiting, 7_312 + 8_000);
    assert!(!part.waiting.is_empty());

    let Report::Deadlocks(Deadlocks { reports, .. }) = sample("report-deadlocks") else { panic!("deadlocks") };
    let numbered = |number| DeadlockReport { number, ..reports[0].clone() };
    let many = Deadlocks { reports: (1..=100).map(numbered).collect(), left_out: 0 };
    let Report::Deadlocks(part) = fitted(Report::Deadlocks(many)) else { panic!("deadlocks") };
    assert_eq!(part.reports.first().map(|r| r.number), Some(u64::from(part.left_out) + 1), "the newest stay");
    assert_eq!(part.reports.last().map(|r| (r.number, r.left_out)), Some((100, 1)), "short cycles stay whole");

    let cycle: Vec<WaitEdge> = reports[0].cycle.iter().cycle().take(3_000).cloned().collect();
    let long = Deadlocks { reports: vec![DeadlockReport { cycle, left_out: 0, ..numbered(1) }], left_out: 0 };
    let Report::Deadlocks(part) = fitted(Report::Deadlocks(long)) else { panic!("deadlocks") };
    assert_eq!((part.reports.len(), part.left_out), (1, 0));
    assert_eq!(part.reports[0].cycle.len() as u32 + part.reports[0].left_out, 3_000);
    assert!(!part.reports[0].cycle.is_empty());
}

#[test]
fn a_report_that_cannot_say_so_is_refused_and_a_grant_never_is() {
    let Report::Spaces(spaces) = sample("report-spaces") else { panic!("lockspaces") };
    let long = report(Report::Spaces(spaces.iter().cycle().take(500).cloned().collect()));
    let (mut writer, mut out) = (FrameWriter::new(4_096), Vec::new());
    writer.server_fitting(&mut out, &long).expect("a refusal fits");
    let (body, _) = split_frame(&out, 4_096).expect("a frame").expect("whole");
    let refused = Reply::Refused(Refusal::Limit(LimitName::FrameBytes));
    assert_eq!(decode_server(body), Ok(vec![ServerMessage::Reply { id: RequestId(3), reply: refused }]));

    let value = lockstead_types::reply::Value { bytes: vec![0; 8_192].into(), invalid: false };
    let long = ServerMessage::Reply { id: RequestId(4), reply: Reply::Value(value) };
    let before = out.clone();
    assert!(matches!(writer.server_fitting(&mut out, &long), Err(EncodeError::FrameTooLong { .. })));
    assert_eq!(out, before);
}
