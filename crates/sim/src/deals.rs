//! Programs that run transactions: a few names each in an order of its own, so that they would close cycles all the time; tried again
//! with the first age until they commit. In such a run all programs are like that.

use lockstead_types::{
    Age, Flags, LockId, Mode, Refusal, SpaceId,
    reply::Reply,
    request::{Claim, ConvertRequest, LockRequest, Op, OwnerRef, Wait},
};

use crate::{
    app::What,
    resource::name_of,
    world::{Phase, World},
};

const PR: Mode = Mode(3);
const EX: Mode = Mode(5);
/// Locks of a transaction at most.
const LOCKS: u64 = 5;

/// The transaction of a program, until it has committed.
pub(crate) struct Deal {
    /// What it locks, in this order; a name that comes again is converted.
    names: Vec<(u8, Mode)>,
    /// How many of them it has.
    got: usize,
    /// What it was told when it first began.
    age: Option<Age>,
    stage: Stage,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Stage {
    /// It is to begin, anew or again.
    Idle,
    Open,
    /// It can only be rolled back.
    Doomed,
}

impl Deal {
    /// It was aborted, or refused what it needs.
    pub(crate) fn doom(&mut self) {
        if self.stage == Stage::Open {
            self.stage = Stage::Doomed;
        }
    }
}

/// The end of a transaction that was asked for. Its answer says what the home knows: masters release in their time.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Commit,
    Rollback,
}

impl World {
    /// One deed: what comes next once the one before was answered.
    pub(crate) fn work_deal(&mut self, at: usize) {
        if !self.clients[at].app.asked.is_empty() {
            return;
        }
        if self.clients[at].app.deal.is_none() {
            if self.phase == Phase::Drain {
                return;
            }
            let (names, random) = (u64::from(self.options.names), &mut self.clients[at].random);
            let names = (0..=random.below(LOCKS)).map(|_| {
                let name = random.below(names) as u8;
                (name, if random.chance(333) { EX } else { PR })
            });
            let names = names.collect();
            self.clients[at].app.deal = Some(Deal { names, got: 0, age: None, stage: Stage::Idle });
        }
        let Some(deal) = &self.clients[at].app.deal else { return };
        match (deal.stage, deal.names.get(deal.got).copied()) {
            (Stage::Idle, _) => {
                let age = deal.age;
                self.ask(at, &Op::Begin { age }, What::Begin);
            }
            (Stage::Doomed, _) => self.end_deal(at, End::Rollback),
            (Stage::Open, None) => self.end_deal(at, End::Commit),
            (Stage::Open, Some((name, mode))) => self.go_on(at, name, mode),
        }
    }

    fn go_on(&mut self, at: usize, name: u8, mode: Mode) {
        let mine = self.clients[at].app.held.iter().find(|(_, held)| held.name == name);
        match mine.map(|(lock, held)| (*lock, held.mode)) {
            Some((_, EX)) => self.deal_got(at),
            Some((lock, from)) => self.raise(at, lock, from),
            None => {
                let bytes = name_of(name);
                let request = LockRequest {
                    space: SpaceId(0),
                    name: &bytes,
                    claim: Claim::Mode(mode),
                    wait: Wait::Forever,
                    flags: Flags::NONE,
                    owner: OwnerRef::Transaction,
                    tag: 0,
                    priority: 0,
                };
                self.ask(at, &Op::Lock(request), What::Lock { name, group: None });
            }
        }
    }

    fn raise(&mut self, at: usize, lock: LockId, from: Mode) {
        let meanwhile = self.modes.while_converting(from, EX, Flags::NONE).unwrap_or(Mode(0));
        if let Some(held) = self.clients[at].app.held.get_mut(&lock) {
            (held.converting, held.mode) = (true, meanwhile);
        }
        self.history.converting(at, lock, meanwhile, self.now.min(self.lapse(at)));
        let request = ConvertRequest { lock, mode: EX, wait: Wait::Forever, flags: Flags::NONE, value: None };
        self.ask(at, &Op::Convert(request), What::Convert { lock, from, write: None });
    }

    /// It has what it asked for, and uses it.
    pub(crate) fn deal_got(&mut self, at: usize) {
        let Some(deal) = &mut self.clients[at].app.deal else { return };
        deal.got += 1;
        let locks: Vec<LockId> = self.clients[at].app.held.keys().copied().collect();
        for lock in locks {
            self.guarded(at, lock);
        }
    }

    /// From here on it relies on nothing it had.
    fn end_deal(&mut self, at: usize, end: End) {
        let held = core::mem::take(&mut self.clients[at].app.held);
        let over = self.now.min(self.lapse(at));
        for (lock, held) in &held {
            self.history.ended(at, *lock, over);
            self.judge.on_release(held.name, held.token, self.now);
        }
        let op = match end {
            End::Commit => Op::Commit,
            End::Rollback => Op::Rollback { to: None },
        };
        self.ask(at, &op, What::End(end));
    }

    pub(crate) fn on_begun(&mut self, at: usize, age: Age) {
        if let Some(deal) = &mut self.clients[at].app.deal {
            (deal.age, deal.got, deal.stage) = (Some(age), 0, Stage::Open);
        }
    }

    pub(crate) fn on_deal_ended(&mut self, at: usize, end: End, reply: &Reply) {
        let client = &mut self.clients[at];
        let Some(deal) = &mut client.app.deal else { return };
        match reply {
            Reply::Done if end == End::Commit => client.app.deal = None,
            // A session that came to another home without its transaction has none to roll back.
            Reply::Done | Reply::Refused(Refusal::Phase) => deal.stage = Stage::Idle,
            _ => deal.stage = Stage::Doomed,
        }
    }
}
