//! Names in backticks in ARCHITECTURE.md exist: files, folders, crates, and identifiers of the code. Prose that nothing
//! checks goes on describing what was renamed long ago.

use std::collections::BTreeSet;

use super::{Problem, Tree};

const PAGE: &str = "ARCHITECTURE.md";

pub(crate) fn check(tree: &Tree) -> Vec<Problem> {
    let Some(page) = tree.text(PAGE) else {
        return vec![Problem::at(PAGE, 1, "missing: it tells where everything is")];
    };
    let words = words(tree);
    let mut problems = Vec::new();
    let mut fenced = false;
    for (at, line) in page.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            for span in line.split('`').skip(1).step_by(2) {
                if let Some(missing) = missing(tree, &words, span) {
                    problems.push(Problem::at(
                        PAGE,
                        at + 1,
                        format!("`{missing}` is nowhere in the tree: correct the page"),
                    ));
                }
            }
        }
    }
    problems
}

/// What of a span is not there: all of it for a path, one word for anything else.
fn missing<'a>(tree: &Tree, words: &BTreeSet<&str>, span: &'a str) -> Option<&'a str> {
    if is_path(span) {
        return (!path_exists(tree, span)).then_some(span);
    }
    identifiers(span).find(|word| !words.contains(word))
}

fn is_path(span: &str) -> bool {
    let whole = !span.contains([' ', '(', '<', ':', '$', '*']);
    let ending = span.rsplit_once('.').map_or("", |(_, ending)| ending);
    whole && !span.starts_with('/') && (span.contains('/') || ["rs", "md", "toml", "txt"].contains(&ending))
}

/// A path from the root, from `crates/`, or as `crate/file.rs` for a file below `src/`.
fn path_exists(tree: &Tree, span: &str) -> bool {
    let below_src = span.split_once('/').map(|(folder, rest)| format!("crates/{folder}/src/{rest}"));
    tree.has(span) || tree.has(&format!("crates/{span}")) || below_src.is_some_and(|path| tree.has(&path))
}

/// Every word of the code and the manifests, and every name of a file or folder.
fn words(tree: &Tree) -> BTreeSet<&str> {
    let texts = tree.texts().filter(|(path, _)| !path.starts_with("xtask/src/tidy/"));
    let code =
        texts.filter(|(path, _)| path.ends_with(".rs") || path.ends_with(".toml")).flat_map(|(_, t)| identifiers(t));
    code.chain(tree.paths().flat_map(|path| path.split(['/', '.']))).collect()
}

/// Runs of letters, digits, `_` and `-` that open with a letter and are longer than two.
fn identifiers(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
        .map(|word| word.trim_matches('-'))
        .filter(|word| word.len() > 2 && word.starts_with(|c: char| c.is_ascii_alphabetic()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(page: &str) -> Vec<String> {
        let tree = Tree::of(&[
            (PAGE, page),
            ("crates/table/src/grant.rs", "//! Page.\nfn decide(resource: &Resource) {}\n"),
            ("crates/table/Cargo.toml", "name = \"lockstead-table\"\n"),
        ]);
        check(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_that_exist_pass() {
        let page = "`table/grant.rs` `crates/table` `decide(&Resource)` `lockstead-table`\n```\n`nonsense`\n```\n";
        assert_eq!(said(page), Vec::<String>::new());
    }

    #[test]
    fn a_renamed_file_or_function_is_found() {
        assert_eq!(
            said("See\n`table/give.rs`.\n"),
            ["ARCHITECTURE.md:2: `table/give.rs` is nowhere in the tree: correct the page"]
        );
        assert_eq!(said("Calls `Resource::resolve`.\n").len(), 1);
        assert_eq!(said("The crate `lockstead-tables`.\n").len(), 1);
    }

    #[test]
    fn a_missing_page_is_found() {
        assert_eq!(check(&Tree::of(&[])).len(), 1);
    }
}
