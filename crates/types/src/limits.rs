//! Every bound of the system, in one place. Nothing grows without one, and each has its own refusal `limit:NAME`.

use core::fmt;

use crate::time::Span;

/// The hard ceiling of a value block in bytes, whatever a lockspace asks for.
pub const VALUE_BYTES_CEILING: u32 = 65_536;
/// No value block of a persistent lockspace is longer: every member has each on its disk.
pub const PERSISTENT_VALUE_BYTES: u32 = 1_024;
/// The hard ceiling of a resource name in bytes.
pub const NAME_BYTES_CEILING: u32 = 4_096;
/// So many sessions stand within each other at most ([DEAD-13]).
pub const SESSIONS_WITHIN: usize = 16;

macro_rules! limits {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $default:expr, $variant:ident, $text:literal;)*) => {
        /// Every bound, with its default.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub struct Limits { $($(#[$doc])* pub $field: $type,)* }

        impl Default for Limits {
            fn default() -> Limits { Limits { $($field: $default,)* } }
        }

        /// The name of a bound: what a refusal says was reached.
        #[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum LimitName { $($(#[$doc])* $variant,)* }

        impl LimitName {
            /// All of them, in the order of [`Limits`].
            pub const ALL: &[LimitName] = &[$(LimitName::$variant,)*];

            /// As it stands in `refused limit:NAME`.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(LimitName::$variant => $text,)* }
            }

            /// The bound of that number (the inverse of `as u8`).
            #[must_use]
            pub fn from_u8(n: u8) -> Option<LimitName> {
                LimitName::ALL.get(usize::from(n)).copied()
            }
        }
    };
}

limits! {
    /// Bytes of a resource name; at most [`NAME_BYTES_CEILING`].
    name_bytes: u32 = 1_024, NameBytes, "name-bytes";
    /// Bytes of a value block in a lockspace that names no limit of its own.
    value_bytes: u32 = 64, ValueBytes, "value-bytes";
    /// Resources that exist at once.
    resources: u32 = 64_000_000, Resources, "resources";
    /// Locks that exist at once, granted or not.
    locks: u32 = 64_000_000, Locks, "locks";
    /// Locks of one session.
    locks_per_session: u32 = 16_000_000, LocksPerSession, "locks-per-session";
    /// Requests and conversions that wait on one resource.
    waiters_per_resource: u32 = 100_000, WaitersPerResource, "waiters-per-resource";
    /// Permits a resource may have.
    permits: u32 = 1_000_000_000, Permits, "permits";
    /// Names in one all-or-nothing request.
    names_per_request: u32 = 1_024, NamesPerRequest, "names-per-request";
    /// Sessions that exist at once.
    sessions: u32 = 1_000_000, Sessions, "sessions";
    /// Groups that exist at once.
    groups: u32 = 100_000, Groups, "groups";
    /// Members of one group.
    members_per_group: u32 = 10_000, MembersPerGroup, "members-per-group";
    /// Lockspaces.
    spaces: u32 = 1_024, Spaces, "spaces";
    /// Orphaned (persistent) locks that exist at once.
    orphans: u32 = 1_000_000, Orphans, "orphans";
    /// Deadlock reports kept, oldest dropped first.
    deadlock_reports: u32 = 256, DeadlockReports, "deadlock-reports";
    /// Wait-for edges one search follows; beyond it the search gives up and the request only waits.
    deadlock_edges: u32 = 1_000_000, DeadlockEdges, "deadlock-edges";
    /// So long at most a session waits before cycles over several masters are looked for; a tenth of it at least.
    deadlock_delay: Span = Span::from_millis(100), DeadlockDelay, "deadlock-delay";
    /// Requests of one session that have no answer yet, and answers the session has not acknowledged.
    in_flight: u32 = 4_096, InFlight, "in-flight";
    /// Watches that exist at once.
    watches: u32 = 1_024, Watches, "watches";
    /// Rows of one answer to a query; more come by asking again from the last.
    rows_per_answer: u32 = 1_000, RowsPerAnswer, "rows-per-answer";
    /// Bytes of holder metadata (host, program and purpose together).
    meta_bytes: u32 = 1_024, MetaBytes, "meta-bytes";
    /// Connections that exist at once.
    connections: u32 = 65_000, Connections, "connections";
    /// Bytes of one frame.
    frame_bytes: u32 = 1_048_576, FrameBytes, "frame-bytes";
    /// Bytes waiting to be written to one connection; a client that reads slower is cut off.
    output_bytes: u32 = 16_777_216, OutputBytes, "output-bytes";
    /// The shortest lease.
    ttl_min: Span = Span::from_millis(500), TtlMin, "ttl-min";
    /// The longest lease.
    ttl_max: Span = Span::from_secs(3_600), TtlMax, "ttl-max";
}

impl fmt::Display for LimitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
