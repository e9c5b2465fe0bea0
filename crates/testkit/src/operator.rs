//! Does the directives of a scenario.

use lockstead_node::Input;
use lockstead_types::{
    ModeTable, Refusal, SpaceId, Span, name,
    reply::Reply,
    report::{DeadlockReport, LockRow, Report, VictimReason, WaitEdge},
    request::{Op, Query},
    tables,
};

use crate::{
    directive::{Directive, Look, set_limit, vms_claim},
    world::{Broken, OPERATOR, World},
};

impl World {
    /// Does one directive.
    ///
    /// # Errors
    /// It makes no sense here, or the state of the node is broken.
    pub fn direct(&mut self, directive: &Directive) -> Result<(), Broken> {
        match directive {
            Directive::New => *self = World::default(),
            Directive::Limits(limits) => {
                if self.has_started() {
                    return Err("limits are set before anything else; start with `new`".to_owned());
                }
                for (name, value) in limits {
                    set_limit(&mut self.limits, name, value)?;
                }
            }
            Directive::Remote(names) => {
                for name in names {
                    let seat = self.seat(name);
                    self.make_remote(seat);
                }
            }
            Directive::Ttl(name, ttl) => {
                let seat = self.seat(name);
                self.seats[seat].ttl = *ttl;
            }
            Directive::Within(name, outer) => {
                let (seat, outer) = (self.seat(name), self.seat(outer));
                self.seats[seat].within = Some(self.life(outer)?.session);
            }
            Directive::Open(name) => {
                let seat = self.seat(name);
                self.open(seat)?;
            }
            Directive::Disconnect(name) => {
                let seat = self.seat(name);
                self.disconnect(seat)?;
            }
            Directive::Attach(name) => {
                let seat = self.seat(name);
                self.attach(seat)?;
            }
            Directive::Cut(name, why) => {
                let seat = self.seat(name);
                let conn = self.life(seat)?.conn.take().ok_or("it has no connection")?;
                let now = self.now;
                self.node().handle(now, Input::Cut { conn, why: *why });
                self.sleep(Span::ZERO)?;
            }
            Directive::Mute(name) => self.set_renews(name, false),
            Directive::Unmute(name) => self.set_renews(name, true),
            Directive::Restart => self.restart()?,
            Directive::Stop => self.stop()?,
            _ => self.operate(directive)?,
        }
        Ok(())
    }

    fn set_renews(&mut self, name: &str, renews: bool) {
        let seat = self.seat(name);
        self.seats[seat].renews = renews;
    }

    /// What needs a session of an operator.
    fn operate(&mut self, directive: &Directive) -> Result<(), Broken> {
        // Found before the operator's own session is opened: it may be the one that is one too many.
        let target = match directive {
            Directive::End { session, .. } | Directive::Force { of: session, .. } => Some(self.seat(session)),
            _ => None,
        };
        let operator = self.seat(OPERATOR);
        self.open(operator)?;
        match directive {
            Directive::Space(spec) => {
                let reply = self.raw(operator, Op::SpaceCreate(spec.clone()))?;
                self.say_refused(operator, &spec.name, &reply);
            }
            Directive::Drop { name, force } => {
                let reply = self.raw(operator, Op::SpaceDrop { name, force: *force })?;
                self.say_refused(operator, name, &reply);
            }
            Directive::Force { name, reason, .. } => {
                let (space, token) = match target {
                    Some(seat) => self.held(seat, name)?,
                    None => return Err("nobody holds it".to_owned()),
                };
                let reply = self.raw(operator, Op::ForceRelease { space, name, token, reason: unquoted(reason) })?;
                self.say_refused(operator, &name::escape(name), &reply);
            }
            Directive::End { session, reason } => {
                let id = match target {
                    Some(seat) => self.life(seat)?.session,
                    None => return Err("there is no such session".to_owned()),
                };
                let reply = self.raw(operator, Op::EndSession { session: id, reason: unquoted(reason) })?;
                self.say_refused(operator, session, &reply);
            }
            Directive::Look(look) => self.look(operator, *look)?,
            _ => {}
        }
        Ok(())
    }

