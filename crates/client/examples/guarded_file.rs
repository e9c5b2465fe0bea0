//! A counter in a file that no stale holder can spoil.
//!
//! `guarded_file PATH [TIMES]` adds one to the number in PATH, TIMES times, each time under the lock of that name and
//! through a fence whose marks stand in the same file. Run many of them at once against one server, stop some with
//! `SIGSTOP` for longer than their lease and continue them: the number is exactly the number of steps that were reported.
//!
//! Without a server: `LOCKSTEAD_EMBEDDED=1`.

use core::time::Duration;
use std::{env, fs, io, path::Path, path::PathBuf};

use lockstead::{Client, Engine, FenceGate, Guard, ModeTable, Token};

type Fallible<T> = Result<T, Box<dyn core::error::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Fallible<()> {
    let mut args = env::args().skip(1);
    let path = PathBuf::from(args.next().ok_or("usage: guarded_file PATH [TIMES]")?);
    let times: u32 = args.next().map_or(Ok(1), |t| t.parse())?;
    let client = match env::var_os("LOCKSTEAD_EMBEDDED") {
        Some(_) => Engine::embedded().client(),
        None => Client::from_env().await?,
    };
    let name = path.to_string_lossy().into_owned();
    let mut done = 0;
    while done < times {
        let guard = client.lock(&name).wait(Duration::from_secs(30)).await?;
        match add_one(&path, &guard) {
            Ok(count) => {
                done += 1;
                println!("{count} under token {}", guard.token());
            }
            // Lost between the check and the step: the step was refused by the file, and is tried again under a new grant.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => eprintln!("refused: {e}"),
            Err(e) => return Err(e.into()),
        }
        guard.release().await?;
    }
    client.close().await?;
    Ok(())
}

/// One step: under the operating system's lock the token is checked, the number raised, and both written.
fn add_one(path: &Path, guard: &Guard) -> io::Result<u64> {
    let mode = guard.mode().ok_or(io::ErrorKind::InvalidInput)?;
    let lock = fs::File::create(path.with_extension("lock"))?;
    lock.lock()?;
    let (marks, count) = load(path)?;
    let mut gate = FenceGate::restore(ModeTable::clone(guard.modes()), &marks);
    gate.admit(guard.token(), mode).map_err(|stale| io::Error::new(io::ErrorKind::PermissionDenied, stale))?;
    store(path, gate.marks(), count + 1)?;
    Ok(count + 1)
}

/// The first line holds the marks, the second the number.
fn load(path: &Path) -> io::Result<(Vec<Token>, u64)> {
    let text = match fs::read_to_string(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        text => text?,
    };
    let (marks, count) = text.split_once('\n').ok_or(io::ErrorKind::InvalidData)?;
    let marks = marks.split(' ').map(|m| m.parse().ok().and_then(Token::from_u64));
    let marks = marks.collect::<Option<_>>().ok_or(io::ErrorKind::InvalidData)?;
    Ok((marks, count.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?))
}

/// Replaces the file as a whole: marks and number are never apart, also after a crash.
fn store(path: &Path, marks: &[Token], count: u64) -> io::Result<()> {
    let marks: Vec<String> = marks.iter().map(Token::to_string).collect();
    let next = path.with_extension("next");
    fs::write(&next, format!("{}\n{count}\n", marks.join(" ")))?;
    fs::File::open(&next)?.sync_all()?;
    fs::rename(&next, path)?;
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty());
    fs::File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
}
