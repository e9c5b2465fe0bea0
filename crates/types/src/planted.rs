//! Bugs that the simulator plants to see whether it finds them: one at a time, chosen at run time. Exists only with the
//! feature `planted`, which no build that ships has.

use core::sync::atomic::{AtomicU32, Ordering};

/// The bug that is planted now; 0 for none.
static PLANTED: AtomicU32 = AtomicU32::new(0);

macro_rules! bugs {
    ($($name:ident $text:literal;)*) => {
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
        }
    };
}

bugs! {
    Compatible "the table takes PW for compatible with PR";
    OldModeFirst "a conversion that waits lets go of its old mode";
    SameToken "a conversion up keeps its token";
    TokenReuse "tokens start again from the same number after a restart";
    NoBlocking "a holder is not told that somebody waits";
    NoPromote "a release serves nobody who waits";
    NoWaiterLimit "the bound on waiters is not looked at";
    CancelFrees "a conversion that ends without its grant frees the lock";
    LostValue "a value that is written is dropped";
    NoFreeze "a node that restarts grants at once";
    ShortFreeze "the freeze ends with the first session that is back";
    NotJournaled "a session that opens is not written to the journal";
    ExpireEarly "a lease ends a quarter before its time";
    NeverExpire "the locks of a session whose lease ran out stay";
    ConnectionIsLease "the end of a remote connection ends its session";
    AnswerLost "an answer is not kept until it is acknowledged";
    LateDeadline "the client counts on more than its lease";
    FromAnswer "the client counts its lease from the answer";
    NotRepeated "the client does not ask again what has no answer";
    GateSharedOnly "the gate looks at writers alone";
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
