//! Commands that look and change nothing.

pub(crate) mod deadlocks;
pub(crate) mod last_known;
pub(crate) mod ls;
pub(crate) mod members;
pub(crate) mod nodes;
pub(crate) mod scn;
pub(crate) mod sessions;
pub(crate) mod show;
mod spaces;
pub(crate) mod status;
pub(crate) mod tree;
mod tree_picture;
pub(crate) mod watch;

use lockstead::Error;

use crate::{
    connect::{About, explain},
    exit::Failure,
};

/// A look that failed, in words.
fn failed(error: Error) -> Failure {
    explain(error, &About::Service)
}