    /// The token of the lock that a session holds, or held last, on a name.
    fn held(&mut self, seat: usize, name: &[u8]) -> Result<(SpaceId, lockstead_types::Token), Broken> {
        let player = self.life(seat)?.player.as_ref().ok_or("the session is not open")?;
        let lock = player.locks().iter().find(|l| *l.name == *name).ok_or("the session does not know that lock")?;
        Ok((lock.space.id, lock.token))
    }

    fn say_refused(&mut self, operator: usize, word: &str, reply: &Reply) {
        if let Reply::Refused(why) = reply {
            self.seats[operator].say(&format!("{word} refused {why}"));
        }
    }

    fn look(&mut self, operator: usize, look: Look) -> Result<(), Broken> {
        let query = match look {
            Look::Waits => Query::Waits,
            Look::Deadlocks => Query::Deadlocks,
            Look::Sessions => Query::Sessions { after: None },
            Look::Status => Query::Status,
        };
        let report = match self.raw(operator, Op::Query(query))? {
            Reply::Report(report) => *report,
            Reply::Refused(Refusal::Denied) => return Err("denied".to_owned()),
            other => return Err(format!("no report: {other:?}")),
        };
        let vms = tables::built_in("vms");
        let mut lines = match report {
            Report::Waits(waits) if waits.edges.is_empty() => vec!["nobody waits".to_owned()],
            Report::Waits(waits) => waits.edges.iter().map(|e| self.edge(vms.as_ref(), e)).collect(),
            Report::Deadlocks(found) if found.reports.is_empty() => vec!["no deadlock".to_owned()],
            Report::Deadlocks(found) => found.reports.iter().flat_map(|r| self.deadlock(vms.as_ref(), r)).collect(),
            Report::Sessions { rows, .. } => {
                let rows = rows.iter().map(|row| {
                    let kind = if row.local { "local" } else { "remote" };
                    let state = if row.connected { "" } else { " disconnected" };
                    format!("{} {kind} locks={}{state}", self.name_of(Some(row.session)), row.locks)
                });
                rows.filter(|line| !line.starts_with(OPERATOR)).collect()
            }
            Report::Status(status) => vec![format!(
                "epoch={} resources={} granted={} converting={} waiting={} orphans={} frozen={}",
                status.epoch,
                status.resources,
                status.granted,
                status.converting,
                status.waiting,
                status.orphans,
                if status.frozen_for == Span::ZERO { "no" } else { "yes" },
            )],
            other => return Err(format!("not what was asked for: {other:?}")),
        };
        for line in lines.drain(..) {
            self.seats[operator].say(&line);
        }
        Ok(())
    }

    fn edge(&self, vms: Option<&ModeTable>, edge: &WaitEdge) -> String {
        let kind = if edge.hard { "hard" } else { "soft" };
        let (waiter, blocker) = (self.lock(vms, &edge.waiter), self.lock(vms, &edge.blocker));
        format!("{}: {waiter} waits for {blocker} ({kind})", name::escape(&edge.name))
    }

    fn lock(&self, vms: Option<&ModeTable>, lock: &LockRow) -> String {
        let claims: Vec<String> = [lock.held, lock.wanted].into_iter().flatten().map(|c| vms_claim(vms, c)).collect();
        let who = match lock.holder.group {
            Some(group) => format!("group {}", group.0),
            None => self.name_of(lock.holder.session),
        };
        let part = if lock.extent.is_empty() { String::new() } else { format!(" {}", lock.extent) };
        format!("{who} {}{part}", claims.join(" to "))
    }

    fn deadlock(&self, vms: Option<&ModeTable>, report: &DeadlockReport) -> Vec<String> {
        let victim = report.cycle.iter().map(|e| &e.waiter).find(|row| row.lock == report.victim);
        let victim = victim.map_or_else(|| "-".to_owned(), |row| self.name_of(row.holder.session));
        let why = match report.why {
            VictimReason::Conversion => "conversion",
            VictimReason::ClosedCycle => "closed the cycle",
            VictimReason::Youngest => "youngest",
            VictimReason::FewestLocks => "fewest locks",
            VictimReason::LowestPriority => "lowest priority",
        };
        let mut lines = vec![format!("deadlock {}: victim {victim} ({why})", report.number)];
        lines.extend(report.cycle.iter().map(|edge| format!("  {}", self.edge(vms, edge))));
        lines
    }
}

/// `""` is the empty text.
fn unquoted(text: &str) -> &str {
    if text == "\"\"" { "" } else { text }
}
