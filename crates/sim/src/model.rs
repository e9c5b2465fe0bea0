//! The leased six-mode model: whether a history of one resource could have come from a single lock manager that does one thing after
//! the other.
//!
//! The model's state is a set of (program, mode, token). A grant is legal iff it is compatible with all others and its token is above
//! that of every grant before; a conversion replaces the own mode at one moment; a lock may be given up from its release on, or from
//! the end of its program's lease. A history is fine iff each grant can be given a moment between its asking and its answer such
//! that all steps are legal.
//!
//! To look for such moments is hard in general. Here tokens say in which order grants must have come, so it is enough to give each, in
//! that order, the earliest moment that is legal: any other choice leaves less room to those after it.

use lockstead_types::{Mode, ModeTable, Token};

use crate::history::{Hold, Until};

/// A mode that some grant holds from its moment on.
struct Held {
    token: Token,
    group: Option<u8>,
    mode: Mode,
    /// The earliest end; `None` until whatever ends it has had its moment.
    end: Option<u64>,
}

/// Whether the model explains what happened to one resource.
pub(crate) fn check(modes: &ModeTable, holds: &[Hold]) -> Result<(), String> {
    let mut order: Vec<&Hold> = holds.iter().collect();
    order.sort_by_key(|hold| hold.token);
    let mut held: Vec<Held> = Vec::new();
    let mut now = 0;
    for (number, hold) in order.iter().enumerate() {
        if let Some(twin) = number.checked_sub(1).map(|before| order[before]).filter(|twin| twin.token == hold.token) {
            if hold.group.is_some() && twin.group == hold.group {
                // [GROUP-2] It joined in what its group had been granted. That was not over: nobody was granted what conflicts before this
                // one's end, or it is found below.
                end_replaced(&mut held, hold, now);
                held.extend(parts(hold, now));
                continue;
            }
            return Err(format!("one token for two grants: {twin:?} and {hold:?}"));
        }
        // One that joined in asked later than it was granted, to another who may never have heard of it.
        now = if hold.group.is_some() { now } else { now.max(hold.asked) };
        let first = hold.steps.first().map_or(Mode(0), |step| step.mode);
        let conflict = |other: &&Held| {
            let shared = hold.group.is_some() && other.group == hold.group;
            Some(other.token) != hold.before
                && !shared
                && (!modes.compatible(first, other.mode) || !modes.compatible(other.mode, first))
        };
        for other in held.iter().filter(conflict) {
            let Some(end) = other.end else {
                return Err(format!("{hold:?} was granted while {:?} of {} was held", other.mode, other.token));
            };
            if end > hold.told {
                let late = (end - hold.told) / 1_000;
                return Err(format!(
                    "{hold:?} was told of {late} us before {:?} of {} can have ended",
                    other.mode, other.token
                ));
            }
            now = now.max(end);
        }
        if now > hold.told {
            let late = (now - hold.told) / 1_000;
            return Err(format!(
                "{hold:?} was told of {late} us before a grant with a lower token can have been given"
            ));
        }
        end_replaced(&mut held, hold, now);
        held.retain(|other| other.end.is_none_or(|end| end > now));
        held.extend(parts(hold, now));
    }
    Ok(())
}

/// What a conversion replaces is over.
fn end_replaced(held: &mut [Held], hold: &Hold, now: u64) {
    let replaced = held.iter_mut().filter(|other| Some(other.token) == hold.before && other.end.is_none());
    replaced.for_each(|other| other.end = Some(now));
}

/// What a grant holds from its moment on.
fn parts(hold: &Hold, now: u64) -> impl Iterator<Item = Held> {
    hold.steps.iter().map(move |step| Held {
        token: hold.token,
        group: hold.group,
        mode: step.mode,
        end: match step.until {
            Until::At(at) => Some(at.max(now)),
            Until::Held | Until::Replaced(_) => None,
        },
    })
}

#[cfg(test)]
mod tests {
    use lockstead_types::{LockId, tables::built_in};

    use super::*;
    use crate::history::History;

