//! What a client program does with its session, and what it believes to hold.

use std::collections::BTreeMap;

use lockstead_client_core::Lease;
use lockstead_types::{
    Flags, GroupId, LockId, Mode, Refusal, SpaceId, Span, Time, Token,
    reply::{Grant, Reply, Revoked},
    request::{Claim, ConvertRequest, LockRequest, Op, OwnerRef, ReleaseRequest, Target, Wait},
};

use crate::{
    clients::is_final,
    deals::{Deal, End},
    invariants::Code,
    judge::Row,
    options::Mix,
    resource::{group_number, group_of, name_of},
    world::{Phase, World},
};

/// The program's own state: lost with its process.
#[derive(Default)]
pub(crate) struct App {
    pub(crate) asked: BTreeMap<u64, Asked>,
    pub(crate) held: BTreeMap<LockId, Held>,
    /// Its transaction, where it runs any.
    pub(crate) deal: Option<Deal>,
    keys: u64,
    leaving: bool,
    watching: bool,
    group: Membership,
    /// It was told to look again.
    pub(crate) look: bool,
    /// How often it was.
    pub(crate) looks: u32,
}

/// Whether a program is in its group.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
enum Membership {
    #[default]
    No,
    Asked,
    In(GroupId),
}

/// A request without its last answer.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) what: What,
    /// True time.
    pub(crate) at: u64,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Lock {
        name: u8,
        group: Option<u8>,
    },
    Convert {
        lock: LockId,
        from: Mode,
        write: Option<u64>,
    },
    Release {
        token: Token,
        name: u8,
        write: Option<u64>,
        group: Option<u8>,
    },
    Attach,
    Cancel,
    /// A transaction.
    Begin,
    /// Its commit or rollback.
    End(End),
    Read {
        lock: LockId,
    },
    Sync,
    /// From its answer on it is told of everything.
    Watch {
        look: u32,
    },
    /// After which what it is told of is whole, if it has not been told to look again meanwhile.
    Look {
        look: u32,
    },
}

/// A lock the program believes to hold.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) name: u8,
    /// What it may do: while a conversion is under way, what both modes have.
    pub(crate) mode: Mode,
    pub(crate) token: Token,
    pub(crate) converting: bool,
    /// The group whose lock it is, and how often it was granted.
    pub(crate) group: Option<u8>,
    uses: u32,
    /// Somebody waits for it.
    pub(crate) blocking: bool,
    /// It is kept until somebody wants it.
    lazy: bool,
    /// True time until when it is wanted.
    until: u64,
}

impl App {
    /// Nothing is used any more.
    pub(crate) fn leave(&mut self) {
        self.held.clear();
        self.deal = None;
        self.leaving = true;
    }

    pub(crate) fn on_blocking(&mut self, lock: LockId) {
        if let Some(held) = self.held.get_mut(&lock) {
            held.blocking = true;
        }
    }
}

impl World {
    /// One deed of a program.
    pub(crate) fn work(&mut self, at: usize) {
        if self.clients[at].app.leaving || self.clients[at].session.deadline().is_none() {
            return;
        }
        self.watch(at);
        if self.options.deals {
            return self.work_deal(at);
        }
        self.attach(at);
        self.use_locks(at);
        if self.phase == Phase::Drain {
            return self.cancel_all(at);
        }
        let depth = self.options.depth as usize;
        let client = &mut self.clients[at];
        if client.app.asked.len() < depth && client.app.held.len() < 4 {
            self.ask_lock(at);
        } else if client.random.chance(100) {
            self.ask_cancel(at);
        } else if client.random.chance(100) && client.app.asked.len() < 32 {
            self.ask(at, &Op::Sync, What::Sync);
        }
    }

    /// Some programs want to know of everything.
    fn watch(&mut self, at: usize) {
        if (at as u32) < self.options.watchers && !core::mem::replace(&mut self.clients[at].app.watching, true) {
            let look = self.clients[at].app.looks;
            self.ask(at, &Op::Watch { space: SpaceId(0), prefix: b"" }, What::Watch { look });
        }
        // Who has to look again does so by asking all masters, and must hear of what comes after their answers.
        let watches = !self.clients[at].app.asked.values().any(|asked| matches!(asked.what, What::Watch { .. }));
        if watches && core::mem::take(&mut self.clients[at].app.look) {
            let look = self.clients[at].app.looks;
            self.ask(at, &Op::Sync, What::Look { look });
        }
    }

