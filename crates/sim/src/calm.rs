//! Since when nothing has been disturbed: what must happen within a bound is asked for from there on only.

use crate::{
    options::Fault,
    world::{MS, SEC, World},
};

/// What a fault leaves behind may go on for so long: a connection that is dead on one side, a repeated proposal.
const AFTERMATH: u64 = 9 * SEC;

/// See above.
#[derive(Default)]
pub(crate) struct Calm {
    /// True time since when all has been well, as far as the last audit saw.
    since: u64,
    /// The effects of faults that struck may last until then.
    until: u64,
    term: u32,
}

impl World {
    /// True time since when there has been no fault, nor what is left of one.
    pub(crate) fn calm_since(&self) -> u64 {
        self.calm.since.max(self.calm.until)
    }

    /// A fault strikes, and lasts for a span.
    pub(crate) fn note_fault(&mut self, fault: Fault, span: u64) {
        let after = match fault {
            // These concern a client alone, or nothing that waits.
            Fault::Goodbye | Fault::KillClient | Fault::LateWrites | Fault::Forge | Fault::Drift | Fault::DriftOut => {
                return;
            }
            _ => AFTERMATH,
        };
        self.calm.until = self.calm.until.max(self.now + span + after);
    }

    /// A look at whether something is out of order.
    pub(crate) fn look_for_calm(&mut self) {
        let term = self.group.term();
        if self.is_disturbed() || self.calm.term != term {
            self.calm.since = self.now;
        }
        self.calm.term = term;
    }

    fn is_disturbed(&self) -> bool {
        let now = self.clocks.iter().enumerate().map(|(host, clock)| (host, clock.at(self.now)));
        let away = now.zip(&self.nodes).any(|((_, now), host)| match &host.node {
            None => !host.abandoned,
            Some(node) => {
                let member = !self.options.alone;
                host.paused_until > self.now || host.lags_until > self.now || (member && node.authority() <= now)
            }
        });
        let clients = self.clients.iter().any(|client| client.paused_until > self.now);
        let group = !self.options.alone && self.leads().is_none();
        away || clients || group || self.net.is_troubled(self.now)
    }
}

/// Milliseconds between two true times.
pub(crate) fn millis(from: u64, to: u64) -> u64 {
    to.saturating_sub(from) / MS
}
