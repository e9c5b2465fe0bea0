//! Lockspaces as a client knows them.

use std::sync::{Arc, OnceLock};

use lockstead_types::{ModeTable, SpaceId, reply::Reply, request::Op, tables::built_in};

use crate::{Error, client::unexpected, link::Link};

/// A lockspace: its number and its modes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Space {
    known: Arc<Known>,
}

#[derive(Debug)]
struct Known {
    id: SpaceId,
    name: String,
    modes: ModeTable,
    value_bytes: u32,
}

impl Space {
    /// Its number on the node.
    #[must_use]
    pub fn id(&self) -> SpaceId {
        self.known.id
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.known.name
    }

    /// Its modes.
    #[must_use]
    pub fn modes(&self) -> &ModeTable {
        &self.known.modes
    }

    /// How many bytes its value blocks have.
    #[must_use]
    pub fn value_bytes(&self) -> u32 {
        self.known.value_bytes
    }
}

pub(crate) async fn open(link: &Link, op: Op<'_>, name: &str) -> Result<Space, Error> {
    match link.ask(op).await? {
        Reply::Space(info) => {
            let modes = ModeTable::new(info.modes).map_err(|e| Error::Protocol(format!("a broken mode table: {e}")))?;
            let known = Known { id: info.space, name: name.to_owned(), modes, value_bytes: info.value_bytes };
            Ok(Space { known: Arc::new(known) })
        }
        other => Err(unexpected(&other)),
    }
}

/// The modes of the lockspace `default`, which every node has from the start.
pub(crate) fn default_modes() -> &'static ModeTable {
    static MODES: OnceLock<ModeTable> = OnceLock::new();
    MODES.get_or_init(|| built_in("vms").expect("the built-in table of that name"))
}
