//! Pure crates say that they are: `no_std`, no unsafe code, and no way around either. That `std` is really absent, also
//! by way of a dependency, is tried by [`super::probe`].

use super::{Problem, Tree, imports};

pub(crate) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for folder in imports::pure_crates() {
        let lib = format!("crates/{folder}/src/lib.rs");
        let Some(text) = tree.text(&lib) else {
            problems.push(Problem::at(&lib, 1, "a pure crate has this file"));
            continue;
        };
        for attribute in ["#![no_std]", "#![forbid(unsafe_code)]"] {
            if !text.lines().any(|line| line.trim() == attribute) {
                problems.push(Problem::at(&lib, 1, format!("a pure crate says `{attribute}`")));
            }
        }
        let source = format!("crates/{folder}/src/");
        for (path, text) in tree.rust().filter(|(path, _)| path.starts_with(&source)) {
            check_file(path, text, &mut problems);
        }
    }
    problems
}

fn check_file(path: &str, text: &str, problems: &mut Vec<Problem>) {
    let mut before = "";
    for (at, line) in text.lines().enumerate() {
        let code = line.trim();
        if code.starts_with("#[cfg(test)]") && !path.ends_with("lib.rs") {
            // What follows is the test module, which runs under `std`.
            return;
        }
        if code.contains("extern crate std") && before != "#[cfg(test)]" {
            problems.push(Problem::at(path, at + 1, "a pure crate may name `std` only under `#[cfg(test)]`"));
        }
        if code.contains("cfg(feature = \"std\")") {
            problems.push(Problem::at(path, at + 1, "a pure crate has no `std` variant: there is one behaviour"));
        }
        before = code;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "//! Page.\n#![no_std]\n#![forbid(unsafe_code)]\n#[cfg(test)]\nextern crate std;\n";

    fn said(lib: &str) -> Vec<String> {
        let files: Vec<(String, &str)> = imports::pure_crates()
            .map(|folder| (format!("crates/{folder}/src/lib.rs"), if folder == "table" { lib } else { GOOD }))
            .collect();
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        check(&Tree::of(&files)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_pure_crate_passes() {
        assert_eq!(said(GOOD), Vec::<String>::new());
    }

    #[test]
    fn a_crate_that_does_not_say_so_is_found() {
        assert_eq!(said("//! Page.\n#![forbid(unsafe_code)]\n").len(), 1);
        assert_eq!(said("//! Page.\n#![no_std]\n").len(), 1);
    }

    #[test]
    fn the_way_around_is_found() {
        let said = said("//! Page.\n#![no_std]\n#![forbid(unsafe_code)]\nextern crate std;\n");
        assert_eq!(said, ["crates/table/src/lib.rs:4: a pure crate may name `std` only under `#[cfg(test)]`"]);
    }
}
