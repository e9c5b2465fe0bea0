//! Groups: sessions that own locks together.

use lockstead_types::{
    GroupId,
    reply::Reply,
    request::{Op, OwnerRef},
};

use crate::{
    Error, LockBuilder,
    client::{done, unexpected},
    link::Link,
    lock::Ask,
};

/// Membership in a group. Members share its locks without queueing: asking for one the group has in a mode that covers the
/// one asked for gives the same lock and token at once. Dropping it leaves the group at best effort.
pub struct Group {
    link: Link,
    id: GroupId,
    left: bool,
}

impl Group {
    pub(crate) async fn attach(link: &Link, name: &[u8]) -> Result<Group, Error> {
        match link.ask(Op::GroupAttach { name }).await? {
            Reply::Group(id) => Ok(Group { link: link.clone(), id, left: false }),
            other => Err(unexpected(&other)),
        }
    }

    /// The group's number in this session.
    #[must_use]
    pub fn id(&self) -> GroupId {
        self.id
    }

    /// A lock the group owns.
    pub fn lock<N: AsRef<[u8]>>(&self, name: N) -> LockBuilder<'_, N> {
        LockBuilder::new(&self.link, name, Ask { owner: OwnerRef::Group(self.id), ..Ask::default() })
    }

    /// Leaves the group. This member's guards of group locks are lost; the group's locks are released with its last member.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub async fn detach(mut self) -> Result<(), Error> {
        self.left = true;
        done(self.link.ask(Op::GroupDetach(self.id)).await?)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.left {
            self.link.post(&Op::GroupDetach(self.id));
        }
    }
}
