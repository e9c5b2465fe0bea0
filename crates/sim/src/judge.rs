//! The judge: sees the tables of all nodes after each of their steps, every message, and what every program believes, and
//! asks the invariants.

use std::collections::{BTreeMap, BTreeSet};

use lockstead_client_core::Ending;
use lockstead_cluster::{Command, EndWhy, State};
use lockstead_node::{Node, Output, Record};
use lockstead_table::Seen;
use lockstead_types::{
    LockId, Mode, ModeTable, RequestId, SessionId, Time, Token,
    message::{ClientMessage, Rejection, ServerMessage},
    reply::{Grant, Reply, Value},
    request::{Claim, Op, Wait},
};

use crate::{
    group::id_of,
    invariants::{
        Code, i01, i02, i03,
        i05::Generations,
        i06, i07,
        i08::Renewals,
        i09::Leases,
        i10,
        i11::{self, Places},
        i12::Deadlocks,
        i12_cluster::History,
        i13::Notices,
        i14::{Answers, Replies},
        i17, i18,
        i19::Watchers,
        i20, i21, i23,
    },
    options::Options,
    resource::{group_number, name_of, number_of},
    world::World,
};

/// A lock in the table of a node.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Row {
    pub(crate) lock: LockId,
    pub(crate) session: Option<SessionId>,
    pub(crate) name: u8,
    pub(crate) held: Option<Mode>,
    pub(crate) wanted: Option<Mode>,
    pub(crate) token: Token,
    /// Its place among those that wait.
    pub(crate) ticket: u64,
    pub(crate) alone: bool,
    /// Whose it is, of a lock of a group.
    pub(crate) group: Option<u8>,
}

/// What is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which invariant.
    pub code: Code,
    /// What was seen.
    pub what: String,
}

/// What truly happened.
pub(crate) struct Truth {
    pub(crate) names: Vec<NameTruth>,
    /// How many grants were decided.
    pub(crate) decided: u64,
}

/// What truly happened to a resource.
#[derive(Default)]
pub(crate) struct NameTruth {
    /// The highest token granted in each mode.
    pub(crate) highest: [Token; 6],
    pub(crate) tokens: BTreeMap<Token, GrantTruth>,
    /// The number of the newest grant applied at the guarded resource in each mode.
    pub(crate) applied: [u64; 6],
    pub(crate) writes: Vec<i21::Write>,
    pub(crate) emptied: i21::Emptied,
    /// Decided and not told to its client yet.
    untold: Vec<Token>,
}

/// A grant, from its decision on.
#[derive(Clone, Debug)]
pub(crate) struct GrantTruth {
    pub(crate) session: Option<SessionId>,
    pub(crate) mode: Mode,
    /// The mode before it was converted down; in a persistent lockspace an heir may know of that one alone.
    pub(crate) undone: Option<Mode>,
    /// Which of all grants.
    pub(crate) order: u64,
    /// True time of the decision.
    pub(crate) at: u64,
    /// Another was granted that conflicts, before the client was told.
    overtaken: Option<Token>,
    pub(crate) release_acknowledged: bool,
}

/// The judge.
pub(crate) struct Judge {
    violation: Option<Violation>,
    pub(crate) truth: Truth,
    /// The table of each node.
    pub(crate) rows: Vec<Vec<Row>>,
    scratch: Vec<Row>,
    /// What each node's table has come to since, where it was looked at.
    edits: Vec<Option<u64>>,
    /// The epoch in which each node was before its step, where no slot of it was frozen.
    ready: Vec<Option<u32>>,
    renewals: Renewals,
    pub(crate) leases: Leases,
    pub(crate) notices: Notices,
    pub(crate) deadlocks: Deadlocks,
    pub(crate) history: History,
    /// Cycles over several masters that were broken.
    pub(crate) far_deadlocks: u64,
    pub(crate) watchers: Watchers,
    answers: Answers,
    places: Places,
    /// Locks that nodes took back though their release was acknowledged, looked at again when nothing is frozen there.
    back: Vec<(usize, Row)>,
    pub(crate) replies: Replies,
    generations: Generations,
    conns: BTreeMap<u32, Conn>,
    /// Ends of sessions that a node proposed because their leases had run out.
    pub(crate) expiries: BTreeSet<(usize, SessionId, u32)>,
    /// When faults stopped, true time.
    pub(crate) healed: u64,
    pub(crate) now: u64,
    audits: u64,
    /// A start of a node went that knew something nobody else did.
    lost: bool,
}

