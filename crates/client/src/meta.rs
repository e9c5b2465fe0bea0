//! What a client says of itself: filled from the process, so that "who holds it?" has an answer without any effort.

use lockstead_types::{SessionId, report::Meta};

/// Longest text of one field; the service bounds them together.
const FIELD_BYTES: usize = 256;

/// Host, process id and program of this process, a purpose, and the session it runs within.
pub(crate) fn of_process(program: Option<&str>, purpose: &str, within: Option<SessionId>) -> Meta {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let program = program.map_or_else(program_name, str::to_owned);
    let (host, program, purpose) = (cut(host), cut(program), cut(purpose.to_owned()));
    Meta { host, pid: std::process::id(), program, purpose, within }
}

fn program_name() -> String {
    let path = std::env::args_os().next().map(std::path::PathBuf::from);
    let name = path.as_deref().and_then(std::path::Path::file_name);
    name.map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

fn cut(mut text: String) -> String {
    if text.len() > FIELD_BYTES {
        let end = (0..=FIELD_BYTES).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
    }
    text
}
