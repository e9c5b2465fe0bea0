//! Lockspaces: found, created, dropped.

use alloc::{
    borrow::ToOwned,
    boxed::Box,
    collections::BTreeMap,
    format,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};

use lockstead_table::Space;
use lockstead_types::{
    LimitName, ModeTable, RequestId, SpaceId, Time,
    hierarchy::Hierarchy,
    limits::{PERSISTENT_VALUE_BYTES, VALUE_BYTES_CEILING},
    name::escape,
    refusal::Refusal,
    reply::{Reply, SpaceInfo},
    space::{ModeChoice, SpaceSpec},
    tables::built_in,
};

use crate::{io::Record, node::Node};

/// The lockspace that is always there.
const DEFAULT: &str = "default";
/// Bytes of a lockspace's name.
const NAME_BYTES: usize = 64;

/// All lockspaces.
pub(crate) struct Spaces {
    by_id: BTreeMap<SpaceId, SpaceSpec>,
    by_name: BTreeMap<String, SpaceId>,
    /// The newest number given. Numbers of dropped lockspaces must not come back while clients may remember them, also not
    /// after a restart, so each epoch begins in a range of its own.
    newest: u32,
    /// How many of them are hierarchies: nearly always none, and then nobody looks further.
    trees: u32,
}

impl Spaces {
    pub(crate) fn new(epoch: u32) -> Spaces {
        Spaces {
            by_id: BTreeMap::new(),
            by_name: BTreeMap::new(),
            newest: epoch.wrapping_mul(EPOCH_RANGE) % NUMBERS,
            trees: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn find(&self, name: &str) -> Option<SpaceId> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn list(&self) -> Vec<(SpaceId, SpaceSpec)> {
        self.by_id.iter().map(|(id, spec)| (*id, spec.clone())).collect()
    }

    pub(crate) fn get(&self, id: SpaceId) -> Option<&SpaceSpec> {
        self.by_id.get(&id)
    }

    /// Whether ages of transactions matter in any of them.
    pub(crate) fn prevents(&self) -> bool {
        self.by_id.values().any(|spec| spec.deadlock.prevents())
    }

    /// How the resources of a lockspace lie above one another, where they do.
    pub(crate) fn tree(&self, id: SpaceId) -> Option<&Hierarchy> {
        if self.trees == 0 { None } else { self.by_id.get(&id)?.hierarchy.as_deref() }
    }

    pub(crate) fn has_trees(&self) -> bool {
        self.trees > 0
    }

    fn add(&mut self, id: SpaceId, spec: SpaceSpec) {
        self.remove(id);
        self.trees += u32::from(spec.hierarchy.is_some());
        self.by_name.insert(spec.name.clone(), id);
        self.by_id.insert(id, spec);
        self.newest = self.newest.max(id.0);
    }

    fn remove(&mut self, id: SpaceId) {
        if let Some(spec) = self.by_id.remove(&id) {
            self.trees -= u32::from(spec.hierarchy.is_some());
            self.by_name.remove(&spec.name);
        }
    }

    pub(crate) fn check(&self, table: &lockstead_table::Table) -> Result<(), &'static str> {
        if self.by_id.len() != self.by_name.len() {
            return Err("a lockspace is not found by its name");
        }
        if self.by_id.keys().any(|id| table.space(*id).is_none()) {
            return Err("a lockspace is not in the table");
        }
        Ok(())
    }
}

/// Lockspaces an epoch may create before it meets the numbers of the next.
const EPOCH_RANGE: u32 = 1 << 8;
/// Numbers are below this, and the ranges begin again where epochs reach it.
const NUMBERS: u32 = 1 << 31;

impl Node {
    pub(crate) fn load_spaces(&mut self) {
        for (id, spec) in core::mem::take(&mut self.config.spaces) {
            match self.plan_space(&spec) {
                Ok(space) => {
                    self.table.add_space(id, space);
                    self.spaces.add(id, spec);
                }
                Err(why) => self.audit(format!("lockspace {} of the journal is left out: {why}", spec.name)),
            }
        }
        if self.spaces.find(DEFAULT).is_none() {
            let spec = SpaceSpec::named(DEFAULT);
            if let Ok(space) = self.plan_space(&spec) {
                self.table.add_space(SpaceId(0), space);
                self.spaces.add(SpaceId(0), spec);
            }
        }
    }

    pub(crate) fn on_space_open(&mut self, at: u32, id: RequestId, name: &str) {
        match self.spaces.find(name) {
            Some(space) => self.answer_space(at, id, space),
            None => self.refuse(at, id, Refusal::NoLockspace),
        }
    }

    pub(crate) fn on_space_create(&mut self, at: u32, id: RequestId, spec: &SpaceSpec) {
        match self.try_create_space(spec) {
            Ok(space) => {
                self.record(Record::SpaceCreated { id: space, spec: spec.clone() });
                self.answer_space(at, id, space);
            }
            Err(why) => self.refuse(at, id, why),
        }
    }

