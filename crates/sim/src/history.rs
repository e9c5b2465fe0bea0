//! What programs asked for and were told, with true times: the history that [`crate::model`] checks without looking into any node.
//!
//! Only what a program knows is in it. A request without an answer may have taken effect or not, under a token nobody knows, so
//! it says nothing; a lock whose program died is held until the lease of that program could end at the earliest.

use std::collections::BTreeMap;

use lockstead_types::{LockId, Mode, Token};

/// All resources.
pub(crate) struct History {
    /// By resource, in the order in which programs were told.
    pub(crate) names: Vec<Vec<Hold>>,
    open: BTreeMap<(usize, LockId), Open>,
}

/// One grant, and what became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Hold {
    pub(crate) client: usize,
    pub(crate) token: Token,
    /// The group whose lock it is: its members share one grant.
    pub(crate) group: Option<u8>,
    /// The grant that a conversion replaced by this one.
    pub(crate) before: Option<Token>,
    /// True times between which it was granted.
    pub(crate) asked: u64,
    pub(crate) told: u64,
    /// What was held under it, one after the other: less each time.
    pub(crate) steps: Vec<Step>,
}

/// A mode under one token.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Step {
    pub(crate) mode: Mode,
    /// The true time before which it cannot have ended.
    pub(crate) until: Until,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Until {
    /// Nobody has given it up.
    Held,
    /// Given up, or its lease over, at this time at the earliest.
    At(u64),
    /// When the conversion to this token was granted.
    Replaced(Token),
}

/// A lock that a program holds now.
#[derive(Copy, Clone)]
struct Open {
    name: usize,
    hold: usize,
    /// A conversion is under way for which it may have given something up.
    lowered: bool,
    /// Since when it may have had a grant of which its program has not heard: a conversion that was granted, lost on its way, claimed
    /// at another home, asked again and then given up leaves its token to the next one.
    unheard: Option<u64>,
}

impl History {
    pub(crate) fn new(names: usize) -> History {
        History { names: vec![Vec::new(); names], open: BTreeMap::new() }
    }

    /// A program was told of a grant it had asked for.
    pub(crate) fn granted(
        &mut self,
        client: usize,
        lock: LockId,
        name: u8,
        (mode, token, group): (Mode, Token, Option<u8>),
        (asked, told): (u64, u64),
    ) {
        let steps = vec![Step { mode, until: Until::Held }];
        self.push((client, lock), usize::from(name), Hold { client, token, group, before: None, asked, told, steps });
    }

    fn push(&mut self, key: (usize, LockId), name: usize, hold: Hold) {
        self.names[name].push(hold);
        self.open.insert(key, Open { name, hold: self.names[name].len() - 1, lowered: false, unheard: None });
    }

    fn hold(&mut self, key: (usize, LockId)) -> Option<&mut Hold> {
        let open = self.open.get(&key)?;
        self.names[open.name].get_mut(open.hold)
    }

    /// A program asks for a conversion, and counts on `meanwhile` until it is answered.
    pub(crate) fn converting(&mut self, client: usize, lock: LockId, meanwhile: Mode, now: u64) {
        if let Some(open) = self.open.get_mut(&(client, lock)) {
            open.unheard.get_or_insert(now);
        }
        let Some(hold) = self.hold((client, lock)) else { return };
        let Some(last) = hold.steps.last_mut().filter(|last| last.mode != meanwhile) else { return };
        last.until = Until::At(now);
        hold.steps.push(Step { mode: meanwhile, until: Until::Held });
        if let Some(open) = self.open.get_mut(&(client, lock)) {
            open.lowered = true;
        }
    }

    /// A conversion was granted.
    pub(crate) fn converted(&mut self, client: usize, lock: LockId, grant: (Mode, Token), (asked, told): (u64, u64)) {
        let (mode, token) = grant;
        let key = (client, lock);
        let Some(open) = self.open.get(&key).copied() else { return };
        let Some(hold) = self.hold(key) else { return };
        let (before, group) = (hold.token, hold.group);
        let Some(last) = hold.steps.last_mut() else { return };
        if token != before {
            last.until = Until::Replaced(token);
            let steps = vec![Step { mode, until: Until::Held }];
            let asked = open.unheard.map_or(asked, |since| since.min(asked));
            return self.push(key, open.name, Hold { client, token, group, before: Some(before), asked, told, steps });
        }
        if last.mode != mode {
            last.until = Until::At(asked);
            hold.steps.push(Step { mode, until: Until::Held });
        }
        self.open.insert(key, Open { lowered: false, unheard: None, ..open });
    }

    /// A conversion ended without its grant, and the lock is held in `mode`.
    pub(crate) fn kept(&mut self, client: usize, lock: LockId, mode: Mode) {
        let key = (client, lock);
        let Some(open) = self.open.get_mut(&key) else { return };
        let lowered = core::mem::take(&mut open.lowered);
        let Some(hold) = self.hold(key) else { return };
        let steps = &mut hold.steps;
        if lowered && steps.len() > 1 && steps[steps.len() - 2].mode == mode {
            // It had never been given up.
            steps.pop();
            if let Some(last) = steps.last_mut() {
                last.until = Until::Held;
            }
        }
    }

    /// A lock is given up, or was taken: not before `at`.
    pub(crate) fn ended(&mut self, client: usize, lock: LockId, at: u64) {
        if let Some(last) = self.hold((client, lock)).and_then(|hold| hold.steps.last_mut()) {
            last.until = Until::At(at);
        }
        self.open.remove(&(client, lock));
    }

    /// All that a program has is over: not before `at`.
    pub(crate) fn all_ended(&mut self, client: usize, at: u64) {
        let locks: Vec<LockId> =
            self.open.range((client, LockId(0))..=(client, LockId(u64::MAX))).map(|((_, lock), _)| *lock).collect();
        locks.into_iter().for_each(|lock| self.ended(client, lock, at));
    }
}