struct Conn {
    local: bool,
    session: Option<SessionId>,
    /// When its open came in: the lease counts from there, though the answer waits for the disk.
    opened: Time,
}

impl Judge {
    pub(crate) fn new(options: &Options, _modes: &ModeTable) -> Judge {
        Judge {
            violation: None,
            truth: Truth { names: (0..options.names).map(|_| NameTruth::default()).collect(), decided: 0 },
            rows: vec![Vec::new(); options.nodes as usize],
            scratch: Vec::new(),
            edits: vec![None; options.nodes as usize],
            ready: vec![None; options.nodes as usize],
            renewals: Renewals::default(),
            leases: Leases::default(),
            notices: Notices::default(),
            deadlocks: Deadlocks::default(),
            history: History::default(),
            far_deadlocks: 0,
            watchers: Watchers::default(),
            answers: Answers::default(),
            places: Places::default(),
            back: Vec::new(),
            replies: Replies::default(),
            generations: Generations::default(),
            conns: BTreeMap::new(),
            expiries: BTreeSet::new(),
            healed: u64::MAX,
            now: 0,
            audits: 0,
            lost: false,
        }
    }

    pub(crate) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// The first one counts; what follows may be its consequence.
    pub(crate) fn fail(&mut self, code: Code, what: &str) {
        if self.violation.is_none() {
            self.violation = Some(Violation { code, what: what.into() });
        }
    }

    pub(crate) fn must(&mut self, code: Code, outcome: Result<(), String>) {
        if let Err(what) = outcome {
            self.fail(code, &what);
        }
    }

    pub(crate) fn on_heal(&mut self) {
        self.healed = self.now;
    }

    /// An operator gave up the majority: what was agreed on last may not have been, and generations begin again from before.
    pub(crate) fn on_forced(&mut self) {
        self.generations = Generations::default();
        self.truth.names.iter_mut().for_each(|name| name.emptied.forget(self.now));
    }

    /// The members agreed that a start of a node is gone that was a master, or a home.
    pub(crate) fn on_start_gone(&mut self) {
        self.lost = true;
    }

    pub(crate) fn on_node_start(&mut self, at: usize, now: Time, recorded: impl Iterator<Item = SessionId>) {
        for session in recorded {
            self.renewals.renewed(at, session, now, None);
        }
    }

    /// `mastered`: the names that it decided for.
    pub(crate) fn on_node_death(&mut self, at: usize, mastered: &[u8]) {
        self.edits[at] = None;
        self.places.died(at);
        self.history.step(self.now, at, &self.rows[at], &[]);
        for row in self.rows[at].drain(..).filter(|row| mastered.contains(&row.name)) {
            // Whether anybody brings it back is for the next master to find out.
            self.truth.names[usize::from(row.name)].emptied.left(self.now);
        }
    }

    pub(crate) fn on_conn(&mut self, conn: u32, _node: usize, _client: usize, local: bool) {
        self.conns.insert(conn, Conn { local, session: None, opened: Time::ZERO });
    }

