//! I19, of grants: between two marks that say to look again, a watcher is told of every grant of a resource, in their order.
//!
//! Tokens of a resource rise from grant to grant, whoever is its master, so the order of grants is that of their tokens.
//! A program is asked about from the answer to its watch until its process dies, its session is over, or it says goodbye: who has not been
//! started again yet watches nothing.

use core::ops::Bound;
use std::collections::BTreeMap;

use lockstead_types::{
    Token,
    reply::{Change, ChangeEvent},
};

use crate::{
    calm::millis,
    invariants::Code,
    judge::GrantTruth,
    resource::number_of,
    world::{SEC, World},
};

pub(crate) const STATEMENT: &str =
    "watchers see the changes of a resource in order and without gaps, or are told to look again";

/// What each program that watches was told.
#[derive(Default)]
pub(crate) struct Watchers {
    /// By client: true time from which on it must be told of everything.
    since: BTreeMap<usize, u64>,
    /// The newest grant told since, by client and resource.
    told: BTreeMap<(usize, u8), Token>,
}

impl Watchers {
    /// It watches, or has looked again: what comes from now on it must hear of.
    pub(crate) fn resync(&mut self, client: usize, now: u64) {
        self.since.insert(client, now);
        self.told.retain(|(c, _), _| *c != client);
    }

    /// It watches no more, or has to look again.
    pub(crate) fn forget(&mut self, client: usize) {
        self.since.remove(&client);
    }
}

/// So long a change may take to who watches, in calm.
const WITHIN: u64 = 2 * SEC;

impl World {
    /// In calm, whoever watches has been told of what was granted a while ago.
    pub(crate) fn judge_watchers(&mut self) {
        let calm = self.calm_since();
        for (client, since) in &self.judge.watchers.since {
            let from = (*since).max(calm).max(self.clients[*client].conn_since + WITHIN);
            let to = self.now.saturating_sub(WITHIN);
            for (name, truth) in self.judge.truth.names.iter().enumerate() {
                let told = self.judge.watchers.told.get(&(*client, name as u8)).copied().unwrap_or(Token::NONE);
                let missed = truth.tokens.iter().rev().take_while(|(token, _)| **token > told);
                if let Some((token, grant)) = missed.filter(|(_, grant)| grant.at > from && grant.at < to).last() {
                    let ago = millis(grant.at, self.now);
                    let what = format!("client {client}, resource {name}: never told of {token}, granted {ago} ms ago");
                    return self.judge.fail(Code::I19, &what);
                }
            }
        }
    }

    /// A program that watches was told of a change.
    pub(crate) fn judge_change(&mut self, client: usize, change: &Change) {
        let name = number_of(&change.name);
        let watchers = &self.judge.watchers;
        let (Some(truth), Some(since)) =
            (self.judge.truth.names.get(usize::from(name)), watchers.since.get(&client).copied())
        else {
            return;
        };
        let last = watchers.told.get(&(client, name)).copied().unwrap_or(Token::NONE);
        let Some(grant) = truth.tokens.get(&change.token).filter(|_| change.event == ChangeEvent::Granted) else {
            return;
        };
        // [TOKEN-3] A conversion down keeps its token; and what comes twice is harmless.
        if change.token <= last || grant.at <= since {
            return;
        }
        let unheard = |(_, grant): &(&Token, &GrantTruth)| grant.at > since;
        let between = (Bound::Excluded(last), Bound::Excluded(change.token));
        if let Some((missed, grant)) = truth.tokens.range(between).find(unheard) {
            let ago = millis(grant.at, self.now);
            let what = format!(
                "client {client}, resource {name}: told of {}, last of {last}, not of {missed}, granted {ago} ms ago",
                change.token
            );
            return self.judge.fail(Code::I19, &what);
        }
        self.judge.watchers.told.insert((client, name), change.token);
    }
}