    const PR: Mode = Mode(3);
    const EX: Mode = Mode(5);
    const A: LockId = LockId(1);
    const B: LockId = LockId(2);

    fn token(number: u64) -> Token {
        Token::new(1, number).expect("small")
    }

    fn judge(history: &History) -> Result<(), String> {
        check(&built_in("vms").expect("built in"), &history.names[0])
    }

    /// One holds EX from 10 to its end; the other asked at 15 and is told of EX at 30.
    fn two(end: impl FnOnce(&mut History)) -> History {
        let mut history = History::new(1);
        history.granted(0, A, 0, (EX, token(1), None), (5, 10));
        end(&mut history);
        history.granted(1, B, 0, (EX, token(2), None), (15, 30));
        history
    }

    #[test]
    fn who_waits_for_a_release_or_the_end_of_a_lease_is_granted_after_it() {
        assert_eq!(judge(&two(|h| h.ended(0, A, 20))), Ok(()));
        assert_eq!(judge(&two(|h| h.all_ended(0, 29))), Ok(()));
        assert!(judge(&two(|h| h.all_ended(0, 31))).is_err());
        assert!(judge(&two(|_| {})).is_err());
    }

    #[test]
    fn tokens_rise_with_time() {
        let mut history = History::new(1);
        history.granted(0, A, 0, (PR, token(2), None), (5, 10));
        history.granted(1, B, 0, (PR, token(1), None), (15, 20));
        assert!(judge(&history).is_err());
        let mut history = History::new(1);
        history.granted(0, A, 0, (PR, token(2), None), (5, 10));
        history.granted(1, B, 0, (PR, token(1), None), (5, 20));
        assert_eq!(judge(&history), Ok(()));
        history.granted(2, LockId(3), 0, (PR, token(1), None), (5, 20));
        assert!(judge(&history).is_err());
    }

    #[test]
    fn a_conversion_replaces_the_old_mode_at_one_moment() {
        let converted = |others: &dyn Fn(&mut History)| {
            let mut history = History::new(1);
            history.granted(0, A, 0, (PR, token(1), None), (5, 10));
            history.converting(0, A, PR, 20);
            others(&mut history);
            history.converted(0, A, (EX, token(4)), (20, 40));
            judge(&history)
        };
        assert_eq!(converted(&|_| {}), Ok(()));
        // Somebody else reads until 35.
        assert_eq!(
            converted(&|h| {
                h.granted(1, B, 0, (PR, token(2), None), (12, 15));
                h.ended(1, B, 35);
            }),
            Ok(())
        );
        // Somebody else writes before the conversion has its grant.
        assert!(
            converted(&|h| {
                h.granted(1, B, 0, (EX, token(2), None), (22, 25));
                h.ended(1, B, 30);
            })
            .is_err()
        );
    }

    #[test]
    fn a_conversion_may_have_been_granted_sooner_than_its_program_heard() {
        let mut history = History::new(1);
        history.granted(0, A, 0, (Mode(0), token(1), None), (5, 10));
        history.converting(0, A, Mode(0), 20);
        history.kept(0, A, Mode(0));
        history.granted(1, B, 0, (PR, token(3), None), (25, 30));
        history.converting(0, A, Mode(0), 40);
        history.converted(0, A, (Mode(0), token(2)), (40, 50));
        assert_eq!(judge(&history), Ok(()));
    }

    #[test]
    fn a_conversion_down_frees_from_its_asking_on_unless_it_is_refused() {
        let down = |answer: &dyn Fn(&mut History)| {
            let mut history = History::new(1);
            history.granted(0, A, 0, (EX, token(1), None), (5, 10));
            history.converting(0, A, PR, 20);
            answer(&mut history);
            history.granted(1, B, 0, (PR, token(2), None), (12, 25));
            judge(&history)
        };
        assert_eq!(down(&|_| {}), Ok(()));
        assert_eq!(down(&|h| h.converted(0, A, (PR, token(1)), (20, 22))), Ok(()));
        assert!(down(&|h| h.kept(0, A, EX)).is_err());
    }
}
