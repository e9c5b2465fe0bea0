//! Commands that change what others have.

pub(crate) mod cluster;
mod init;
pub(crate) mod lockspace;
pub(crate) mod release;
