//! Fencing: the check that a guarded resource makes, without trusting any clock.
//!
//! A holder that was stopped (a long pause, `SIGSTOP`, a suspended machine) may go on after its lease has ended and another
//! holder has begun, and no check on the holder's side can see the moment between the check and the step. So each step
//! carries the token of its grant, and the resource refuses a step whose token is older than that of a conflicting step it
//! has already done.
//!
//! [`FenceGate`] is that rule. Three conditions belong to it:
//!
//! 1. **The marks are as durable as the data**, kept beside it, and written in the same step.
//! 2. **Check and step are one step**: nobody else comes between them.
//! 3. **A new holder makes a step of its own before it trusts what it reads**; a read through the gate is one.
//!
//! # A file
//!
//! Here the data and its marks are one small file that is replaced as a whole, under a lock of the operating system, which
//! makes check and step one step for all processes of the machine. `examples/guarded_file.rs` is the same as a program.
//!
//! ```
//! use std::{fs, io, path::{Path, PathBuf}};
//! use lockstead::{FenceGate, Mode, ModeTable, Token};
//!
//! struct GuardedFile { path: PathBuf, modes: ModeTable }
//!
//! impl GuardedFile {
//!     /// Reads under a token, or replaces the content where `write` is given.
//!     fn step(&self, token: Token, mode: Mode, write: Option<&str>) -> io::Result<String> {
//!         let lock = fs::File::create(self.path.with_extension("lock"))?;
//!         lock.lock()?; // until `lock` is dropped: condition 2
//!         let (marks, content) = self.load()?;
//!         let mut gate = FenceGate::restore(self.modes.clone(), &marks);
//!         gate.admit(token, mode).map_err(|stale| io::Error::new(io::ErrorKind::PermissionDenied, stale))?;
//!         let content = write.map_or(content, str::to_owned);
//!         self.store(gate.marks(), &content)?; // condition 1, for a read too
//!         Ok(content)
//!     }
//!
//!     fn load(&self) -> io::Result<(Vec<Token>, String)> {
//!         let text = match fs::read_to_string(&self.path) {
//!             Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), String::new())),
//!             text => text?,
//!         };
//!         let (marks, content) = text.split_once('\n').unwrap_or((&text, ""));
//!         let marks = marks.split(' ').map(|m| m.parse().ok().and_then(Token::from_u64));
//!         let marks = marks.collect::<Option<_>>().ok_or(io::ErrorKind::InvalidData)?;
//!         Ok((marks, content.to_owned()))
//!     }
//!
//!     fn store(&self, marks: &[Token], content: &str) -> io::Result<()> {
//!         let marks: Vec<String> = marks.iter().map(Token::to_string).collect();
//!         let next = self.path.with_extension("next");
//!         fs::write(&next, format!("{}\n{content}", marks.join(" ")))?;
//!         fs::File::open(&next)?.sync_all()?;
//!         fs::rename(&next, &self.path)?; // all or nothing
//!         let dir = self.path.parent().filter(|d| !d.as_os_str().is_empty());
//!         fs::File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn core::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("balance");
//! let engine = lockstead::Engine::embedded();
//! let (first, second) = (engine.client(), engine.client());
//!
//! let old = first.lock("balance").await?;
//! let file = GuardedFile { path, modes: old.modes().clone() };
//! let (old_token, ex) = (old.token(), old.mode().expect("a mode"));
//! file.step(old_token, ex, Some("10"))?;
//! drop(old); // as if it had been lost while the process was stopped
//!
//! let new = second.lock("balance").await?;
//! assert_eq!(file.step(new.token(), ex, None)?, "10"); // condition 3: a read that fences
//!
//! // The first holder wakes up and writes under its old token: refused, and nothing has changed.
//! let late = file.step(old_token, ex, Some("999")).unwrap_err();
//! assert_eq!(late.kind(), std::io::ErrorKind::PermissionDenied);
//! assert_eq!(file.step(new.token(), ex, None)?, "10");
//! # Ok(()) }
//! ```

pub use lockstead_types::fence::{FenceGate, Stale};
