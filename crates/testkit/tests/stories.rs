//! The stories, against a node in memory: what they print there is what they print over sockets. `UPDATE_EXPECT=1` writes
//! the output they have now beside them; the command's own tests then hold it against a real node.

use std::{fs, path::Path};

use lockstead_script::{TokenMask, parse_script};
use lockstead_testkit::World;

#[test]
fn every_story_is_told_as_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../stories");
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut told = 0;
    for path in entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "txt")) {
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let printed = tell(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let beside = path.with_extension("expected");
        if std::env::var_os("UPDATE_EXPECT").is_some_and(|v| v == "1") {
            fs::write(&beside, &printed).unwrap_or_else(|e| panic!("{}: {e}", beside.display()));
        }
        let expected = fs::read_to_string(&beside).unwrap_or_else(|e| panic!("{}: {e}", beside.display()));
        assert_eq!(printed, expected, "{}", path.display());
        told += 1;
    }
    assert!(told >= 6, "{told} stories in {}", folder.display());
}

/// What a script prints, its tokens numbered.
fn tell(text: &str) -> Result<String, String> {
    let mut world = World::default();
    let mut mask = TokenMask::new();
    let mut printed = String::new();
    for (line, command) in parse_script(text).map_err(|e| e.to_string())? {
        world.play(&command).map_err(|e| format!("line {line}: {e}"))?;
        let seen = if command.background { Vec::new() } else { world.print(&command.session) };
        printed.extend(seen.iter().map(|seen| mask.line(seen) + "\n"));
    }
    printed.extend(world.print("").iter().map(|seen| mask.line(seen) + "\n"));
    Ok(printed)
}