    fn try_create_space(&mut self, spec: &SpaceSpec) -> Result<SpaceId, Refusal> {
        let space = self.plan_space(spec)?;
        if self.spaces.find(&spec.name).is_some() {
            return Err(Refusal::Exists);
        }
        let limit = Refusal::Limit(LimitName::Spaces);
        if self.spaces.len() >= self.config.limits.spaces as usize {
            return Err(limit);
        }
        let id = SpaceId(self.spaces.newest.checked_add(1).ok_or(limit)?);
        self.table.add_space(id, space);
        self.spaces.add(id, spec.clone());
        Ok(id)
    }

    /// Checks what a lockspace is to be.
    pub(crate) fn plan_space(&self, spec: &SpaceSpec) -> Result<Space, Refusal> {
        if spec.name.len() > NAME_BYTES {
            return Err(Refusal::TooLong);
        }
        if spec.name.is_empty() || !spec.name.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Refusal::Invalid);
        }
        let most = if spec.persistent { PERSISTENT_VALUE_BYTES } else { VALUE_BYTES_CEILING };
        if spec.value_bytes > most {
            return Err(Refusal::TooLong);
        }
        let modes = match &spec.modes {
            ModeChoice::BuiltIn(name) => built_in(name).ok_or(Refusal::BadMode)?,
            ModeChoice::Custom(spec) => ModeTable::new(spec.clone()).map_err(|_| Refusal::BadMode)?,
        };
        // [HIER-1] A part of a resource lies below nothing: its extent is no component of a name.
        if spec.extents && spec.hierarchy.is_some() {
            return Err(Refusal::Invalid);
        }
        if spec.hierarchy.as_ref().is_some_and(|tree| tree.check(&modes).is_err()) {
            return Err(Refusal::BadMode);
        }
        let value_bytes = if spec.value_bytes == 0 { self.config.limits.value_bytes } else { spec.value_bytes };
        let (policy, deadlock, victim) = (spec.policy, spec.deadlock, spec.victim);
        // [PERSIST-4] A node alone has nobody who keeps it.
        if spec.persistent && !self.is_member() {
            return Err(Refusal::Invalid);
        }
        let (levels, extents, persistent) = (spec.levels, spec.extents, spec.persistent);
        let value_bytes = if persistent { value_bytes.min(PERSISTENT_VALUE_BYTES) } else { value_bytes };
        Ok(Space { modes: Arc::new(modes), policy, deadlock, victim, value_bytes, levels, extents, persistent })
    }

    pub(crate) fn on_space_drop(&mut self, now: Time, at: u32, id: RequestId, name: &str, force: bool) {
        match self.try_drop_space(now, name, force) {
            Ok(space) => {
                self.record(Record::SpaceDropped { id: space });
                let what =
                    format!("lockspace {} dropped{}", escape(name.as_bytes()), if force { " by force" } else { "" });
                self.audit_request(at, &what, None);
                self.answer(at, id, Reply::Done);
            }
            Err(why) => self.refuse(at, id, why),
        }
        self.tell_effects(now);
    }

    fn try_drop_space(&mut self, now: Time, name: &str, force: bool) -> Result<SpaceId, Refusal> {
        if name == DEFAULT {
            return Err(Refusal::Invalid);
        }
        let space = self.spaces.find(name).ok_or(Refusal::NoLockspace)?;
        self.table.drop_space(now, space, force, &mut self.fx)?;
        self.spaces.remove(space);
        self.forget_watches_of(space);
        Ok(space)
    }

    pub(crate) fn answer_space(&mut self, at: u32, id: RequestId, space: SpaceId) {
        let Some(known) = self.table.space(space) else { return self.refuse(at, id, Refusal::NoLockspace) };
        let hierarchy = self.spaces.get(space).and_then(|spec| spec.hierarchy.clone());
        let info = SpaceInfo { space, modes: known.modes.spec().clone(), value_bytes: known.value_bytes, hierarchy };
        self.answer(at, id, Reply::Space(Box::new(info)));
    }

    /// As a member: a lockspace that all have agreed on.
    pub(crate) fn on_space_created(&mut self, id: SpaceId) {
        let spec = self.member.as_ref().and_then(|m| m.state.spaces.get(&id)).cloned();
        let Some(spec) = spec else { return };
        match self.plan_space(&spec) {
            Ok(space) => {
                self.table.add_space(id, space);
                self.spaces.add(id, spec);
            }
            Err(why) => self.audit(format!("lockspace {} is left out: {why}", spec.name)),
        }
    }

    pub(crate) fn on_space_dropped(&mut self, now: Time, id: SpaceId) {
        let _none_held_or_forced = self.table.drop_space(now, id, true, &mut self.fx);
        self.spaces.remove(id);
        self.forget_watches_of(id);
        self.tell_effects(now);
    }

    /// A line for the audit log: who did what, and why.
    pub(crate) fn audit_request(&mut self, at: u32, what: &str, reason: Option<&str>) {
        let who = match self.sessions.get(at) {
            Some(s) => format!("session {} ({})", s.id, s.principal),
            None => "nobody".to_owned(),
        };
        let why = reason.map(|r| format!(", reason: {}", printable(r))).unwrap_or_default();
        self.audit(format!("{what} by {who}{why}"));
    }
}

/// One line, whatever was sent.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_string()
}
