//! Files that survive a crash of the machine: written beside, made durable, renamed into place.

use std::{
    fs::{self, DirBuilder, File},
    io::{ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use super::DataError;

/// Creates a folder for this user alone, or finds that it is there and this user's.
pub(crate) fn create_directory(path: &Path) -> Result<(), DataError> {
    match DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(DataError::io("create", path)(error)),
    }
    let found = fs::metadata(path).map_err(DataError::io("look at", path))?;
    if !found.is_dir() {
        return Err(DataError::Refused(format!("{} is no folder", path.display())));
    }
    let me = rustix::process::geteuid().as_raw();
    if found.uid() != me && found.uid() != 0 {
        let (path, owner) = (path.display(), found.uid());
        return Err(DataError::Refused(format!("folder {path} belongs to user {owner}, not to user {me} or root")));
    }
    // Whoever may write to a folder may put another socket or journal in the place of ours; the sticky bit forbids it.
    if found.mode() & 0o022 != 0 && found.mode() & 0o1000 == 0 {
        let (path, mode) = (path.display(), found.mode() & 0o7777);
        return Err(DataError::Refused(format!("folder {path} is writable by others (mode {mode:o}); make it 0700")));
    }
    Ok(())
}

/// Opens a new file for appending, for this user alone; an old one of that name is emptied.
pub(crate) fn create_file(path: &Path) -> Result<File, DataError> {
    let file = File::options().create(true).truncate(true).write(true).mode(0o600).open(path);
    file.map_err(DataError::io("create", path))
}

/// Puts `from` in the place of `to`, durably. `from` must be durable already.
pub(crate) fn rename_durably(directory: &Path, from: &Path, to: &Path) -> Result<(), DataError> {
    fs::rename(from, to).map_err(DataError::io("rename", from))?;
    sync_directory(directory)
}

/// Makes the names in a folder durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), DataError> {
    let folder = File::open(path).map_err(DataError::io("open", path))?;
    folder.sync_all().map_err(DataError::io("make durable", path))
}

/// What was done by force, a line each.
#[derive(Debug)]
pub(crate) struct AuditLog {
    file: File,
}

impl AuditLog {
    pub(crate) fn open(path: &Path) -> Result<AuditLog, DataError> {
        let file = File::options().create(true).append(true).mode(0o600).open(path);
        Ok(AuditLog { file: file.map_err(DataError::io("open", path))? })
    }

    /// Appends a line. Control characters are escaped, so that nobody writes a second line into the first.
    pub(crate) fn append(&mut self, text: &str) -> Result<(), std::io::Error> {
        let seconds = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
        let mut line = format!("{seconds} ");
        line.extend(text.chars().flat_map(|c| {
            let (plain, escaped) = if c.is_control() { (None, Some(c.escape_default())) } else { (Some(c), None) };
            plain.into_iter().chain(escaped.into_iter().flatten())
        }));
        line.push('\n');
        self.file.write_all(line.as_bytes())
    }
}