    /// Becomes a member of its group.
    fn attach(&mut self, at: usize) {
        if self.options.groups > 0 && self.clients[at].app.group == Membership::No {
            self.clients[at].app.group = Membership::Asked;
            self.ask(at, &Op::GroupAttach { name: group_of(at) }, What::Attach);
        }
    }

    /// Uses, converts and releases what is held.
    fn use_locks(&mut self, at: usize) {
        let locks: Vec<LockId> = self.clients[at].app.held.keys().copied().collect();
        for lock in locks {
            let (now, drain) = (self.now, self.phase == Phase::Drain);
            let convert = self.options.convert;
            let client = &mut self.clients[at];
            let Some(held) = client.app.held.get(&lock).filter(|h| !h.converting) else { continue };
            let wanted = if held.lazy && !drain { !held.blocking } else { now < held.until && !drain };
            let mode = held.mode;
            if !wanted {
                if client.random.chance(convert / 2) && !drain && mode != Mode(0) {
                    self.ask_convert(at, lock, Mode(0));
                } else {
                    self.ask_release(at, lock);
                }
            } else if client.random.chance(convert) {
                let to = Mode(client.random.below(6) as u8);
                self.ask_convert(at, lock, to);
            } else if client.random.chance(700) || client.app.asked.len() > 32 {
                self.guarded(at, lock);
            } else {
                self.ask(at, &Op::ReadValue(lock), What::Read { lock });
            }
        }
    }

    fn mode(&mut self, at: usize) -> Mode {
        let mix = self.options.mix;
        let random = &mut self.clients[at].random;
        match mix {
            Mix::Six => Mode(random.below(6) as u8),
            Mix::Shared => Mode(random.pick(&[3, 3, 3, 3, 1, 5])),
            Mix::Exclusive => Mode(5),
        }
    }

    fn ask_lock(&mut self, at: usize) {
        let mode = self.mode(at);
        let (names, values) = (u64::from(self.options.names), self.options.values);
        let patience = u64::from(self.options.patience);
        let name = self.clients[at].random.below(names) as u8;
        let joins = self.may_join(at, name);
        let client = &mut self.clients[at];
        let random = &mut client.random;
        // Who waits without end holds and waits for nothing else, so that programs make no cycles that last.
        let alone = client.app.held.is_empty() && client.app.asked.is_empty();
        let wait = match random.below(4) {
            0 => Wait::Never,
            1 | 2 if alone => Wait::Forever,
            _ => Wait::For(Span::from_millis(random.around(patience))),
        };
        let flags = if random.chance(values) { Flags::VALBLK } else { Flags::NONE };
        let alone_or_not = if random.chance(700) { OwnerRef::Alone } else { OwnerRef::Session };
        let (owner, group) = match client.app.group {
            Membership::In(group) if joins && random.chance(self.options.groups) => {
                (OwnerRef::Group(group), group_number(group_of(at)))
            }
            _ => (alone_or_not, None),
        };
        // [GROUP-12] Cycles through groups end by deadlines alone.
        let wait = match wait {
            Wait::Forever if group.is_some() => Wait::For(Span::from_millis(random.around(4 * patience))),
            wait => wait,
        };
        let bytes = name_of(name);
        let request = LockRequest {
            space: SpaceId(0),
            name: &bytes,
            claim: Claim::Mode(mode),
            wait,
            flags,
            owner,
            tag: 0,
            priority: 0,
        };
        self.ask(at, &Op::Lock(request), What::Lock { name, group });
    }

