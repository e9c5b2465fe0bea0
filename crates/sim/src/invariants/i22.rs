//! I22, in two steps: what was asked under fire ends while work goes on; then everything ends.

use crate::world::World;

pub(crate) const STATEMENT: &str =
    "after faults stop and a majority is connected, every request finishes, and what dead holders held is free again";

impl World {
    /// Whether everything has ended.
    pub(crate) fn is_quiet(&self) -> bool {
        self.clients.iter().all(|c| c.app.asked.is_empty() && c.app.held.is_empty() && c.app.deal.is_none())
            && self.judge.rows.iter().all(Vec::is_empty)
    }

    /// Faults have stopped long ago: what was asked before must have been answered.
    pub(crate) fn judge_progress(&mut self) {
        let healed = self.judge.healed;
        for (at, client) in self.clients.iter().enumerate() {
            if let Some(asked) = client.app.asked.values().find(|asked| asked.at < healed) {
                let ago = (self.now - healed) / crate::world::MS;
                let rows = self.whose_rows();
                let what =
                    format!("client {at}: {asked:?} has no answer {ago} ms after all faults have stopped;{rows}");
                return self.judge.fail(crate::invariants::Code::I22, &what);
            }
        }
    }

    /// The locks of all tables, with the clients whose they are.
    pub(crate) fn whose_rows(&self) -> String {
        let mut text = String::new();
        for (at, rows) in self.judge.rows.iter().enumerate() {
            for row in rows {
                let whose = self.clients.iter().position(|c| c.alive && Some(c.id) == row.session);
                text += &format!(
                    " node {at}, client {whose:?}: resource {} held {:?} wanted {:?} token {};",
                    row.name, row.held, row.wanted, row.token
                );
            }
        }
        text
    }

    /// Nothing has been asked for long: nothing may be left.
    pub(crate) fn judge_end(&mut self) {
        let mut what = String::new();
        for (at, client) in self.clients.iter().enumerate() {
            if client.app.deal.is_some() {
                what += &format!(" client {at} has not committed;");
            }
            if !client.app.asked.is_empty() || !client.app.held.is_empty() {
                what += &format!(" client {at}: {:?} {:?};", client.app.asked, client.app.held);
            }
        }
        what += &self.whose_rows();
        self.judge.fail(crate::invariants::Code::I22, &format!("no end:{what}"));
    }
}
