//! Applying a command: lockspaces, and the directory of sessions.

use alloc::{vec, vec::Vec};

use lockstead_types::{
    ModeTable, NodeId, SessionId, SpaceId, Span,
    limits::{PERSISTENT_VALUE_BYTES, VALUE_BYTES_CEILING},
    peer::{HomeGeneration, Incarnation},
    space::{ModeChoice, SpaceSpec},
    tables::built_in,
};

use crate::{
    command::{Change, EndWhy, Refused},
    state::{SessionEntry, State},
};

/// Sessions a cluster may have.
pub const SESSIONS: usize = 1_000_000;
/// Lockspaces a cluster may have.
pub const SPACES: usize = 1_024;
/// Bytes of a principal.
pub const PRINCIPAL_BYTES: usize = 1_024;
/// The lockspace that is always there.
pub(crate) const DEFAULT: &str = "default";

impl State {
    pub(crate) fn open_session(&mut self, session: SessionId, entry: SessionEntry) -> Result<Vec<Change>, Refused> {
        if !self.is_up(entry.home, entry.incarnation) {
            return Err(Refused::Outdated);
        }
        match self.sessions.get(&session) {
            Some(known) => {
                let same = *known == SessionEntry { generation: known.generation, ..entry };
                return if same { Ok(Vec::new()) } else { Err(Refused::Exists) };
            }
            None if self.sessions.len() >= SESSIONS => return Err(Refused::Full),
            None => {}
        }
        if entry.ttl == Span::ZERO || entry.principal.len() > PRINCIPAL_BYTES {
            return Err(Refused::Invalid);
        }
        self.ttl_max = self.ttl_max.max(entry.ttl);
        self.sessions.insert(session, entry);
        Ok(vec![Change::SessionOpened { session }])
    }

    pub(crate) fn rehome_session(
        &mut self,
        session: SessionId,
        from: HomeGeneration,
        home: NodeId,
        incarnation: Incarnation,
    ) -> Result<Vec<Change>, Refused> {
        if !self.is_up(home, incarnation) {
            return Err(Refused::Outdated);
        }
        let next = HomeGeneration(from.0.checked_add(1).ok_or(Refused::Full)?);
        let entry = self.sessions.get_mut(&session).ok_or(Refused::Unknown)?;
        if (entry.home, entry.incarnation, entry.generation) == (home, incarnation, next) {
            return Ok(Vec::new());
        }
        if entry.generation != from {
            return Err(Refused::Outdated);
        }
        if entry.local && entry.home != home {
            // Its client is on the machine of its home.
            return Err(Refused::Invalid);
        }
        let was = entry.home;
        (entry.home, entry.incarnation, entry.generation) = (home, incarnation, next);
        Ok(vec![Change::SessionRehomed { session, from: was }])
    }

    pub(crate) fn end_session(
        &mut self,
        session: SessionId,
        generation: HomeGeneration,
        why: EndWhy,
    ) -> Result<Vec<Change>, Refused> {
        let entry = self.sessions.get(&session).ok_or(Refused::Unknown)?;
        if entry.generation != generation {
            return Err(Refused::Outdated);
        }
        let home = entry.home;
        self.sessions.remove(&session);
        Ok(vec![Change::SessionEnded { session, home, generation, why }])
    }

    pub(crate) fn create_space(&mut self, spec: &SpaceSpec, nonce: u64) -> Result<Vec<Change>, Refused> {
        check_spec(spec)?;
        if let Some((space, _)) = self.spaces.iter().find(|(_, known)| known.name == spec.name) {
            let own = self.space_nonces.get(space) == Some(&nonce);
            return if own { Ok(Vec::new()) } else { Err(Refused::Exists) };
        }
        if self.spaces.len() >= SPACES {
            return Err(Refused::Full);
        }
        // Numbers of dropped lockspaces do not come back: a client may still know one.
        self.newest_space = self.newest_space.checked_add(1).ok_or(Refused::Full)?;
        let space = SpaceId(self.newest_space);
        self.spaces.insert(space, spec.clone());
        self.space_nonces.insert(space, nonce);
        Ok(vec![Change::SpaceCreated { space }])
    }

    pub(crate) fn close_space(&mut self, space: SpaceId) -> Result<Vec<Change>, Refused> {
        self.droppable(space)?;
        let new = self.closing.insert(space);
        Ok(if new { vec![Change::SpaceClosing { space }] } else { Vec::new() })
    }

    pub(crate) fn drop_space(&mut self, space: SpaceId) -> Result<Vec<Change>, Refused> {
        self.droppable(space)?;
        self.spaces.remove(&space);
        self.space_nonces.remove(&space);
        self.closing.remove(&space);
        self.kept.remove(&space);
        Ok(vec![Change::SpaceDropped { space }])
    }

    fn droppable(&self, space: SpaceId) -> Result<(), Refused> {
        match self.spaces.get(&space) {
            None => Err(Refused::Unknown),
            Some(_) if space == SpaceId(0) => Err(Refused::Invalid),
            Some(_) => Ok(()),
        }
    }
}

/// Whether a lockspace can be as it is asked for. Nodes ask the same before they propose, and say what is wrong.
pub(crate) fn check_spec(spec: &SpaceSpec) -> Result<(), Refused> {
    let named = (1..=64).contains(&spec.name.len()) && spec.name.bytes().all(|b| b.is_ascii_graphic());
    let modes = match &spec.modes {
        ModeChoice::BuiltIn(name) => built_in(name).is_some(),
        ModeChoice::Custom(spec) => ModeTable::new(spec.clone()).is_ok(),
    };
    let most = if spec.persistent { PERSISTENT_VALUE_BYTES } else { VALUE_BYTES_CEILING };
    if named && modes && spec.value_bytes <= most { Ok(()) } else { Err(Refused::Invalid) }
}