    /// Members who join in one after the other past others that wait can keep a lock between them for ever: where these must come to
    /// their turn they let them.
    fn may_join(&self, at: usize, name: u8) -> bool {
        let mine = group_number(group_of(at));
        let many = |held: &Held| held.name == name && held.group.is_some() && held.uses >= 3;
        if self.clients[at].app.held.values().any(many) {
            return false;
        }
        let waits = |row: &Row| row.name == name && row.wanted.is_some() && row.group != mine;
        let rude = self.phase == Phase::Fire && !self.options.is_calm();
        rude || !self.judge.rows.iter().flatten().any(waits)
    }

    fn ask_convert(&mut self, at: usize, lock: LockId, to: Mode) {
        let values = self.options.values;
        let client = &mut self.clients[at];
        let Some(held) = client.app.held.get(&lock) else { return };
        let (from, name, token) = (held.mode, held.name, held.token);
        let meanwhile = self.modes.while_converting(from, to, Flags::NONE).unwrap_or(Mode(0));
        // [VALUE-3] Only a conversion to the same or a weaker mode writes.
        let writes = self.modes.writes(from) && to <= from && client.random.chance(values);
        let wait = Wait::For(Span::from_millis(client.random.around(400)));
        let shared = held.group.is_some();
        let write = writes.then(|| self.new_value(name, token, shared));
        let bytes = write.map(u64::to_be_bytes);
        let flags = if write.is_some() { Flags::VALBLK } else { Flags::NONE };
        let request = ConvertRequest { lock, mode: to, wait, flags, value: bytes.as_ref().map(|b| &b[..]) };
        if let Some(held) = self.clients[at].app.held.get_mut(&lock) {
            held.converting = true;
            held.mode = meanwhile;
        }
        self.history.converting(at, lock, meanwhile, self.now.min(self.lapse(at)));
        self.ask(at, &Op::Convert(request), What::Convert { lock, from, write });
    }

    fn ask_release(&mut self, at: usize, lock: LockId) {
        let values = self.options.values;
        let client = &mut self.clients[at];
        let Some(mut held) = client.app.held.remove(&lock) else { return };
        if held.uses > 1 {
            held.uses -= 1;
            client.app.held.insert(lock, held.clone());
            held.uses = 0;
        }
        let writes = self.modes.writes(held.mode) && client.random.chance(values);
        let one_way = client.random.chance(500);
        let write = writes.then(|| self.new_value(held.name, held.token, held.group.is_some()));
        let bytes = write.map(u64::to_be_bytes);
        let flags = if write.is_some() { Flags::VALBLK } else { Flags::NONE };
        let release = ReleaseRequest { lock, flags, value: bytes.as_ref().map(|b| &b[..]) };
        // It may have been over before, unnoticed.
        if held.uses > 0 {
            self.history.ended(at, lock, self.now.min(self.lapse(at)));
            self.judge.on_release(held.name, held.token, self.now);
        }
        let op = Op::Release { release, one_way };
        if one_way {
            let now = self.clocks[self.clients[at].host].at(self.now);
            let _gone_with_its_session = self.clients[at].session.request(now, &op, u64::MAX);
            self.after_client(at);
        } else {
            self.ask(at, &op, What::Release { token: held.token, name: held.name, write, group: held.group });
        }
    }

    fn ask_cancel(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let waiting: Vec<LockId> = client.app.held.iter().filter(|(_, h)| h.converting).map(|(l, _)| *l).collect();
        if let Some(lock) = waiting.first() {
            self.ask(at, &Op::Cancel(Target::Lock(*lock)), What::Cancel);
        }
    }

    /// Gives up what waits.
    fn cancel_all(&mut self, at: usize) {
        if self.clients[at].random.chance(300) {
            self.ask_cancel(at);
        }
    }

    pub(crate) fn ask(&mut self, at: usize, op: &Op<'_>, what: What) {
        let now = self.clocks[self.clients[at].host].at(self.now);
        let client = &mut self.clients[at];
        client.app.keys += 1;
        let key = client.app.keys;
        let was_lost = client.session.deadline().is_some_and(|deadline| now >= deadline);
        client.app.asked.insert(key, Asked { what, at: self.now });
        let outcome = client.session.request(now, op, key);
        if self.trace.wants_text() {
            let id = self.clients[at].id.0 as u64;
            self.trace.say(self.now, format_args!("client {at} ({id}) asks {op:?}: {outcome:?}"));
        }
        match outcome {
            Ok(_) if was_lost => self.judge.fail(Code::I23, "asked and was heard after its own deadline"),
            Ok(_) => {}
            Err(why) => {
                let Some(asked) = self.clients[at].app.asked.remove(&key) else { return };
                self.on_refused(at, &asked, why);
            }
        }
        self.after_client(at);
    }