    pub(crate) fn on_client_message(&mut self, now: Time, conn: u32, message: &ClientMessage<'_>) {
        let Some(known) = self.conns.get_mut(&conn) else { return };
        match message {
            ClientMessage::Open { session, .. } | ClientMessage::Attach { session, .. } => {
                known.session = Some(*session);
                known.opened = now;
            }
            ClientMessage::Again { id, stood, op } => {
                let wait = match op {
                    Op::Lock(request) => request.wait,
                    Op::Convert(request) => request.wait,
                    _ => Wait::Forever,
                };
                if let Some(session) = known.session {
                    self.places.said(self.now, session, *id, *stood, wait);
                }
            }
            ClientMessage::Goodbye => {
                if let Some(session) = known.session {
                    self.renewals.said_goodbye(session);
                    self.answers.forget(session);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn on_conn_end(&mut self, at: usize, conn: u32) {
        let Some(known) = self.conns.remove(&conn) else { return };
        if let (true, Some(session)) = (known.local, known.session) {
            self.renewals.excuse(at, session);
        }
    }

    pub(crate) fn on_node_output(&mut self, at: usize, now: Time, output: &Output) {
        match output {
            Output::Send { conn, message } => {
                let Some(known) = self.conns.get(&(conn.0 as u32)) else { return };
                let (Some(session), opened) = (known.session, known.opened) else { return };
                if let ServerMessage::Renewed { .. } | ServerMessage::Opened { .. } | ServerMessage::Attached(_) =
                    message
                {
                    self.leases.renewed(session, self.now);
                }
                match message {
                    ServerMessage::Renewed { .. } => self.renewals.renewed(at, session, now, None),
                    ServerMessage::Opened { ttl } => self.renewals.renewed(at, session, opened, Some(*ttl)),
                    ServerMessage::Attached(attached) => self.renewals.renewed(at, session, opened, Some(attached.ttl)),
                    ServerMessage::Reply { id, reply } => {
                        let outcome = self.answers.answered(session, *id, reply);
                        self.must(Code::I14, outcome);
                        if let Reply::Queued(queued) = reply {
                            let outcome = self.places.queued(self.now, session, *id, *queued);
                            self.must(Code::I11, outcome);
                        } else if let Reply::Refused(_) = reply {
                            self.places.refused(session, *id);
                        }
                    }
                    _ => {}
                }
            }
            Output::Record(Record::Ended { session })
            | Output::Propose(Command::EndSession { session, why: EndWhy::Expired, .. }) => {
                let outcome = self.renewals.ended(at, *session, now);
                self.must(Code::I8, outcome);
            }
            _ => {}
        }
    }

    /// Nothing is frozen at a node any more. What sessions have claimed at homes of which it has not heard it does not know yet.
    fn settle_back(
        &mut self,
        at: usize,
        rows: &[Row],
        has_moved_unheard: impl Fn(SessionId) -> bool,
    ) -> Result<(), String> {
        let truth = &self.truth;
        let mut back =
            self.back.extract_if(.., |(node, row)| *node == at && !row.session.is_some_and(&has_moved_unheard));
        back.try_for_each(|(_, row)| {
            let same = |r: &&Row| r.lock == row.lock && r.token == row.token && r.held.is_some();
            let grant = truth.names[usize::from(row.name)].tokens.get(&row.token);
            grant.zip(rows.iter().find(same)).map_or(Ok(()), |(grant, row)| i06::restored(grant, row))
        })
    }

    /// A program gave a lock up.
    pub(crate) fn on_release(&mut self, name: u8, token: Token, _now: u64) {
        self.truth.names[usize::from(name)].untold.retain(|t| *t != token);
    }

    /// A release was acknowledged.
    pub(crate) fn on_released(&mut self, name: u8, token: Token) {
        if let Some(grant) = self.truth.names[usize::from(name)].tokens.get_mut(&token) {
            grant.release_acknowledged = true;
        }
    }
}

/// The table of a node.
fn rows_of(node: &Node, rows: &mut Vec<Row>) {
    rows.clear();
    node.visit_locks(|session, seen| {
        let mode = |claim: Option<Claim>| match claim {
            Some(Claim::Mode(mode)) => Some(mode),
            _ => None,
        };
        let (held, wanted) = (mode(seen.held), mode(seen.wanted));
        let name = number_of(seen.name);
        let group = seen.owner.and_then(|owner| node.group_named(owner)).and_then(group_number);
        let Seen { lock, token, ticket, alone, .. } = seen;
        rows.push(Row { lock, session, name, held, wanted, token, ticket, alone, group });
    });
}

impl World {
    /// Looks at the table of a node after a step of it.
    pub(crate) fn observe(&mut self, at: usize) {
        self.judge.now = self.now;
        let Some(node) = &self.nodes[at].node else { return };
        let edits = Some(node.edits());
        let changed = self.judge.edits[at] != edits;
        let mut rows = core::mem::take(&mut self.judge.scratch);
        if changed {
            rows_of(node, &mut rows);
        }
        let (ready, epoch) = (node.is_ready(), node.cluster_state().map_or(0, |state| state.epoch));
        // A slot may have come, been restored and served, all in one step.
        let settled = ready && self.judge.ready[at] == Some(epoch);
        let before = core::mem::take(&mut self.judge.rows[at]);
        let after = if changed { &rows } else { &before };
        if ready {
            let newest = |state: &State, session| state.sessions.get(&session).map(|entry| entry.generation);
            let known = node.cluster_state();
            let moved =
                |session| known.is_some_and(|known| newest(known, session) != newest(&self.group.state, session));
            let outcome = self.judge.settle_back(at, after, moved);
            self.judge.must(Code::I6, outcome);
        }
        if changed && rows != before {
            self.judge.history.step(self.now, at, &before, &rows);
        }
        self.judge_deadlocks(at, &before, if changed { &rows } else { &before });
        if changed && rows != before {
            self.say_rows(at, &before, &rows);
            self.judge.places.step(at, &before, &rows);
            self.compare((at, settled), &before, &rows);
        }
        if ready {
            self.settle_emptied(at, if changed { &rows } else { &before });
        }
        self.judge.ready[at] = ready.then_some(epoch);
        self.judge.edits[at] = edits;
        (self.judge.rows[at], self.judge.scratch) = if changed { (rows, before) } else { (before, rows) };
    }

    /// What has changed in a table, for who reads the trace.
    fn say_rows(&mut self, at: usize, before: &[Row], rows: &[Row]) {
        if !self.trace.wants_text() {
            return;
        }
        for name in 0..self.judge.truth.names.len() {
            let of = |rows: &[Row]| rows.iter().filter(|r| usize::from(r.name) == name).copied().collect::<Vec<Row>>();
            let (was, is) = (of(before), of(rows));
            if was == is {
                continue;
            }
            let mut text = String::new();
            for Row { lock, session, held, wanted, token, .. } in is {
                let session = session.map(|s| s.0 as u64);
                text += &format!(" [{lock:?} of {session:?}: {held:?} wants {wanted:?}, {token}]");
            }
            self.trace.say(self.now, format_args!("node {at}: resource {name}:{text}"));
        }
    }

    /// Both are in the order of the places in the table.
    fn compare(&mut self, (at, settled): (usize, bool), before: &[Row], rows: &[Row]) {
        let place = |row: &Row| row.lock.0 & 0xffff_ffff;
        let mut old = before.iter().peekable();
        let mut changed = Vec::new();
        for row in rows {
            while old.next_if(|o| place(o) < place(row)).is_some() {}
            let same = old.next_if(|o| place(o) == place(row)).filter(|o| o.lock == row.lock);
            if same != Some(row) {
                changed.push((row, same));
            }
        }
        // What was granted before first: in one step it may have been lowered, and so something else been granted.
        let known = |row: &Row| self.judge.truth.names[usize::from(row.name)].tokens.contains_key(&row.token);
        let (known, fresh): (Vec<_>, Vec<_>) = changed.into_iter().partition(|(row, _)| known(row));
        for (row, same) in known.into_iter().chain(fresh) {
            if let Some(same) = same {
                let outcome = i10::step(&self.modes, same, row);
                self.judge.must(Code::I10, outcome);
            }
            let waits = row.wanted.is_some() && same.is_none_or(|s| s.wanted.is_none());
            // What is restored was let in elsewhere, and limits are not asked again.
            if waits && settled {
                let outcome = i18::waiters(before, rows, row.name, self.options.waiters);
                self.judge.must(Code::I18, outcome);
            }
            let news = same.is_none_or(|s| s.held != row.held || s.token != row.token);
            if row.held.is_some() && news {
                let outcome = i01::granted(&self.modes, rows, row);
                self.judge.must(Code::I1, outcome);
                self.on_held((at, settled), row, same, (before, rows));
            }
        }
        self.judge_emptied(at, before, rows);
    }

    /// A lock is held that was not, or not so.
    fn on_held(&mut self, (at, settled): (usize, bool), row: &Row, before: Option<&Row>, all: (&[Row], &[Row])) {
        let Some(mode) = row.held else { return };
        // A master whose time is over, and who has not heard of it, changes a table that is void.
        let counts = self.is_master(at, row.name);
        let name = &mut self.judge.truth.names[usize::from(row.name)];
        self.trace.mix(row.token.as_u64());
        if let Some(grant) = name.tokens.get_mut(&row.token) {
            let other = grant.session != row.session && row.session.is_some();
            let mut restored = if counts { i06::restored(grant, row) } else { Ok(()) };
            if restored.is_err() && !settled {
                // Its home told of it before its client gave it up elsewhere: it goes once that home's last word is here.
                self.judge.back.push((at, *row));
                restored = Ok(());
            }
            let kept = if counts { i10::kept(&self.modes, grant, row) } else { Ok(()) };
            if counts {
                if self.options.persistent && mode != grant.mode {
                    grant.undone = Some(grant.mode);
                }
                grant.mode = mode;
            }
            if other {
                self.judge.fail(Code::I3, &format!("{row:?} has a token of another session"));
            }
            self.judge.must(Code::I6, restored);
            self.judge.must(Code::I10, kept);
            return;
        }
        let fresh = i03::fresh(&self.modes, name, row);
        self.judge.truth.decided += 1;
        let order = self.judge.truth.decided;
        let grant = GrantTruth {
            session: row.session,
            mode,
            undone: None,
            order,
            at: self.now,
            overtaken: None,
            release_acknowledged: false,
        };
        name.tokens.insert(row.token, grant);
        let highest = &mut name.highest[usize::from(mode.0)];
        *highest = (*highest).max(row.token);
        for token in core::mem::take(&mut name.untold) {
            let own = before.is_some_and(|b| b.token == token);
            match name.tokens.get_mut(&token) {
                Some(untold) if !own && !self.modes.compatible(mode, untold.mode) => untold.overtaken = Some(row.token),
                _ => name.untold.push(token),
            }
        }
        name.untold.push(row.token);
        self.judge.must(Code::I3, fresh);
        // [SLOT-3] A thaw serves what came during the freeze in another order.
        if settled {
            self.judge.must(Code::I11, i11::granted(row, before, all));
        }
        self.judge_master(at, row);
        i07::decided(self, row, before);
    }

    /// Something was decided at a node: it must have been its to decide.
    fn judge_master(&mut self, at: usize, row: &Row) {
        let now = self.clocks[at].at(self.now);
        let Some(node) = &self.nodes[at].node else { return };
        let allowed = i17::decided(node, now).map_err(|what| format!("node {at}: {row:?} {what}"));
        self.judge.must(Code::I17, allowed);
        if let Some(state) = node.cluster_state() {
            let outcome = self.judge.generations.decided(state, id_of(at), &name_of(row.name));
            self.judge.must(Code::I5, outcome);
        }
        self.judge_in(at, "decided");
    }

    /// A program was told of a grant that it does not want any more.
    pub(crate) fn truth_told(&mut self, name: u8, token: Token) {
        self.judge.truth.names[usize::from(name)].untold.retain(|t| *t != token);
    }

    /// A program was told what it holds.
    pub(crate) fn judge_told(&mut self, at: usize, lock: LockId) {
        let Some(held) = self.clients[at].app.held.get(&lock).cloned() else { return };
        let name = &mut self.judge.truth.names[usize::from(held.name)];
        name.untold.retain(|token| *token != held.token);
        let believed = self.believes(at) && self.options.clocks_keep();
        match self.judge.truth.names[usize::from(held.name)].tokens.get(&held.token) {
            None => self.judge.fail(Code::I3, &format!("client {at} was told of {held:?}, which nobody granted")),
            Some(grant) if grant.overtaken.is_some() && believed => {
                let what = format!("client {at} was told of {held:?}, after {:?}", grant.overtaken);
                self.judge.fail(Code::I7, &what);
            }
            Some(_) => {}
        }
        i02::told(self, at, lock);
    }

    /// What a program held was taken from it.
    pub(crate) fn judge_taken(&mut self, at: usize, what: &str) {
        let now = self.client_time(at);
        let live = self.clients[at].session.deadline().is_some_and(|deadline| now < deadline);
        if live && self.options.clocks_keep() {
            self.judge.fail(Code::I7, what);
        }
    }

    pub(crate) fn judge_over(&mut self, at: usize, ending: Ending) {
        match ending {
            Ending::Ended => self.judge_taken(at, &format!("client {at}: its session was ended before its time")),
            Ending::Rejected(why) => {
                self.judge.fail(Code::I18, &format!("client {at} was turned away: {}", why.text()))
            }
            Ending::Deadline if self.options.is_calm() => {
                self.judge.fail(Code::I7, &format!("client {at} lost its lease though nothing was wrong"));
            }
            Ending::Deadline | Ending::Closed => {}
        }
    }

    pub(crate) fn judge_rejection(&mut self, at: usize, why: Rejection) {
        self.clients[at].superseded |= why == Rejection::Superseded;
        let outcome = i18::rejected(why);
        self.judge.must(Code::I18, outcome);
    }

    /// A client that claimed what is not its own has its answer.
    pub(crate) fn judge_lie(&mut self, id: RequestId, reply: &Reply) {
        let outcome = i20::answered(id, reply);
        self.judge.must(Code::I20, outcome);
    }

    pub(crate) fn judge_client(&mut self, at: usize, now: Time) {
        self.judge.now = self.now;
        let outcome = i23::told(&self.clients[at].session, now);
        self.judge.must(Code::I23, outcome);
    }

    /// A value to write that no other write has.
    pub(crate) fn new_value(&mut self, name: u8, token: Token, shared: bool) -> u64 {
        self.values += 1;
        let write = i21::Write { value: self.values, token, asked: self.now, done: None, shared };
        self.judge.truth.names[usize::from(name)].writes.push(write);
        self.values
    }

    /// A write is known to be done.
    pub(crate) fn judge_written(&mut self, name: Option<u8>, write: Option<u64>) {
        let (Some(name), Some(value)) = (name, write) else { return };
        let writes = &mut self.judge.truth.names[usize::from(name)].writes;
        if let Some(write) = writes.iter_mut().rev().find(|w| w.value == value) {
            write.done = Some(self.now);
        }
    }

    /// A grant came with a value.
    pub(crate) fn judge_read(&mut self, at: usize, name: u8, grant: &Grant, asked: u64) {
        let Some(value) = &grant.value else { return };
        let decided = self.judge.truth.names[usize::from(name)].tokens.get(&grant.token).map_or(asked, |g| g.at);
        self.judge_value(at, name, value, decided);
    }

    pub(crate) fn judge_value(&mut self, at: usize, name: u8, value: &Value, since: u64) {
        let calm = self.options.is_calm() && !self.judge.lost;
        let outcome = i21::read(&self.judge.truth.names[usize::from(name)], value, since, calm);
        if let Err(what) = outcome {
            self.judge.fail(Code::I21, &format!("client {at}, resource {name}: {what}"));
        }
    }

    /// A look at everything, now and then.
    pub(crate) fn audit(&mut self) {
        self.judge.now = self.now;
        self.judge.audits += 1;
        self.judge_leases();
        self.judge_notices();
        self.judge_cycles();
        self.judge_far_cycles();
        self.judge_watchers();
        for at in 0..self.nodes.len() {
            let Some(node) = &self.nodes[at].node else { continue };
            if !self.judge.audits.is_multiple_of(8) {
                continue;
            }
            let mut rows = Vec::new();
            rows_of(node, &mut rows);
            let seen = if rows == self.judge.rows[at] { Ok(()) } else { Err("a change was not seen".into()) };
            if let Err(what) = seen.and_then(|()| node.check()) {
                self.judge.fail(Code::Check, &format!("node {at}: {what}"));
            }
        }
    }
}
