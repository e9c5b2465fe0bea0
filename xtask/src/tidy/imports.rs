//! Who may import whom. The manifests are compared with [`TABLE`]: a new arrow means editing it, which a reviewer sees.

use super::{Problem, Tree};

/// What a crate may depend on.
struct Allowed {
    /// The folder under `crates/`.
    folder: &'static str,
    /// Crates of the workspace, by folder.
    inside: &'static [&'static str],
    /// Crates of the workspace that its tests, examples and benches may use besides.
    inside_tests: &'static [&'static str],
    /// Whether it must be `no_std`, without clock, chance, I/O or async; then `outside` is all it may use of the rest.
    pure: Option<&'static [&'static str]>,
}

/// Arrows point inwards: cli, server, client -> node, client-core -> table -> types.
const TABLE: &[Allowed] = &[
    Allowed { folder: "types", inside: &[], inside_tests: &[], pure: Some(&[]) },
    Allowed { folder: "table", inside: &["types"], inside_tests: &["testkit"], pure: Some(&["foldhash", "hashbrown"]) },
    Allowed { folder: "cluster", inside: &["types"], inside_tests: &[], pure: Some(&[]) },
    Allowed {
        folder: "node",
        inside: &["cluster", "table", "types"],
        inside_tests: &["testkit", "wire"],
        pure: Some(&["foldhash", "hashbrown", "siphasher"]),
    },
    Allowed {
        folder: "client-core",
        inside: &["types"],
        inside_tests: &["node", "wire"],
        pure: Some(&["foldhash", "hashbrown"]),
    },
    Allowed { folder: "wire", inside: &["types"], inside_tests: &[], pure: Some(&["zerocopy"]) },
    Allowed { folder: "membership", inside: &["cluster", "types"], inside_tests: &[], pure: None },
    Allowed { folder: "script", inside: &["types"], inside_tests: &[], pure: None },
    Allowed {
        folder: "server",
        inside: &["cluster", "membership", "node", "types", "wire"],
        inside_tests: &["client", "client-core", "testkit"],
        pure: None,
    },
    Allowed {
        folder: "client",
        inside: &["client-core", "node", "types", "wire"],
        inside_tests: &["server", "testkit"],
        pure: None,
    },
    Allowed {
        folder: "sim",
        inside: &["client-core", "cluster", "node", "table", "types", "wire"],
        inside_tests: &[],
        pure: None,
    },
    Allowed { folder: "testkit", inside: &["node", "script", "table", "types"], inside_tests: &[], pure: None },
    Allowed {
        folder: "cli",
        inside: &["client", "script", "server", "types", "wire"],
        inside_tests: &["testkit"],
        pure: None,
    },
];

/// The folders of the crates that must be pure.
pub(crate) fn pure_crates() -> impl Iterator<Item = &'static str> {
    TABLE.iter().filter(|allowed| allowed.pure.is_some()).map(|allowed| allowed.folder)
}

pub(crate) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in tree.texts() {
        let Some(folder) = path.strip_prefix("crates/").and_then(|rest| rest.strip_suffix("/Cargo.toml")) else {
            continue;
        };
        match TABLE.iter().find(|allowed| allowed.folder == folder) {
            Some(allowed) => check_manifest(path, text, allowed, &mut problems),
            None => problems.push(Problem::at(
                path,
                1,
                format!("crate `{folder}` is not in the import table: add it to xtask/src/tidy/imports.rs"),
            )),
        }
    }
    if let Some(text) = tree.text("xtask/Cargo.toml") {
        for name in names(text, &["dependencies", "dev-dependencies"]) {
            if folder_of(&name).is_some() {
                problems.push(Problem::at(
                    "xtask/Cargo.toml",
                    line_of(text, &name),
                    "xtask imports no crate of the product",
                ));
            }
        }
    }
    problems
}

fn check_manifest(path: &str, text: &str, allowed: &Allowed, problems: &mut Vec<Problem>) {
    if text.parse::<toml::Table>().is_err() {
        problems.push(Problem::at(path, 1, "not valid TOML"));
        return;
    }
    if !text.contains("[lints]\nworkspace = true") {
        problems.push(Problem::at(path, 1, "add `[lints]` with `workspace = true`: the lints hold for every crate"));
    }
    for (at, line) in text.lines().enumerate() {
        // Planted bugs are for the simulator alone, when it is told to: no crate may turn them on for another.
        let word = line.contains("\"planted\"") || line.contains("/planted\"");
        if word && !line.starts_with("planted = [") {
            problems.push(Problem::at(
                path,
                at + 1,
                "planted bugs are turned on by nobody but `cargo xtask sim --mutations`",
            ));
        }
    }
    for name in names(text, &["dependencies", "build-dependencies"]) {
        let line = line_of(text, &name);
        match (folder_of(&name), allowed.pure) {
            (Some(folder), _) if allowed.inside.contains(&folder) => {}
            (Some(folder), _) => problems.push(Problem::at(
                path,
                line,
                format!("`{}` may not import `{folder}`; it may import: {}", allowed.folder, list(allowed.inside)),
            )),
            (None, Some(outside)) if !outside.contains(&name.as_str()) => problems.push(Problem::at(
                path,
                line,
                format!("`{}` is pure and may not use `{name}`; it may use: {}", allowed.folder, list(outside)),
            )),
            (None, _) => {}
        }
    }
    for name in names(text, &["dev-dependencies"]) {
        let Some(folder) = folder_of(&name) else { continue };
        let known =
            allowed.inside.contains(&folder) || allowed.inside_tests.contains(&folder) || folder == allowed.folder;
        if !known {
            problems.push(Problem::at(
                path,
                line_of(text, &name),
                format!("the tests of `{}` may not import `{folder}` (xtask/src/tidy/imports.rs)", allowed.folder),
            ));
        }
    }
}

