//! May this be granted now? Answered here and nowhere else: a pure function of what is asked and of how things stand.
//!
//! After `_can_be_granted` of `fs/dlm`, which cites Davis, *VAXcluster Principles*, chapter 6.

use lockstead_types::{Flags, Mode, ModeSet, ModeTable};

/// What is asked.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Ask {
    /// The mode, or permits.
    pub(crate) what: What,
    /// The mode held already: then it is a conversion.
    pub(crate) held: Option<Mode>,
    pub(crate) flags: Flags,
}

/// A mode or permits.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum What {
    Mode(Mode),
    Permits(u32),
}

/// How things stand for who asks.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Standing {
    /// The modes others hold; conversions under way hold their old mode ([GRANT-6]).
    pub(crate) others: ModeSet,
    /// Permits nobody holds.
    pub(crate) free: u32,
    /// Whether it comes just now, or waits in a queue already.
    pub(crate) place: Place,
    /// Whether other conversions wait.
    pub(crate) converting: bool,
    /// Whether new requests wait.
    pub(crate) waiting: bool,
    /// Nothing new is granted at all: after a restart, or because the epoch has no tokens left.
    pub(crate) closed: bool,
    /// One that came before was overtaken as often as the bound allows, and this would pass it ([FAIR-1]).
    pub(crate) held_back: bool,
    /// This was overtaken as often as the bound allows ([FAIR-2]).
    pub(crate) due: bool,
}

/// Where it stands.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    Arriving,
    Head,
    Behind,
}

/// Whether `ask` may be granted now.
pub(crate) fn may_grant(modes: &ModeTable, ask: &Ask, standing: &Standing) -> bool {
    if is_down(modes, ask) {
        // [CONV-2] A conversion down, or to the mode held, disturbs nobody: granted in place, always.
        return true;
    }
    // [FREEZE-1] [TOKEN-4] While closed nothing new is granted.
    if standing.closed {
        return false;
    }
    // [GRANT-3] EXPEDITE is of the null mode, which conflicts with nothing: no queue matters.
    if ask.flags.has(Flags::EXPEDITE) {
        return true;
    }
    let fits = match ask.what {
        // [MODE-1] [GRANT-1] Compatible with what every other lock holds, [GRANT-6] those that convert included.
        What::Mode(mode) => modes.conflicts_of(mode).is_disjoint(standing.others),
        // [PERMIT-3] So many permits are free.
        What::Permits(take) => take <= standing.free,
    };
    #[cfg(feature = "planted")]
    let fits = fits
        || (lockstead_types::planted::is(lockstead_types::planted::Bug::Compatible)
            && matches!(ask.what, What::Mode(Mode(4)))
            && standing.others.is_subset(ModeSet::EMPTY.with(Mode(0)).with(Mode(3))));
    if !fits {
        return false;
    }
    // [FAIR-1] The bound on overtaking, then [FAIR-2] the right of one that was overtaken so often.
    if standing.held_back || standing.due {
        return !standing.held_back;
    }
    let conversion = ask.held.is_some();
    // [CONV-1] A conversion that comes is granted in place, however many wait;
    // [CONV-4] with QUECVT only if no other conversion waits.
    if conversion && standing.place == Place::Arriving {
        return !standing.converting || !ask.flags.has(Flags::QUECVT);
    }
    // [GRANT-4] NOORDER: what fits is granted, whatever waits before.
    if ask.flags.has(Flags::NOORDER) {
        return true;
    }
    #[cfg(feature = "planted")]
    if standing.place == Place::Behind && lockstead_types::planted::is(lockstead_types::planted::Bug::QueueJumped) {
        return true;
    }
    match standing.place {
        // [GRANT-2] A new request that comes does not pass those that wait.
        Place::Arriving => !standing.converting && !standing.waiting,
        // [CONV-3] Of the conversions that wait, the first; [GRANT-5] of the new requests that wait, the first, once no
        // conversion waits.
        Place::Head => conversion || !standing.converting,
        Place::Behind => false,
    }
}

/// Whether it is a conversion that demands no more than is held ([CONV-2]).
pub(crate) fn is_down(modes: &ModeTable, ask: &Ask) -> bool {
    matches!((ask.what, ask.held), (What::Mode(mode), Some(held)) if modes.is_down(held, mode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstead_types::tables::built_in;

    const PR: Mode = Mode(3);
    const EX: Mode = Mode(5);

    fn open(others: &[Mode], place: Place) -> Standing {
        let others = others.iter().fold(ModeSet::EMPTY, |set, m| set.with(*m));
        Standing {
            others,
            free: 2,
            place,
            converting: false,
            waiting: false,
            closed: false,
            held_back: false,
            due: false,
        }
    }

    fn asked(held: Option<Mode>, mode: Mode, flags: Flags, standing: Standing) -> bool {
        let vms = built_in("vms").expect("built in");
        may_grant(&vms, &Ask { what: What::Mode(mode), held, flags }, &standing)
    }

    #[test]
    fn order_matters_to_new_requests_and_not_to_conversions_that_come() {
        let queued = Standing { waiting: true, converting: true, ..open(&[PR], Place::Arriving) };
        assert!(asked(None, PR, Flags::NONE, open(&[PR], Place::Arriving)));
        assert!(!asked(None, PR, Flags::NONE, queued));
        assert!(asked(None, PR, Flags::NOORDER, queued));
        assert!(asked(Some(Mode(0)), PR, Flags::NONE, queued));
        assert!(!asked(Some(Mode(0)), PR, Flags::QUECVT, queued));
        assert!(!asked(Some(Mode(0)), EX, Flags::NONE, queued));
    }

    #[test]
    fn a_conversion_down_is_granted_whatever_stands_against_it() {
        let against = Standing { closed: true, held_back: true, converting: true, ..open(&[Mode(0)], Place::Arriving) };
        assert!(asked(Some(EX), PR, Flags::NONE, against));
        assert!(!asked(Some(PR), EX, Flags::NONE, against));
    }

    #[test]
    fn in_a_queue_the_first_goes_and_one_that_is_due() {
        assert!(asked(None, PR, Flags::NONE, open(&[], Place::Head)));
        assert!(!asked(None, PR, Flags::NONE, open(&[], Place::Behind)));
        assert!(asked(None, PR, Flags::NONE, Standing { due: true, ..open(&[], Place::Behind) }));
        assert!(!asked(None, PR, Flags::NONE, Standing { due: true, ..open(&[EX], Place::Head) }));
        assert!(!asked(None, PR, Flags::NONE, Standing { held_back: true, ..open(&[], Place::Head) }));
        assert!(!asked(None, PR, Flags::NONE, Standing { converting: true, ..open(&[], Place::Head) }));
    }
}
