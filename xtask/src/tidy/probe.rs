//! Tries that the pure crates really do without `std`, dependencies and their features included.
//!
//! A crate that has its own panic handler is built on top of all of them. Where anything below it links `std`, there
//! are two panic handlers, and the compiler refuses. It stands outside the workspace, because inside it the features
//! of all members are united, and a `std` feature that only the server wants would be counted against the core.

use std::{fs, path::Path, process::Command};

use super::imports;
use crate::run::{self, cargo};

/// # Errors
/// What the compiler said.
pub(crate) fn check(root: &Path) -> Result<(), String> {
    let crates: Vec<(String, String)> = imports::pure_crates()
        .map(|folder| (format!("lockstead-{folder}"), root.join("crates").join(folder).display().to_string()))
        .collect();
    let place = target(root).join("no-std-probe");
    probe(&place, &crates, Some(&root.join("Cargo.lock")))
        .map_err(|why| format!("crates/: a pure crate, or what it imports, uses `std`, or does not compile: {why}"))
}

fn target(root: &Path) -> std::path::PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into)
}

fn probe(place: &Path, crates: &[(String, String)], lock: Option<&Path>) -> Result<(), String> {
    let told = |e: std::io::Error| format!("{}: {e}", place.display());
    fs::create_dir_all(place.join("src")).map_err(told)?;
    fs::write(place.join("Cargo.toml"), manifest(crates)).map_err(told)?;
    fs::write(place.join("src/lib.rs"), source(crates)).map_err(told)?;
    if let Some(lock) = lock {
        fs::copy(lock, place.join("Cargo.lock")).map_err(told)?;
    }
    let mut command: Command = cargo();
    command.current_dir(place).args(["check", "--quiet"]).env("CARGO_TARGET_DIR", place.join("target"));
    run::capture(&mut command).map(|_| ())
}

fn manifest(crates: &[(String, String)]) -> String {
    let mut text = String::from(
        "[package]\nname = \"no-std-probe\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\n",
    );
    for (name, path) in crates {
        text.push_str(&format!("{name} = {{ path = {path:?} }}\n"));
    }
    text
}

fn source(crates: &[(String, String)]) -> String {
    let mut text = String::from("//! Compiles only where nothing below links std.\n#![no_std]\n");
    for (name, _) in crates {
        text.push_str(&format!("pub use {};\n", name.replace('-', "_")));
    }
    text.push_str("#[panic_handler]\nfn panic(_: &core::panic::PanicInfo<'_>) -> ! {\n    loop {}\n}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_crate(source: &str) -> Result<(), String> {
        let dir = tempfile::tempdir().expect("a folder");
        let below = dir.path().join("below");
        fs::create_dir_all(below.join("src")).expect("made");
        fs::write(below.join("Cargo.toml"), "[package]\nname = \"below\"\nversion = \"0.0.0\"\nedition = \"2024\"\n")
            .expect("written");
        fs::write(below.join("src/lib.rs"), source).expect("written");
        probe(&dir.path().join("probe"), &[("below".into(), below.display().to_string())], None)
    }

    #[test]
    fn a_crate_without_std_passes() {
        assert_eq!(try_crate("#![no_std]\nextern crate alloc;\npub type Bytes = alloc::vec::Vec<u8>;\n"), Ok(()));
    }

    #[test]
    fn a_crate_that_links_std_is_found() {
        let said = try_crate("#![no_std]\nextern crate std;\npub type Bytes = std::vec::Vec<u8>;\n");
        assert!(said.as_ref().is_err_and(|why| why.contains("panic_impl")), "{said:?}");
    }
}
