//! The groups the session is attached to: the application's numbers for them, the node's, and their names.

use alloc::{boxed::Box, vec::Vec};

use lockstead_types::GroupId;

/// A group's place here: the number the application knows, less one.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct GroupNumber(u32);

#[derive(Debug)]
struct Group {
    name: Box<[u8]>,
    /// `None` while the node does not know that the session is attached (after a restart).
    wire: Option<GroupId>,
}

#[derive(Default)]
pub(crate) struct Groups {
    places: Vec<Option<Group>>,
}

impl Groups {
    /// Attached: the application's number. Attaching twice to one group is one membership.
    pub(crate) fn add(&mut self, wire: GroupId, name: &[u8]) -> GroupId {
        let same = |g: &Option<Group>| g.as_ref().is_some_and(|g| g.wire == Some(wire));
        let index = self.places.iter().position(same).unwrap_or_else(|| {
            let group = Some(Group { name: name.into(), wire: Some(wire) });
            match self.places.iter().position(Option::is_none) {
                Some(free) => {
                    self.places[free] = group;
                    free
                }
                None => {
                    self.places.push(group);
                    self.places.len() - 1
                }
            }
        });
        GroupNumber(index as u32).known_as()
    }

    pub(crate) fn wire_of(&self, group: GroupId) -> Option<GroupId> {
        self.get(group)?.wire
    }

    pub(crate) fn name_of(&self, group: GroupId) -> Option<&[u8]> {
        Some(&self.get(group)?.name)
    }

    pub(crate) fn has(&self, group: GroupId) -> bool {
        self.get(group).is_some()
    }

    pub(crate) fn remove(&mut self, group: GroupId) {
        if let Some(place) = group.0.checked_sub(1).and_then(|i| self.places.get_mut(i as usize)) {
            *place = None;
        }
    }

    /// The node restarted: all of them, to be joined again by name.
    pub(crate) fn forget_wires(&mut self) -> Vec<(GroupNumber, Box<[u8]>)> {
        let mut names = Vec::new();
        for (index, place) in self.places.iter_mut().enumerate() {
            if let Some(group) = place {
                group.wire = None;
                names.push((GroupNumber(index as u32), group.name.clone()));
            }
        }
        names
    }

    pub(crate) fn set_wire(&mut self, number: GroupNumber, wire: GroupId) {
        if let Some(Some(group)) = self.places.get_mut(number.0 as usize) {
            group.wire = Some(wire);
        }
    }

    fn get(&self, group: GroupId) -> Option<&Group> {
        self.places.get(group.0.checked_sub(1)? as usize)?.as_ref()
    }
}

impl GroupNumber {
    pub(crate) fn known_as(self) -> GroupId {
        GroupId(self.0 + 1)
    }
}
