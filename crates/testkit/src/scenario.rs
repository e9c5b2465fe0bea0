//! A scenario file: lines to do, `----`, the output they must have, a blank line, and so on.
//!
//! A block is done in order, and what stands beneath its `----`, up to the next blank line, is the output of all its lines
//! together, with tokens numbered as they appear. A block that ends in a blank line, without a `----`, must have no output.
//! Blank lines and comments before the first line to do mean nothing.

use core::panic::AssertUnwindSafe;
use std::panic::catch_unwind;

use lockstead_script::{Command, TokenMask, parse_line};

use crate::{diff::diff, directive::Directive, world::World};

const RULE: &str = "----";

/// A scenario file, read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scenario {
    blocks: Vec<Block>,
}

/// Lines to do and what they must print.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Block {
    /// As they stand in the file, comments and blank lines too.
    lines: Vec<String>,
    /// The number of the first of them.
    start: usize,
    /// `None` where no `----` follows.
    expected: Option<Vec<String>>,
}

/// What went wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The line of the file.
    pub line: usize,
    /// What, for people.
    pub text: String,
}

/// A whole run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    /// Every block that printed something else than it should, or that could not be done.
    pub failures: Vec<Failure>,
    /// The file with the output it has now; `None` where a line could not be done.
    pub updated: Option<String>,
    /// How many nodes were started: the file has so many independent parts.
    pub parts: usize,
}

enum Action {
    Play(Command),
    Direct(Directive),
}

impl Scenario {
    /// Reads a file.
    #[must_use]
    pub fn parse(text: &str) -> Scenario {
        let mut blocks = Vec::new();
        let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line)).peekable();
        while let Some(&(start, _)) = lines.peek() {
            let mut block = Block { lines: Vec::new(), start, expected: None };
            let mut begun = false;
            for (_, line) in lines.by_ref() {
                if line.trim_end() == RULE {
                    block.expected = Some(Vec::new());
                    break;
                }
                if begun && line.trim().is_empty() {
                    break;
                }
                begun |= !matches!(line.trim_start().chars().next(), None | Some('#'));
                block.lines.push(line.to_owned());
            }
            if let Some(expected) = &mut block.expected {
                let output = lines.by_ref().take_while(|(_, line)| !line.trim().is_empty());
                expected.extend(output.map(|(_, line)| line.to_owned()));
            }
            blocks.push(block);
        }
        Scenario { blocks }
    }

    /// Runs it. A panic of the node is a failure of the line that caused it.
    #[must_use]
    pub fn run(&self) -> Run {
        let mut run = Run { failures: Vec::new(), updated: Some(String::new()), parts: 1 };
        let mut stage = Stage::default();
        for block in &self.blocks {
            match stage.run(block, &mut run.parts) {
                Ok(actual) => {
                    let expected = block.expected.clone().unwrap_or_default();
                    if actual != expected {
                        run.failures.push(block.differs(&expected, &actual));
                    }
                    if let Some(updated) = &mut run.updated {
                        block.write(&actual, updated);
                    }
                }
                Err(failure) => {
                    run.failures.push(failure);
                    run.updated = None;
                    break;
                }
            }
        }
        if let Some(updated) = &mut run.updated {
            *updated = updated.trim_end().to_owned() + "\n";
        }
        run
    }
}

impl Block {
    fn differs(&self, expected: &[String], actual: &[String]) -> Failure {
        let line = self.start + self.lines.len();
        let done =
            self.lines.iter().filter(|l| !l.trim().is_empty()).map(|l| format!("    | {l}\n")).collect::<String>();
        Failure {
            line,
            text: format!("the output is not the expected one (- expected, + seen)\n{done}{}", diff(expected, actual)),
        }
    }

    fn write(&self, actual: &[String], text: &mut String) {
        let rule = (self.expected.is_some() || !actual.is_empty()).then_some(RULE);
        let lines = self.lines.iter().map(String::as_str).chain(rule).chain(actual.iter().map(String::as_str));
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        text.push('\n');
    }
}

/// A node, its sessions, and the tokens seen so far.
#[derive(Default)]
struct Stage {
    world: World,
    mask: TokenMask,
}

impl Stage {
    fn run(&mut self, block: &Block, parts: &mut usize) -> Result<Vec<String>, Failure> {
        let mut output = Vec::new();
        for (at, line) in block.lines.iter().enumerate() {
            let fail = |text: String| Failure { line: block.start + at, text: format!("`{}`: {text}", line.trim()) };
            let Some(action) = read(line).map_err(fail)? else { continue };
            if matches!(action, Action::Direct(Directive::New)) {
                self.mask = TokenMask::new();
                *parts += usize::from(self.world.has_started());
            }
            let done = catch_unwind(AssertUnwindSafe(|| self.act(&action)));
            let lines = done.unwrap_or_else(|panic| Err(panic_text(&*panic))).map_err(fail)?;
            output.extend(self.masked(&lines).map_err(fail)?);
        }
        Ok(output)
    }

    fn act(&mut self, action: &Action) -> Result<Vec<String>, String> {
        match action {
            Action::Play(command) => {
                self.world.play(command)?;
                Ok(if command.background { Vec::new() } else { self.world.print(&command.session) })
            }
            Action::Direct(directive) => {
                self.world.direct(directive)?;
                Ok(self.world.print(crate::world::OPERATOR))
            }
        }
    }

    /// Numbers the tokens. One that was not seen before is above all that were, whatever it was given for; so conflicting
    /// grants rise too, also over a restart ([TOKEN-1]).
    fn masked(&mut self, lines: &[String]) -> Result<Vec<String>, String> {
        let known = self.mask.seen().len();
        let masked: Vec<String> = lines.iter().map(|line| self.mask.line(line)).collect();
        let (old, new) = self.mask.seen().split_at(known);
        let highest = old.iter().max().copied().unwrap_or(0);
        match new.iter().find(|token| **token <= highest) {
            Some(token) => Err(format!("token {token} is new and not above {highest}, which was given before")),
            None => Ok(masked),
        }
    }
}

fn read(line: &str) -> Result<Option<Action>, String> {
    let first = line.split_whitespace().next().unwrap_or("#");
    if first.starts_with('#') {
        return Ok(None);
    }
    if !first.ends_with(':') {
        return Directive::parse(line).map(|directive| Some(Action::Direct(directive)));
    }
    parse_line(line).map(|command| command.map(Action::Play)).map_err(|error| error.to_string())
}

fn panic_text(panic: &(dyn core::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("without a word"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_and_written_back() {
        let text = "# aim\n\nnew\na: sync\n----\n\na: sync # twice\nb: sync\n----\nx\ny\n\nnew\n\n# the end\n";
        let scenario = Scenario::parse(text);
        assert_eq!(scenario.blocks.len(), 4);
        assert_eq!(scenario.blocks[0].expected, Some(Vec::new()));
        assert_eq!((scenario.blocks[1].start, scenario.blocks[1].expected.as_ref().map(Vec::len)), (7, Some(2)));
        assert_eq!((&scenario.blocks[2].lines, &scenario.blocks[2].expected), (&vec!["new".to_owned()], &None));
        let mut written = String::new();
        for block in &scenario.blocks {
            block.write(block.expected.as_deref().unwrap_or_default(), &mut written);
        }
        assert_eq!(written.trim_end(), text.trim_end());
    }

    #[test]
    fn a_line_that_is_nothing_is_a_failure_of_that_line() {
        let run = Scenario::parse("# aim\n\nnonsense\n").run();
        assert_eq!(run.failures.len(), 1);
        assert_eq!(run.failures[0].line, 3);
        assert_eq!(run.updated, None);
    }
}
