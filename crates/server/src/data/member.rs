//! The data directory of a member of a cluster: who it is. What the members agree on is kept in the folder `group` by the
//! membership group itself; sessions and lockspaces are part of that, so there is no journal.
//!
//! ```text
//! lockstead member directory 1
//! node 2
//! check 1c2d3e4f
//! ```
//! So a directory is used for one node only, and never as that of a node alone.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
};

use super::{AuditLog, DataDir, DataError, crc::crc32c, create_directory, files, lock};

/// The directory of a member, opened.
#[derive(Debug)]
pub(crate) struct MemberDir {
    pub(crate) directory: DataDir,
    pub(crate) audit: AuditLog,
    /// Where the membership group keeps what it keeps.
    pub(crate) group: PathBuf,
}

const FILE: &str = "member";

/// Opens the directory of a member, creating it where it is absent.
///
/// # Errors
/// [`DataError`]; also for the directory of a node alone, whose sessions and tokens the cluster knows nothing of.
pub(crate) fn open_member(path: &Path, node: u16) -> Result<MemberDir, DataError> {
    create_directory(path)?;
    let directory = lock(path)?;
    let file = path.join(FILE);
    let known = read(&file)?;
    if known.is_none() && path.join("identity").exists() {
        let path = path.display();
        return Err(DataError::Refused(format!(
            "data directory {path} belongs to a node alone; a member of a cluster needs one of its own: choose an empty one"
        )));
    }
    match known {
        Some(owner) if owner == node => {}
        Some(owner) => {
            let path = path.display();
            return Err(DataError::Refused(format!(
                "data directory {path} belongs to node {owner}, this is node {node}"
            )));
        }
        None => write(path, node)?,
    }
    let group = path.join("group");
    create_directory(&group)?;
    let audit = AuditLog::open(&path.join("audit.log"))?;
    Ok(MemberDir { directory, audit, group })
}

/// Whether the directory belongs to a member of a cluster.
pub(crate) fn is_member(path: &Path) -> bool {
    path.join(FILE).exists()
}

fn read(path: &Path) -> Result<Option<u16>, DataError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DataError::io("read", path)(error)),
    };
    let problem = "is damaged: move the directory away, start the node with an empty one and let it in again";
    let damaged = || DataError::Damaged { path: path.to_owned(), problem: problem.into() };
    parse(&text).map(Some).ok_or_else(damaged)
}

fn write(directory: &Path, node: u16) -> Result<(), DataError> {
    let beside = directory.join("member.new");
    let mut file = files::create_file(&beside)?;
    file.write_all(print(node).as_bytes()).map_err(DataError::io("write", &beside))?;
    file.sync_all().map_err(DataError::io("make durable", &beside))?;
    files::rename_durably(directory, &beside, &directory.join(FILE))
}

fn print(node: u16) -> String {
    let text = format!("lockstead member directory 1\nnode {node}\n");
    let check = crc32c(text.as_bytes());
    format!("{text}check {check:08x}\n")
}

fn parse(text: &str) -> Option<u16> {
    let (before, check) = text.strip_suffix('\n')?.rsplit_once("check ")?;
    let mut lines = before.lines();
    let sound = crc32c(before.as_bytes()) == u32::from_str_radix(check, 16).ok()?;
    if !sound || lines.next()? != "lockstead member directory 1" {
        return None;
    }
    lines.next()?.strip_prefix("node ")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_its_node() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("data");
        let first = open_member(&path, 2).expect("made");
        assert!(matches!(open_member(&path, 2), Err(DataError::InUse(_))));
        drop(first);
        assert!(matches!(open_member(&path, 3), Err(DataError::Refused(_))));
        let again = open_member(&path, 2).expect("still there");
        drop(again);
        assert!(matches!(super::super::open(&path, 2, 0, &[]), Err(DataError::Refused(_))));
    }

    #[test]
    fn the_directory_of_a_node_alone_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("data");
        drop(super::super::open(&path, 2, 0, &[]).expect("made"));
        assert!(matches!(open_member(&path, 2), Err(DataError::Refused(_))));
    }

    #[test]
    fn a_damaged_file_is_seen() {
        let text = print(3);
        assert_eq!(parse(&text), Some(3));
        assert_eq!(parse(&text.replace("node 3", "node 4")), None);
        assert_eq!(parse(&text[..text.len() - 1]), None);
    }
}
