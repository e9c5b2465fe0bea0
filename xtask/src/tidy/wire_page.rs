//! The page about the protocol is looked at whenever the code of the format changes: the page carries a hash of it.

use std::{fs, path::Path};

use super::{Problem, Tree};

const PAGE: &str = "docs/protocol.md";
const SOURCE: &str = "crates/wire/src/";
const LABEL: &str = "wire format: ";

pub(crate) fn check(tree: &Tree) -> Vec<Problem> {
    let Some(page) = tree.text(PAGE) else {
        return vec![Problem::at(PAGE, 1, "missing: it describes the format of crates/wire byte by byte")];
    };
    let now = hash(tree);
    match noted(page) {
        Some((_, noted)) if noted == now => Vec::new(),
        Some((line, noted)) => vec![Problem::at(
            PAGE,
            line,
            format!(
                "crates/wire changed ({noted} is now {now}): correct the page, then run `cargo xtask tidy --accept-wire`"
            ),
        )],
        None => {
            vec![Problem::at(PAGE, 1, format!("lacks the line `{LABEL}{now}`: run `cargo xtask tidy --accept-wire`"))]
        }
    }
}

/// Writes the hash of the format as it is now into the page.
pub(crate) fn accept(root: &Path) -> Result<(), String> {
    let tree = Tree::read(root)?;
    let page = tree.text(PAGE).ok_or_else(|| format!("{PAGE} is missing"))?;
    fs::write(root.join(PAGE), with_hash(page, &hash(&tree))).map_err(|e| format!("{PAGE}: {e}"))
}

fn with_hash(page: &str, hash: &str) -> String {
    match noted(page) {
        Some((_, old)) => page.replacen(&format!("{LABEL}{old}"), &format!("{LABEL}{hash}"), 1),
        None => format!("{}\n\n<!-- {LABEL}{hash} -->\n", page.trim_end()),
    }
}

/// The hash that the page carries, with its line.
fn noted(page: &str) -> Option<(usize, &str)> {
    page.lines().enumerate().find_map(|(at, line)| {
        let (_, rest) = line.split_once(LABEL)?;
        Some((at + 1, rest.split_whitespace().next()?))
    })
}

/// FNV-1a over the code of the format: no comments, no blank lines, no tests.
fn hash(tree: &Tree) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for (path, text) in tree.rust().filter(|(path, _)| path.starts_with(SOURCE) && !path.ends_with("tests.rs")) {
        let code = text.lines().map(str::trim).take_while(|line| *line != "#[cfg(test)]");
        for line in code.filter(|line| !line.is_empty() && !line.starts_with("//")).chain([path]) {
            for byte in line.bytes().chain([b'\n']) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree<'a>(page: &'a str, code: &'a str) -> Tree {
        Tree::of(&[(PAGE, page), ("crates/wire/src/encode.rs", code)])
    }

    #[test]
    fn a_change_of_the_format_must_be_accepted() {
        let code = "//! Page.\nconst KIND: u8 = 1;\n";
        let page = with_hash("# Protocol\n", &hash(&tree("", code)));
        assert_eq!(check(&tree(&page, code)), []);
        assert_eq!(check(&tree(&page, &format!("// why\n\n{code}"))), [], "comments do not count");
        assert_eq!(check(&tree(&page, "//! Page.\nconst KIND: u8 = 2;\n")).len(), 1);
        let again = with_hash(&page, "0123456789abcdef");
        assert_eq!(noted(&again).map(|(_, hash)| hash), Some("0123456789abcdef"));
    }

    #[test]
    fn a_page_without_hash_or_no_page_is_found() {
        assert_eq!(check(&tree("# Protocol\n", "")).len(), 1);
        assert_eq!(check(&Tree::of(&[])).len(), 1);
    }
}
