//! What the locks guard: resources that check tokens, and operations on their way to them, some of them far too late.

use lockstead_client_core::Lease;
use lockstead_types::{LockId, Mode, ModeTable, Token, fence::FenceGate};

use crate::{invariants::i04, queue::Event, world::World};

/// All guarded resources.
pub(crate) struct Resources {
    gates: Vec<FenceGate>,
    under_way: Vec<Operation>,
    pub(crate) applied: u64,
    pub(crate) refused: u64,
}

/// A guarded operation.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) name: u8,
    pub(crate) mode: Mode,
    pub(crate) token: Token,
}

impl Resources {
    pub(crate) fn new(modes: &ModeTable, names: usize) -> Resources {
        let gates = (0..names).map(|_| FenceGate::new(modes.clone())).collect();
        Resources { gates, under_way: Vec::new(), applied: 0, refused: 0 }
    }
}

/// What long names start with.
const LONG: &str = "accounts/page:";

/// The bytes of a resource's name: some fit into a record, some do not.
pub(crate) fn name_of(name: u8) -> Vec<u8> {
    if name.is_multiple_of(3) {
        format!("{LONG}{name}/a-rather-long-name").into_bytes()
    } else {
        format!("n{name}").into_bytes()
    }
}

/// The groups programs attach to, and which one a program is in.
const GROUPS: [&[u8]; 2] = [b"odd ones", b"even ones"];

pub(crate) fn group_of(client: usize) -> &'static [u8] {
    GROUPS[client % 2]
}

/// The group of a name.
pub(crate) fn group_number(name: &[u8]) -> Option<u8> {
    GROUPS.iter().position(|group| *group == name).map(|at| at as u8)
}

/// The resource of a name.
pub(crate) fn number_of(name: &[u8]) -> u8 {
    let at = if name.first() == Some(&b'n') { 1 } else { LONG.len() };
    name.get(at).filter(|digit| digit.is_ascii_digit()).map_or(u8::MAX, |digit| digit - b'0')
}

impl World {
    /// A program starts a guarded operation, if its own clock lets it.
    pub(crate) fn guarded(&mut self, at: usize, lock: LockId) {
        let now = self.client_time(at);
        let client = &self.clients[at];
        let Some(held) = client.app.held.get(&lock) else { return };
        if client.session.lease(now) == Lease::Lost {
            return;
        }
        let operation = Operation { name: held.name, mode: held.mode, token: held.token };
        let takes = self.takes_to_resource(at);
        self.resources.under_way.push(operation);
        let number = self.resources.under_way.len() as u32 - 1;
        self.queue.push(self.now + takes, Event::Guarded { number });
    }

    pub(crate) fn on_guarded(&mut self, number: u32) {
        let operation = self.resources.under_way[number as usize];
        let admitted = self.resources.gates[usize::from(operation.name)].admit(operation.token, operation.mode);
        if admitted.is_err() {
            self.resources.refused += 1;
            return;
        }
        self.resources.applied += 1;
        if let Err(what) = i04::applied(&mut self.judge.truth, &self.modes, operation) {
            self.judge.fail(crate::invariants::Code::I4, &what);
        }
    }
}