/// The names in these sections of a manifest, also below `[target.'cfg(..)']`.
fn names(text: &str, sections: &[&str]) -> Vec<String> {
    let Ok(manifest) = text.parse::<toml::Table>() else { return Vec::new() };
    let mut tables = vec![&manifest];
    if let Some(targets) = manifest.get("target").and_then(toml::Value::as_table) {
        tables.extend(targets.values().filter_map(toml::Value::as_table));
    }
    let mut found = Vec::new();
    for table in tables {
        for section in sections {
            if let Some(entries) = table.get(*section).and_then(toml::Value::as_table) {
                found.extend(entries.iter().map(|(name, value)| package(name, value)));
            }
        }
    }
    found
}

/// The package a dependency stands for: its name, unless it was renamed.
fn package(name: &str, value: &toml::Value) -> String {
    value.get("package").and_then(toml::Value::as_str).unwrap_or(name).to_string()
}

/// The folder of a crate of the workspace, by the package's name.
fn folder_of(package: &str) -> Option<&str> {
    if package == "lockstead" { Some("client") } else { package.strip_prefix("lockstead-") }
}

fn line_of(text: &str, name: &str) -> usize {
    text.lines().position(|line| line.starts_with(name)).map_or(1, |at| at + 1)
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(path: &str, dependencies: &str) -> Vec<String> {
        let text = format!("[package]\nname = \"x\"\n\n[lints]\nworkspace = true\n\n{dependencies}");
        check(&Tree::of(&[(path, &text)])).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn allowed_arrows_pass() {
        assert_eq!(
            said("crates/table/Cargo.toml", "[dependencies]\nlockstead-types.workspace = true\nhashbrown = \"0\"\n"),
            Vec::<String>::new()
        );
        assert_eq!(
            said(
                "crates/table/Cargo.toml",
                "[dev-dependencies]\nlockstead-testkit.workspace = true\nproptest = \"1\"\n"
            ),
            Vec::<String>::new()
        );
    }

    #[test]
    fn an_arrow_outwards_is_found_with_its_line() {
        let said = said("crates/table/Cargo.toml", "[dependencies]\nlockstead-node.workspace = true\n");
        assert_eq!(said, ["crates/table/Cargo.toml:8: `table` may not import `node`; it may import: types"]);
    }

    #[test]
    fn a_renamed_arrow_is_found() {
        let said = said(
            "crates/wire/Cargo.toml",
            "[dependencies]\nnode = { package = \"lockstead-node\", path = \"../node\" }\n",
        );
        assert_eq!(said.len(), 1, "{said:?}");
    }

    #[test]
    fn an_arrow_for_one_target_only_is_found() {
        let said = said("crates/wire/Cargo.toml", "[target.'cfg(unix)'.dependencies]\nlibc = \"0.2\"\n");
        assert_eq!(said.len(), 1, "{said:?}");
    }

    #[test]
    fn a_pure_crate_may_not_use_the_world() {
        assert_eq!(said("crates/node/Cargo.toml", "[dependencies]\ntokio.workspace = true\n").len(), 1);
    }

    #[test]
    fn an_unknown_crate_and_missing_lints_are_found() {
        assert_eq!(said("crates/new/Cargo.toml", "").len(), 1);
        assert_eq!(check(&Tree::of(&[("crates/types/Cargo.toml", "[package]\nname = \"x\"\n")])).len(), 1);
    }

    #[test]
    fn planted_bugs_are_turned_on_by_nobody() {
        assert_eq!(said("crates/table/Cargo.toml", "[features]\nplanted = [\"lockstead-types/planted\"]\n").len(), 0);
        assert_eq!(said("crates/table/Cargo.toml", "[features]\ndefault = [\"planted\"]\n").len(), 1);
        let turned_on = "[dependencies]\nlockstead-types = { workspace = true, features = [\"planted\"] }\n";
        assert_eq!(said("crates/table/Cargo.toml", turned_on).len(), 1);
    }

    #[test]
    fn xtask_stands_apart() {
        let tree = Tree::of(&[("xtask/Cargo.toml", "[dependencies]\nlockstead.workspace = true\n")]);
        assert_eq!(check(&tree).len(), 1);
    }
}