    pub(crate) fn on_answer(&mut self, at: usize, key: u64, reply: Reply) {
        if key == u64::MAX || !is_final(&reply) {
            return;
        }
        let Some(asked) = self.clients[at].app.asked.remove(&key) else {
            if !self.clients[at].alive {
                return;
            }
            return self.judge.fail(Code::I14, &format!("client {at}: a request answered twice: {reply:?}"));
        };
        match (asked.what.clone(), reply) {
            (What::Lock { name, group }, Reply::Granted(grant)) => {
                self.on_granted(at, (name, group), &grant, asked.at);
                self.deal_got(at);
            }
            (What::Attach, Reply::Group(group)) => self.clients[at].app.group = Membership::In(group),
            (What::Begin, Reply::Begun(age)) => self.on_begun(at, age),
            (What::End(end), reply) => self.on_deal_ended(at, end, &reply),
            (What::Convert { lock, from, write }, Reply::Granted(grant)) => {
                let name = self.clients[at].app.held.get(&lock).map(|h| h.name);
                self.judge_written(name, write);
                if let Some(name) = name {
                    self.on_converted(at, lock, name, from, &grant, asked.at);
                    self.deal_got(at);
                }
            }
            (What::Convert { lock, .. }, Reply::Demoted { held: Claim::Mode(mode), .. }) => {
                self.back_to(at, lock, mode)
            }
            (What::Convert { lock, from, .. }, Reply::Cancelled) => self.back_to(at, lock, from),
            (What::Release { name, token, write, group }, Reply::Released) => {
                self.judge_written(Some(name), write);
                // Others may use it still.
                if group.is_none() {
                    self.judge.on_released(name, token);
                }
            }
            (What::Read { lock }, Reply::Value(value)) => {
                if let Some(held) = self.clients[at].app.held.get(&lock) {
                    let name = held.name;
                    self.judge_value(at, name, &value, asked.at);
                }
            }
            (What::Watch { look } | What::Look { look }, Reply::Done)
                if look != self.clients[at].app.looks || self.clients[at].app.leaving => {}
            (What::Watch { .. } | What::Look { .. }, Reply::Done) => self.judge.watchers.resync(at, self.now),
            (What::Sync, Reply::Done) | (What::Cancel | What::Lock { .. }, Reply::Cancelled) => {}
            (_, Reply::Refused(why)) => self.on_refused(at, &asked, why),
            (what, reply) => self.judge.fail(Code::I14, &format!("client {at}: {what:?} was answered {reply:?}")),
        }
    }

    fn on_granted(&mut self, at: usize, (name, group): (u8, Option<u8>), grant: &Grant, asked: u64) {
        let Claim::Mode(mode) = grant.claim else { return };
        let hold = self.hold();
        let lazy = self.options.lazy;
        if self.clients[at].app.leaving {
            // It said goodbye, and uses nothing any more.
            self.truth_told(name, grant.token);
            return;
        }
        let random = &mut self.clients[at].random;
        let until = self.now + random.around(hold);
        let lazy = random.chance(lazy);
        let (token, uses) = (grant.token, 1);
        if let Some(held) =
            self.clients[at].app.held.get_mut(&grant.lock).filter(|held| group.is_some() && held.group == group)
        {
            held.uses += 1;
            held.until = held.until.max(until);
            // While it converts it counts on less. Who claimed less than its group has hears of that.
            if !held.converting && (held.token, held.mode) != (token, mode) {
                (held.token, held.mode) = (token, mode);
                self.history.converted(at, grant.lock, (mode, token), (asked, self.now));
            }
            return self.judge_read(at, name, grant, asked);
        }
        let held = Held { name, mode, token, converting: false, group, uses, blocking: false, lazy, until };
        if let Some(before) = self.clients[at].app.held.insert(grant.lock, held) {
            self.judge
                .fail(Code::I14, &format!("client {at}: the id of a lock that is held was given again: {before:?}"));
        }
        self.history.granted(at, grant.lock, name, (mode, grant.token, group), (asked, self.now));
        self.judge_told(at, grant.lock);
        self.judge_read(at, name, grant, asked);
    }

