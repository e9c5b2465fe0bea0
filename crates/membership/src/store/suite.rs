//! openraft's own tests of a log and a state machine.

use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};
use tempfile::TempDir;

use std::sync::Arc;

use lockstead_types::NodeId;

use super::{Disk, LogStore, Machine};
use crate::{event::Feed, group::Group};

struct Builder;

impl StoreBuilder<Group, LogStore, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), StorageError<Group>> {
        let folder = tempfile::tempdir().map_err(failed)?;
        let opened = Disk::open(folder.path(), |why| panic!("{why}"));
        let (disk, mut kept, _thread) = opened.map_err(failed)?;
        let log = LogStore::new(disk.clone(), &mut kept);
        let feed = Arc::new(Feed::new(NodeId(1), Box::new(|_| ())));
        let machine = Machine::new(disk, &mut kept, feed).map_err(failed)?;
        Ok((folder, log, machine))
    }
}

fn failed(why: impl core::error::Error + 'static) -> StorageError<Group> {
    StorageError::read(openraft::errors::ErrorSource::from_error(&why))
}

#[tokio::test]
async fn the_store_passes_openrafts_suite() {
    Suite::test_all(Builder).await.unwrap();
}
