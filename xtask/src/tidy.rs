//! `cargo xtask tidy`: the rules of the project that neither the compiler nor clippy know. One check a file; each says
//! where, what, and what to do.

mod architecture;
mod imports;
mod links;
mod module_doc;
mod probe;
mod pure;
mod rules;
mod size;
mod tree;
mod wire_page;
mod words;

use std::fmt;

pub(crate) use tree::Tree;

use crate::run;

/// Something that breaks a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Problem {
    file: String,
    line: usize,
    what: String,
}

impl Problem {
    /// A problem at a line of a file, counted from 1.
    pub(crate) fn at(file: &str, line: usize, what: impl Into<String>) -> Problem {
        Problem { file: file.into(), line, what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

type Check = fn(&Tree) -> Vec<Problem>;

const CHECKS: &[(&str, Check)] = &[
    ("imports", imports::check),
    ("pure", pure::check),
    ("rules", rules::check),
    ("module docs", module_doc::check),
    ("size", size::check),
    ("links", links::check),
    ("architecture", architecture::check),
    ("words", words::check),
    ("wire page", wire_page::check),
];

/// Runs every check on the workspace.
///
/// # Errors
/// The number of problems, after each was printed.
pub(crate) fn run(options: &[&str]) -> Result<(), String> {
    let root = run::root();
    match options {
        [] => {}
        ["--accept-wire"] => return wire_page::accept(&root),
        other => return Err(format!("tidy knows --accept-wire, not {other:?}")),
    }
    let tree = Tree::read(&root)?;
    let mut count = 0;
    for (name, check) in CHECKS {
        let problems = check(&tree);
        for problem in &problems {
            eprintln!("{problem} [{name}]");
        }
        count += problems.len();
    }
    if let Err(why) = probe::check(&root) {
        eprintln!("{why} [probe]");
        count += 1;
    }
    match count {
        0 => Ok(()),
        1 => Err("tidy found 1 problem".into()),
        n => Err(format!("tidy found {n} problems")),
    }
}
