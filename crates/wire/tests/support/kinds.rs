//! Every kind of message by name. The matches are exhaustive, so a new variant does not compile until it is named here,
//! and then the samples and the random messages must have it.

use lockstead_types::{
    message::{ClientMessage, ServerMessage},
    reply::{Notice, Reply},
    report::Report,
    request::{Op, Query},
};

macro_rules! kinds {
    ($function:ident, $list:ident, $type:ty { $($pattern:pat => $name:literal,)* }) => {
        pub(crate) const $list: &[&str] = &[$($name),*];

        pub(crate) fn $function(message: &$type) -> &'static str {
            match message { $($pattern => $name,)* }
        }
    };
}

kinds!(client_kind, CLIENT_KINDS, ClientMessage<'_> {
    ClientMessage::Hello { .. } => "hello",
    ClientMessage::Open { .. } => "open",
    ClientMessage::Attach { .. } => "attach",
    ClientMessage::Reclaim { .. } => "reclaim",
    ClientMessage::Again { .. } => "again",
    ClientMessage::ReclaimDone => "reclaim-done",
    ClientMessage::Renew { .. } => "renew",
    ClientMessage::Ack { .. } => "ack",
    ClientMessage::Goodbye => "goodbye",
    ClientMessage::Request { op: Op::Lock(_), .. } => "lock",
    ClientMessage::Request { op: Op::LockMany(_), .. } => "lock-many",
    ClientMessage::Request { op: Op::LockPath(_), .. } => "lock-path",
    ClientMessage::Request { op: Op::Convert(_), .. } => "convert",
    ClientMessage::Request { op: Op::Release { .. }, .. } => "release",
    ClientMessage::Request { op: Op::Cancel(_), .. } => "cancel",
    ClientMessage::Request { op: Op::ReadValue(_), .. } => "read-value",
    ClientMessage::Request { op: Op::Sync, .. } => "sync",
    ClientMessage::Request { op: Op::GroupAttach { .. }, .. } => "group-attach",
    ClientMessage::Request { op: Op::GroupDetach(_), .. } => "group-detach",
    ClientMessage::Request { op: Op::SpaceOpen { .. }, .. } => "space-open",
    ClientMessage::Request { op: Op::SpaceCreate(_), .. } => "space-create",
    ClientMessage::Request { op: Op::SpaceDrop { .. }, .. } => "space-drop",
    ClientMessage::Request { op: Op::Purge { .. }, .. } => "purge",
    ClientMessage::Request { op: Op::ForceRelease { .. }, .. } => "force-release",
    ClientMessage::Request { op: Op::EndSession { .. }, .. } => "end-session",
    ClientMessage::Request { op: Op::Watch { .. }, .. } => "watch",
    ClientMessage::Request { op: Op::Unwatch, .. } => "unwatch",
    ClientMessage::Request { op: Op::Cluster(_), .. } => "cluster",
    ClientMessage::Request { op: Op::Begin { .. }, .. } => "begin",
    ClientMessage::Request { op: Op::Resume(_), .. } => "resume",
    ClientMessage::Request { op: Op::Commit, .. } => "commit",
    ClientMessage::Request { op: Op::Rollback { .. }, .. } => "rollback",
    ClientMessage::Request { op: Op::Savepoint, .. } => "savepoint",
    ClientMessage::Request { op: Op::EndStatement, .. } => "end-statement",
    ClientMessage::Request { op: Op::Query(Query::Resources { .. }), .. } => "query-resources",
    ClientMessage::Request { op: Op::Query(Query::Resource { .. }), .. } => "query-resource",
    ClientMessage::Request { op: Op::Query(Query::Waits), .. } => "query-waits",
    ClientMessage::Request { op: Op::Query(Query::Sessions { .. }), .. } => "query-sessions",
    ClientMessage::Request { op: Op::Query(Query::Deadlocks), .. } => "query-deadlocks",
    ClientMessage::Request { op: Op::Query(Query::Status), .. } => "query-status",
    ClientMessage::Request { op: Op::Query(Query::Spaces), .. } => "query-spaces",
    ClientMessage::Request { op: Op::Query(Query::Members), .. } => "query-members",
});

kinds!(server_kind, SERVER_KINDS, ServerMessage {
    ServerMessage::Welcome(_) => "welcome",
    ServerMessage::Rejected { .. } => "rejected",
    ServerMessage::Opened { .. } => "opened",
    ServerMessage::Attached(_) => "attached",
    ServerMessage::Ended => "ended",
    ServerMessage::Renewed { .. } => "renewed",
    ServerMessage::Bye => "bye",
    ServerMessage::Notice(Notice::Blocking { .. }) => "blocking",
    ServerMessage::Notice(Notice::Revoked { .. }) => "revoked",
    ServerMessage::Notice(Notice::Changed(_)) => "changed",
    ServerMessage::Notice(Notice::Resync) => "resync",
    ServerMessage::Notice(Notice::Aborted) => "aborted",
    ServerMessage::Reply { reply: Reply::Queued(_), .. } => "queued",
    ServerMessage::Reply { reply: Reply::Granted(_), .. } => "granted",
    ServerMessage::Reply { reply: Reply::GrantedMany(_), .. } => "granted-many",
    ServerMessage::Reply { reply: Reply::GrantedPath(_), .. } => "granted-path",
    ServerMessage::Reply { reply: Reply::Released, .. } => "released",
    ServerMessage::Reply { reply: Reply::Cancelled, .. } => "cancelled",
    ServerMessage::Reply { reply: Reply::Value(_), .. } => "value",
    ServerMessage::Reply { reply: Reply::Done, .. } => "done",
    ServerMessage::Reply { reply: Reply::Group(_), .. } => "group",
    ServerMessage::Reply { reply: Reply::Space(_), .. } => "space",
    ServerMessage::Reply { reply: Reply::Purged(_), .. } => "purged",
    ServerMessage::Reply { reply: Reply::Refused(_), .. } => "refused",
    ServerMessage::Reply { reply: Reply::Report(_), .. } => "report",
    ServerMessage::Reply { reply: Reply::Demoted { .. }, .. } => "demoted",
    ServerMessage::Reply { reply: Reply::Begun(_), .. } => "begun",
    ServerMessage::Reply { reply: Reply::Savepoint(_), .. } => "at-savepoint",
});

kinds!(report_kind, REPORT_KINDS, Report {
    Report::Resources { .. } => "report-resources",
    Report::Resource(_) => "report-resource",
    Report::Waits(_) => "report-waits",
    Report::Sessions { .. } => "report-sessions",
    Report::Deadlocks(_) => "report-deadlocks",
    Report::Status(_) => "report-status",
    Report::Spaces(_) => "report-spaces",
    Report::Members(_) => "report-members",
});

/// The kind of a node's message, reports told apart.
pub(crate) fn server_name(message: &ServerMessage) -> &'static str {
    match message {
        ServerMessage::Reply { reply: Reply::Report(report), .. } => report_kind(report),
        other => server_kind(other),
    }
}

/// All that [`server_name`] may say.
pub(crate) fn server_names() -> Vec<&'static str> {
    SERVER_KINDS.iter().filter(|k| **k != "report").chain(REPORT_KINDS).copied().collect()
}
