//! The flags of a request, under their VMS names. A set of bits only until [`Flags::check`] has found that they make
//! sense together; inside the lock manager every illegal pair has been refused ([FLAG-1]).

use crate::refusal::Refusal;

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $text:literal;)*) => {
        impl Flags {
            $($(#[$doc])* pub const $name: Flags = Flags(1 << $bit);)*

            /// Every flag with its name in lower case.
            pub const ALL: &[(Flags, &str)] = &[$((Flags::$name, $text),)*];
        }
    };
}

/// A set of flags.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Flags(pub u32);

flags! {
    /// Never wait: refuse with `would-wait`. The same as [`crate::request::Wait::Never`].
    NOQUEUE = 0, "noqueue";
    /// Take part in the transfer of the value block.
    VALBLK = 1, "valblk";
    /// Go behind the conversions that wait, though compatible.
    QUECVT = 2, "quecvt";
    /// Where this would write the value block, mark it invalid instead.
    IVVALBLK = 3, "ivvalblk";
    /// In a conversion deadlock, fall back to the null mode and wait, instead of being refused.
    CONVDEADLK = 4, "convdeadlk";
    /// The lock outlives its session as an orphan.
    PERSISTENT = 5, "persistent";
    /// This wait is no edge in deadlock search.
    NODLCKWT = 6, "nodlckwt";
    /// This lock, once held, is no edge in deadlock search.
    NODLCKBLK = 7, "nodlckblk";
    /// A new request in the null mode is granted at once, whatever waits.
    EXPEDITE = 8, "expedite";
    /// A request refused with `would-wait` still sends blocking notices.
    NOQUEUEBAST = 9, "noqueuebast";
    /// Wait at the head of the queue.
    HEADQUE = 10, "headque";
    /// Be granted as soon as compatible with what is granted, whatever waits before.
    NOORDER = 11, "noorder";
    /// Adopt an orphan of exactly this mode.
    ORPHAN = 12, "orphan";
    /// If the mode cannot be granted, try PR.
    ALTPR = 13, "altpr";
    /// If the mode cannot be granted, try CW.
    ALTCW = 14, "altcw";
    /// Release even if it waits or converts.
    FORCEUNLOCK = 15, "forceunlock";
    /// Send no blocking notices for this lock.
    NOBAST = 16, "nobast";
}

/// What a set of flags came with.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum FlagUse {
    /// A new request; whether the mode is the null mode.
    Lock {
        /// Whether the mode asked for conflicts with nothing.
        null: bool,
    },
    /// A conversion.
    Convert,
    /// A release.
    Release,
}

impl Flags {
    /// No flags.
    pub const NONE: Flags = Flags(0);

    /// Whether all of `other` are set.
    #[must_use]
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// The flag of a name, case ignored.
    #[must_use]
    pub fn parse(name: &str) -> Option<Flags> {
        Flags::ALL.iter().find(|(_, n)| n.eq_ignore_ascii_case(name)).map(|(f, _)| *f)
    }

    /// Refuses what makes no sense together.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], as `fs/dlm` answers `EINVAL` (`set_lock_args`, `set_unlock_args`).
    pub fn check(self, of: FlagUse) -> Result<(), Refusal> {
        // Nothing to disagree: most requests.
        if self == Flags::NONE {
            return Ok(());
        }
        let only = |allowed: Flags| self.0 & !allowed.0 == 0;
        let common = Flags(
            Flags::NOQUEUE.0
                | Flags::VALBLK.0
                | Flags::PERSISTENT.0
                | Flags::NODLCKWT.0
                | Flags::NODLCKBLK.0
                | Flags::NOQUEUEBAST.0
                | Flags::HEADQUE.0
                | Flags::NOORDER.0
                | Flags::ALTPR.0
                | Flags::ALTCW.0
                | Flags::NOBAST.0,
        );
        let fits = match of {
            // [FLAG-1] A new request: QUECVT, CONVDEADLK and IVVALBLK belong to conversions, FORCEUNLOCK to releases.
            FlagUse::Lock { .. } => only(common.with(Flags::EXPEDITE).with(Flags::ORPHAN)),
            // [FLAG-2] A conversion: EXPEDITE and ORPHAN belong to new requests.
            FlagUse::Convert => only(common.with(Flags::QUECVT).with(Flags::CONVDEADLK).with(Flags::IVVALBLK)),
            // [FLAG-3] A release knows three flags.
            FlagUse::Release => only(Flags::VALBLK.with(Flags::IVVALBLK).with(Flags::FORCEUNLOCK)),
        };
        // [FLAG-4] EXPEDITE is for the null mode only, and never with NOQUEUE.
        let null = matches!(of, FlagUse::Lock { null: true });
        let expedite = !self.has(Flags::EXPEDITE) || (null && !self.has(Flags::NOQUEUE));
        // [FLAG-5] CONVDEADLK is about waiting; with NOQUEUE nothing waits.
        let convdeadlk = !self.has(Flags::CONVDEADLK) || !self.has(Flags::NOQUEUE);
        // [FLAG-6] One alternative mode at most.
        let one_alternative = !self.has(Flags::ALTPR.with(Flags::ALTCW));
        if fits && expedite && convdeadlk && one_alternative { Ok(()) } else { Err(Refusal::Invalid) }
    }
}