    fn on_converted(&mut self, at: usize, lock: LockId, name: u8, from: Mode, grant: &Grant, asked: u64) {
        let Claim::Mode(mode) = grant.claim else { return };
        let hold = self.hold();
        let until = self.now + self.clients[at].random.around(hold);
        let Some(held) = self.clients[at].app.held.get_mut(&lock) else { return };
        (held.mode, held.token, held.converting, held.until) = (mode, grant.token, false, until);
        held.blocking = false;
        self.history.converted(at, lock, (mode, grant.token), (asked, self.now));
        self.judge_told(at, lock);
        if !self.modes.is_down(from, mode) {
            self.judge_read(at, name, grant, asked);
        }
    }

    fn back_to(&mut self, at: usize, lock: LockId, mode: Mode) {
        if let Some(held) = self.clients[at].app.held.get_mut(&lock) {
            held.mode = mode;
            held.converting = false;
            self.history.kept(at, lock, mode);
            self.judge_told(at, lock);
        }
    }

    fn on_refused(&mut self, at: usize, asked: &Asked, why: Refusal) {
        if let Some(deal) = &mut self.clients[at].app.deal {
            deal.doom();
        }
        if let What::End(end) = asked.what {
            return self.on_deal_ended(at, end, &Reply::Refused(why));
        }
        let over = self.clients[at].session.ending().is_some();
        let lost = matches!(why, Refusal::Lost | Refusal::NotHeld);
        match asked.what {
            What::Convert { lock, from, .. } if !lost => self.back_to(at, lock, from),
            What::Convert { lock, .. } | What::Read { lock } if lost && !over => {
                let leaving = self.clients[at].app.leaving;
                if let (Some(held), false) = (self.clients[at].app.held.get(&lock).cloned(), leaving) {
                    let calm = format!("client {at}: {why} for a lock that is held: {held:?}");
                    self.judge_taken(at, &calm);
                    self.clients[at].app.held.remove(&lock);
                    self.history.ended(at, lock, 0);
                }
            }
            // It does not watch, and asks again.
            What::Watch { .. } => self.clients[at].app.watching = false,
            What::Attach => self.clients[at].app.group = Membership::No,
            What::Look { .. } => self.clients[at].app.look = true,
            _ => {}
        }
        let known =
            lost || matches!(
                why,
                Refusal::WouldWait
                    | Refusal::Timeout
                    | Refusal::Deadlock
                    | Refusal::Busy
                    | Refusal::Limit(_)
                    | Refusal::NoQuorum
            ) || (self.options.deals && matches!(why, Refusal::Aborted | Refusal::Phase));
        if !known {
            self.judge.fail(Code::I14, &format!("client {at}: refused for no reason: {why}"));
        }
    }

    pub(crate) fn on_lock_lost(&mut self, at: usize, lock: LockId, why: Revoked) {
        if let Some(deal) = &mut self.clients[at].app.deal {
            deal.doom();
        }
        let Some(held) = self.clients[at].app.held.remove(&lock) else { return };
        self.history.ended(at, lock, 0);
        self.judge_taken(at, &format!("client {at} lost {held:?}: {why:?}"));
    }

    pub(crate) fn on_lease_lost(&mut self, at: usize) {
        self.history.all_ended(at, self.lapse(at));
        self.clients[at].app.held.clear();
    }

    /// What a client's program believes at its own time, by its own clock.
    pub(crate) fn believes(&self, at: usize) -> bool {
        let client = &self.clients[at];
        let now = self.clocks[client.host].at(self.now);
        client.alive && !client.app.held.is_empty() && client.session.lease(now) != Lease::Lost
    }

    pub(crate) fn client_time(&self, at: usize) -> Time {
        self.clocks[self.clients[at].host].at(self.now)
    }
}
