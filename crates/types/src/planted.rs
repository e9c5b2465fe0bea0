//! Bugs that the simulator plants to see whether it finds them: one at a time, chosen at run time. Exists only with the
//! feature `planted`, which no build that ships has.

use core::sync::atomic::{AtomicU32, Ordering};

/// The bug that is planted now; 0 for none.
static PLANTED: AtomicU32 = AtomicU32::new(0);

/// Where a bug can be seen.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Scope {
    /// At a node that knows of no cluster.
    Alone,
    /// Among members.
    Cluster,
    /// Among members that nothing disturbs.
    Calm,
    /// Where programs run transactions.
    Deals,
    /// The same where nothing disturbs them.
    CalmDeals,
    /// Where programs are members of groups.
    Groups,
}

macro_rules! bugs {
    ($($name:ident $scope:ident $within:literal $text:literal;)*) => {
        /// A bug.
        #[derive(Copy, Clone, PartialEq, Eq, Debug)]
        #[repr(u32)]
        pub enum Bug {
            /// None.
            None = 0,
            $(
                #[doc = $text]
                $name,
            )*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &[Bug] = &[$(Bug::$name,)*];

            /// What it does.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    Bug::None => "none",
                    $(Bug::$name => $text,)*
                }
            }

            /// Where it can be seen.
            #[must_use]
            pub const fn scope(self) -> Scope {
                match self {
                    Bug::None => Scope::Alone,
                    $(Bug::$name => Scope::$scope,)*
                }
            }

            /// After so many seeds it must have been caught.
            #[must_use]
            pub const fn within(self) -> u64 {
                match self {
                    Bug::None => 0,
                    $(Bug::$name => $within,)*
                }
            }
        }
    };
}

bugs! {
    Compatible Alone 50 "the table takes PW for compatible with PR";
    OldModeFirst Alone 50 "a conversion that waits lets go of its old mode";
    SameToken Alone 50 "a conversion up keeps its token";
    TokenReuse Alone 50 "tokens start again from the same number after a restart";
    NoBlocking Alone 50 "a holder is not told that somebody waits";
    NoPromote Alone 50 "a release serves nobody who waits";
    NoWaiterLimit Alone 50 "the bound on waiters is not looked at";
    CancelFrees Alone 50 "a conversion that ends without its grant frees the lock";
    LostValue Alone 50 "a value that is written is dropped";
    NoFreeze Alone 50 "a node that restarts grants at once";
    ShortFreeze Alone 50 "the freeze ends with the first session that is back";
    NotJournaled Alone 100 "a session that opens is not written to the journal";
    ExpireEarly Alone 50 "a lease ends a quarter before its time";
    NeverExpire Alone 50 "the locks of a session whose lease ran out stay";
    ConnectionIsLease Alone 50 "the end of a remote connection ends its session";
    AnswerLost Alone 150 "an answer is not kept until it is acknowledged";
    LateDeadline Alone 50 "the client counts on more than its lease";
    FromAnswer Alone 300 "the client counts its lease from the answer";
    NotRepeated Alone 50 "the client does not ask again what has no answer";
    GateSharedOnly Alone 50 "the gate looks at writers alone";
    QueueJumped Alone 50 "one that waits is granted before those that waited longer";
    NoSearch Alone 50 "nobody looks for cycles of waits";
    InheritedUnfrozen Cluster 50 "a master grants at once in slots it inherits";
    ThawAtFirst Cluster 50 "the freeze of inherited slots ends with the first home that has reported";
    HomelessForgotten Cluster 50 "a new master does not wait for sessions whose home is gone";
    SilentHomeForgotten Cluster 800 "nobody waits for the sessions of a home that dies before its report";
    ActsOn Cluster 50 "a member goes on when its authority has run out";
    DeposedExpires Cluster 50 "a member without authority ends sessions";
    AuthorityUndiscounted Cluster 800 "authority is not discounted for clocks that differ";
    AuthorityFromAnswer Cluster 300 "authority counts from the answer to a renewal, not from its sending";
    EvictEarly Cluster 50 "the steward evicts after half an authority";
    CondemnedRenewed Cluster 200 "a member whose eviction was proposed is renewed";
    HomelessEndedEarly Cluster 50 "the steward ends a session without a home before its lease is over";
    HomelessStay Cluster 50 "the steward never ends a session without a home";
    TokenEpochStays Cluster 50 "a master's tokens stay in the epoch in which it started";
    CopyLoweredFirst Cluster 500 "the home forgets the old mode when a conversion is sent";
    NoticeNotRelayed Cluster 50 "a blocking notice for a session of another home is lost";
    ProbeLost Calm 200 "no probe goes to another master: cycles over several are not found";
    PhantomDeadlock Cluster 300 "a cycle is broken though one of its edges is gone";
    PlaceLost Cluster 300 "who waits and comes to another home is last";
    WaiterDropped Cluster 150 "who waits is left out of the report to a new master";
    LinkRepeats Cluster 150 "a link hands messages on again after it was broken";
    EpochNotAwaited Cluster 100 "a message of a later epoch is handled before that is reached";
    AnyGeneration Cluster 250 "a node decides for whatever slot it is asked about";
    OldMasterHeard Cluster 500 "an answer of the former master counts after the report to the new one";
    OlderHomeHeard Cluster 300 "what an earlier home of a session says counts";
    OldHomeStays Cluster 500 "the home a session has left goes on for it";
    SealUnread Cluster 100 "a claim needs no seal";
    GroupLockGoes Groups 50 "a lock of a group goes with the first of its users that lets go";
    OrderForgotten Deals 100 "whom one stands behind is not looked at when ages say who may wait";
    WoundLost CalmDeals 100 "a transaction that must give way is not told";
    LockLeft Deals 50 "the end of a transaction leaves its last lock";
    AgeLost Deals 800 "a transaction that is tried again is as young as a new one";
    ChangeNotRelayed Cluster 50 "a watcher at another node is not told of changes";
}

/// Plants a bug, and takes the one before out.
pub fn plant(bug: Bug) {
    PLANTED.store(bug as u32, Ordering::Relaxed);
}

/// Whether this one is planted.
#[must_use]
pub fn is(bug: Bug) -> bool {
    PLANTED.load(Ordering::Relaxed) == bug as u32
}
