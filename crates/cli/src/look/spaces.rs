//! Lockspaces by number, for reports that name several.

use std::collections::HashMap;

use lockstead::{Client, SpaceId};
use lockstead_types::{ModeTable, name::escape, space::ModeChoice, tables::built_in};

use super::failed;
use crate::exit::Failure;

/// Every lockspace of the service: its name and modes.
pub(crate) struct Spaces {
    known: HashMap<SpaceId, (String, ModeTable)>,
    unknown: (String, ModeTable),
}

impl Spaces {
    /// Asks for all of them.
    ///
    /// # Errors
    /// Those of the request.
    pub(crate) async fn load(client: &Client) -> Result<Spaces, Failure> {
        let mut known = HashMap::new();
        for (id, spec) in client.spaces().await.map_err(failed)? {
            let modes = match spec.modes {
                ModeChoice::BuiltIn(name) => built_in(&name),
                ModeChoice::Custom(table) => ModeTable::new(table).ok(),
            };
            if let Some(modes) = modes {
                known.insert(id, (spec.name, modes));
            }
        }
        let unknown = built_in("vms").map(|modes| ("?".to_owned(), modes));
        let unknown = unknown.ok_or_else(|| crate::exit::Exit::Failed.because("no built-in modes"))?;
        Ok(Spaces { known, unknown })
    }

    /// The name of a lockspace; `?` for one that was created or dropped between the report and the list.
    pub(crate) fn name(&self, id: SpaceId) -> &str {
        &self.get(id).0
    }

    /// Its modes.
    pub(crate) fn modes(&self, id: SpaceId) -> &ModeTable {
        &self.get(id).1
    }

    /// A resource for people: its lockspace is named where that is not `default`.
    pub(crate) fn resource(&self, id: SpaceId, name: &[u8]) -> String {
        match self.name(id) {
            "default" => escape(name),
            space => format!("{space}:{}", escape(name)),
        }
    }

    fn get(&self, id: SpaceId) -> &(String, ModeTable) {
        self.known.get(&id).unwrap_or(&self.unknown)
    }
}
