//! Text to commands. An error says which word is wrong and what to write instead.

use core::fmt;

use lockstead_types::{
    Flags, name,
    request::Wait,
    space::{ModeChoice, SpaceSpec},
};

use crate::{
    command::{Command, LockName, LockOptions, OwnerWord, TransactionVerb, Verb, Want, WantedClaim},
    duration::parse_duration,
    words::{Word, split},
};

/// What is wrong with a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseError {
    /// Where, 1 for the first character of the line.
    pub column: usize,
    /// The word that is wrong; empty where one is missing.
    pub word: String,
    /// What to do about it.
    pub advice: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: ", self.column)?;
        if !self.word.is_empty() {
            write!(f, "`{}`: ", self.word)?;
        }
        f.write_str(&self.advice)
    }
}

impl core::error::Error for ParseError {}

/// What is wrong with a script.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScriptError {
    /// The line, 1 for the first.
    pub line: usize,
    /// What is wrong with it.
    pub error: ParseError,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, {}", self.line, self.error)
    }
}

impl core::error::Error for ScriptError {}

/// The commands of a whole script, each with its line number.
///
/// # Errors
/// The first line that is none.
pub fn parse_script(text: &str) -> Result<Vec<(usize, Command)>, ScriptError> {
    let mut commands = Vec::new();
    for (at, line) in text.lines().enumerate() {
        match parse_line(line) {
            Ok(Some(command)) => commands.push((at + 1, command)),
            Ok(None) => {}
            Err(error) => return Err(ScriptError { line: at + 1, error }),
        }
    }
    Ok(commands)
}

/// The command of one line, `None` for a blank line or a comment.
///
/// # Errors
/// A line that is no command.
pub fn parse_line(line: &str) -> Result<Option<Command>, ParseError> {
    let mut words = split(line);
    let background = words.last().is_some_and(|w| w.text == "&");
    if background {
        words.pop();
    }
    let Some((first, rest)) = words.split_first() else { return Ok(None) };
    let session = session_name(*first)?;
    let end = line.trim_end().chars().count() + 1;
    let mut args = Args { words: rest, end };
    let verb = args.verb()?;
    args.nothing_more()?;
    Ok(Some(Command { session, verb, background }))
}

fn session_name(word: Word<'_>) -> Result<String, ParseError> {
    let name = word.text.strip_suffix(':').unwrap_or("");
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
        return Err(word.wrong("a line starts with `SESSION:`, letters, digits, `_`, `-` or `.` and a colon"));
    }
    Ok(name.to_owned())
}

impl Word<'_> {
    fn wrong(self, advice: impl Into<String>) -> ParseError {
        ParseError { column: self.column, word: self.text.to_owned(), advice: advice.into() }
    }

    /// The bytes the word stands for.
    fn name(self) -> Result<Vec<u8>, ParseError> {
        self.bytes_of(self.text)
    }

    /// The bytes a part of the word stands for; `""` is none.
    fn bytes_of(self, text: &str) -> Result<Vec<u8>, ParseError> {
        if text == "\"\"" {
            return Ok(Vec::new());
        }
        name::unescape(text).ok_or_else(|| self.wrong("`%` is followed by two hexadecimal digits; itself it is `%25`"))
    }
}

/// The words after the session, taken from the front.
struct Args<'a> {
    words: &'a [Word<'a>],
    /// The column after the last word.
    end: usize,
}

impl<'a> Args<'a> {
    fn next(&mut self, what: &str) -> Result<Word<'a>, ParseError> {
        let (first, rest) = self.words.split_first().ok_or_else(|| ParseError {
            column: self.end,
            word: String::new(),
            advice: format!("{what} is missing"),
        })?;
        self.words = rest;
        Ok(*first)
    }

    fn nothing_more(&self) -> Result<(), ParseError> {
        match self.words.first() {
            None => Ok(()),
            Some(word) => Err(word.wrong("nothing may follow here")),
        }
    }

    fn verb(&mut self) -> Result<Verb, ParseError> {
        let word = self.next("a verb")?;
        let verb = match word.text {
            "lock" => self.lock()?,
            "lockall" => self.lock_all()?,
            "lockpath" => self.lock_path()?,
            "convert" => self.convert()?,
            "unlock" => self.unlock()?,
            "cancel" => Verb::Cancel(self.lock_name()?),
            "value" => Verb::Value(self.lock_name()?),
            "show" => Verb::Show(self.next("the name of a resource")?.name()?),
            "create" => Verb::Create(self.create()?),
            "use" => Verb::Use(self.next("the name of a lockspace")?.text.to_owned()),
            "group" => Verb::Group(self.next("the name of a group")?.name()?),
            "detach" => Verb::Detach(self.next("the name of a group")?.name()?),
            "purge" => Verb::Purge,
            "begin" => Verb::Transaction(self.begin()?),
            "commit" => Verb::Transaction(TransactionVerb::Commit),
            "rollback" => Verb::Transaction(self.rollback()?),
            "savepoint" => {
                let name = self.next("the name of a savepoint")?;
                Verb::Transaction(TransactionVerb::Savepoint(name.text.to_owned()))
            }
            "end-statement" => Verb::Transaction(TransactionVerb::EndStatement),
            "on" => Verb::On(self.next("HOST:PORT")?.text.to_owned()),
            "kill" => Verb::Kill,
            "bye" => Verb::Bye,
            "sleep" => {
                let word = self.next("a duration")?;
                Verb::Sleep(parse_duration(word.text).ok_or_else(|| word.wrong(DURATION))?)
            }
            "sync" => Verb::Sync,
            _ => return Err(word.wrong(VERBS)),
        };
        Ok(verb)
    }

    fn create(&mut self) -> Result<Box<SpaceSpec>, ParseError> {
        let mut spec = SpaceSpec::named(self.next("the name of a lockspace")?.text);
        while let Some((word, rest)) = self.words.split_first() {
            match word.text.split_once('=') {
                Some(("modes", table)) => spec.modes = ModeChoice::BuiltIn(table.to_owned()),
                None if word.text == "extents" => spec.extents = true,
                _ => return Err(word.wrong("only `modes=TABLE` and `extents` may follow")),
            }
            self.words = rest;
        }
        Ok(Box::new(spec))
    }

    fn begin(&mut self) -> Result<TransactionVerb, ParseError> {
        let Some((word, rest)) = self.words.split_first() else { return Ok(TransactionVerb::Begin) };
        if word.text != "again" {
            return Err(word.wrong("only `again` may follow: begin with the age of the transaction before"));
        }
        self.words = rest;
        Ok(TransactionVerb::BeginAgain)
    }

    fn rollback(&mut self) -> Result<TransactionVerb, ParseError> {
        let Some((word, rest)) = self.words.split_first() else { return Ok(TransactionVerb::Rollback(None)) };
        if word.text != "to" {
            return Err(word.wrong("only `to SAVEPOINT` may follow"));
        }
        self.words = rest;
        let name = self.next("the name of a savepoint")?;
        Ok(TransactionVerb::Rollback(Some(name.text.to_owned())))
    }

    fn lock(&mut self) -> Result<Verb, ParseError> {
        let want = self.want()?;
        let options = Options::read(self, Options::LOCK)?;
        Ok(Verb::Lock { want, options: options.of_lock() })
    }

    fn lock_path(&mut self) -> Result<Verb, ParseError> {
        let want = self.want()?;
        let options = Options::read(self, Options::LOCK_PATH)?;
        Ok(Verb::LockPath { want, options: options.of_lock() })
    }

    fn lock_all(&mut self) -> Result<Verb, ParseError> {
        let mut wants = vec![self.want()?];
        // A word that could be an option is one: a resource of that name is written with an escape (`%6Eowait`).
        while self.words.first().is_some_and(|w| !Options::looks_like_one(w.text)) {
            wants.push(self.want()?);
        }
        let options = Options::read(self, Options::LOCK_ALL)?;
        Ok(Verb::LockAll { wants, options: options.of_lock() })
    }

    fn want(&mut self) -> Result<Want, ParseError> {
        let name = self.next("the name of a resource")?.name()?;
        let word = self.next("a mode, or permits=TAKE/OF,")?;
        let Some(permits) = word.text.strip_prefix("permits=") else {
            return Ok(Want { name, claim: WantedClaim::Mode(word.text.to_owned()) });
        };
        let numbers = permits.split_once('/').and_then(|(take, of)| Some((number(take)?, number(of)?)));
        let (take, of) =
            numbers.ok_or_else(|| word.wrong("permits are written `permits=TAKE/OF`, such as permits=3/10"))?;
        Ok(Want { name, claim: WantedClaim::Permits { take, of } })
    }

    fn convert(&mut self) -> Result<Verb, ParseError> {
        let name = self.next("the name of a resource")?.name()?;
        let mode = self.next("a mode")?.text.to_owned();
        let Options { tag, wait, flags, value, group, .. } = Options::read(self, Options::CONVERT)?;
        let (lock, wait) = (LockName { name, tag: tag.unwrap_or(0), group }, wait.unwrap_or_default());
        Ok(Verb::Convert { lock, mode, wait, flags, value })
    }

    fn unlock(&mut self) -> Result<Verb, ParseError> {
        let name = self.next("the name of a resource")?.name()?;
        let Options { tag, flags, value, group, .. } = Options::read(self, Options::UNLOCK)?;
        Ok(Verb::Unlock { lock: LockName { name, tag: tag.unwrap_or(0), group }, flags, value })
    }

    fn lock_name(&mut self) -> Result<LockName, ParseError> {
        let name = self.next("the name of a resource")?.name()?;
        let Options { tag, group, .. } = Options::read(self, Options::NAME)?;
        Ok(LockName { name, tag: tag.unwrap_or(0), group })
    }
}

/// What may stand behind the names and modes of a line. A verb says which keys it knows; flags are left to the lock
/// manager, which refuses those that do not belong.
#[derive(Default)]
struct Options {
    tag: Option<u32>,
    wait: Option<Wait>,
    flags: Flags,
    value: Option<Vec<u8>>,
    group: Option<Vec<u8>>,
    /// `alone`, `session` or `statement`.
    owner: Option<OwnerWord>,
    priority: Option<i8>,
}

impl Options {
    const KEYS: [&'static str; 9] =
        ["as", "nowait", "wait", "value", "group", "alone", "session", "statement", "priority"];
    const LOCK: &'static [&'static str] = &Self::KEYS;
    const LOCK_PATH: &'static [&'static str] = &["nowait", "wait", "value", "session", "statement", "priority"];
    const LOCK_ALL: &'static [&'static str] =
        &["as", "nowait", "wait", "value", "alone", "session", "statement", "priority"];
    const CONVERT: &'static [&'static str] = &["as", "nowait", "wait", "value", "group"];
    const UNLOCK: &'static [&'static str] = &["as", "value", "group"];
    const NAME: &'static [&'static str] = &["as", "group"];

    fn looks_like_one(text: &str) -> bool {
        let (key, eq) = text.split_once('=').map_or((text, false), |(key, _)| (key, true));
        let valued = !matches!(key, "nowait" | "alone" | "session" | "statement");
        (Self::KEYS.contains(&key) && valued == eq) || Flags::parse(text).is_some()
    }

    fn read(args: &mut Args<'_>, known: &[&str]) -> Result<Options, ParseError> {
        let mut options = Options::default();
        while let Some((word, rest)) = args.words.split_first() {
            options.take(*word, known)?;
            args.words = rest;
        }
        Ok(options)
    }

    fn take(&mut self, word: Word<'_>, known: &[&str]) -> Result<(), ParseError> {
        if let Some(flag) = Flags::parse(word.text) {
            // Verbs that name no `value` take no flags either.
            if !known.contains(&"value") {
                return Err(word.wrong("this verb takes no flags"));
            }
            self.flags = self.flags.with(flag);
            return Ok(());
        }
        let (key, value) = word.text.split_once('=').unwrap_or((word.text, ""));
        if !Self::looks_like_one(word.text) || !known.contains(&key) {
            return Err(word.wrong(format!("neither a flag nor one of {}", spell(known))));
        }
        let fresh = match key {
            "as" => self.tag.replace(number(value).ok_or_else(|| word.wrong("ID is a whole number"))?).is_none(),
            "nowait" => self.wait.replace(Wait::Never).is_none(),
            "wait" => {
                let span = parse_duration(value).ok_or_else(|| word.wrong(DURATION))?;
                self.wait.replace(Wait::For(span)).is_none()
            }
            "value" => {
                self.flags = self.flags.with(Flags::VALBLK);
                self.value.replace(word.bytes_of(value)?).is_none()
            }
            "group" => self.group.replace(word.bytes_of(value)?).is_none() && self.owner.is_none(),
            "alone" => self.owner.replace(OwnerWord::Alone).is_none() && self.group.is_none(),
            "session" => self.owner.replace(OwnerWord::Session).is_none() && self.group.is_none(),
            "statement" => self.owner.replace(OwnerWord::Statement).is_none() && self.group.is_none(),
            _ => {
                let priority = value.parse().map_err(|_| word.wrong("a priority is a whole number, -128 to 127"))?;
                self.priority.replace(priority).is_none()
            }
        };
        if fresh { Ok(()) } else { Err(word.wrong("said twice, or against another word of the line")) }
    }

    fn of_lock(self) -> LockOptions {
        let owner = match self.group {
            Some(name) => OwnerWord::Group(name),
            None => self.owner.unwrap_or_default(),
        };
        LockOptions {
            tag: self.tag.unwrap_or(0),
            wait: self.wait.unwrap_or_default(),
            flags: self.flags,
            owner,
            priority: self.priority.unwrap_or(0),
        }
    }
}

/// The keys of a verb as one writes them.
fn spell(keys: &[&str]) -> String {
    let one = |key: &&str| {
        match *key {
            "as" => "as=ID",
            "wait" => "wait=DUR",
            "value" => "value=TEXT",
            "group" => "group=NAME",
            "priority" => "priority=N",
            other => other,
        }
        .to_owned()
    };
    keys.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Digits only: `parse` alone would take a sign.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

const DURATION: &str = "a duration is a whole number and a unit: 500ms, 2s, 1m";
const VERBS: &str = "no verb; the verbs are lock, lockall, lockpath, convert, unlock, cancel, value, show, create, use, group, detach, \
purge, \
begin, commit, rollback, savepoint, end-statement, on, kill, bye, sleep, sync";

#[cfg(test)]
mod tests {
    use lockstead_types::Span;

    use super::*;

    fn verb(line: &str) -> Verb {
        match parse_line(line) {
            Ok(Some(command)) => command.verb,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_lock_with_everything() {
        let Verb::Lock { want, options } =
            verb("a: lock or%20ders pw as=7 wait=2s value=x priority=-3 group=g NOORDER persistent")
        else {
            panic!("not a lock");
        };
        assert_eq!(want, Want { name: b"or ders".to_vec(), claim: WantedClaim::Mode("pw".into()) });
        assert_eq!(options.tag, 7);
        assert_eq!(options.wait, Wait::For(Span::from_secs(2)));
        assert_eq!(options.flags, Flags::VALBLK.with(Flags::NOORDER).with(Flags::PERSISTENT));
        assert_eq!(options.owner, OwnerWord::Group(b"g".to_vec()));
        assert_eq!(options.priority, -3);
    }

    #[test]
    fn several_names_end_where_options_begin() {
        let Verb::LockAll { wants, options } = verb("a: lockall x EX %6Eowait permits=1/3 nowait") else {
            panic!("not a lockall");
        };
        assert_eq!(wants.len(), 2);
        assert_eq!(wants[1], Want { name: b"nowait".to_vec(), claim: WantedClaim::Permits { take: 1, of: 3 } });
        assert_eq!(options.wait, Wait::Never);
    }

    #[test]
    fn comments_blank_lines_and_background() {
        assert_eq!(parse_line("   # nothing"), Ok(None));
        assert_eq!(parse_line(""), Ok(None));
        let command = parse_line("s-1: sync & # soon").ok().flatten();
        assert_eq!(command, Some(Command { session: "s-1".into(), verb: Verb::Sync, background: true }));
        assert_eq!(verb("a: lock \"\" EX"), verb("a: lock \"\"  EX"));
    }

    #[test]
    fn an_error_names_the_word_and_what_to_do() {
        for (line, column, word) in [
            ("lock x EX", 1, "lock"),
            ("a: lok x EX", 4, "lok"),
            ("a: lock x", 10, ""),
            ("a: lock x EX wait=5", 14, "wait=5"),
            ("a: lock x EX nowait wait=5s", 21, "wait=5s"),
            ("a: lock x EX now", 14, "now"),
            ("a: lock x EX nowait=1", 14, "nowait=1"),
            ("a: lock x%2 EX", 9, "x%2"),
            ("a: lock x permits=3", 11, "permits=3"),
            ("a: cancel x nowait", 13, "nowait"),
            ("a: cancel x valblk", 13, "valblk"),
            ("a: convert x PR priority=1", 17, "priority=1"),
            ("a: lockall x EX group=g", 17, "group=g"),
            ("a: unlock x as=+1", 13, "as=+1"),
            ("a: sync now", 9, "now"),
            ("a: create s fast", 13, "fast"),
            ("a: lock x EX alone group=g", 20, "group=g"),
        ] {
            match parse_line(line) {
                Err(error) => assert_eq!((error.column, error.word.as_str()), (column, word), "{line}: {error}"),
                Ok(other) => panic!("{line}: {other:?}"),
            }
        }
        let Err(error) = parse_script("a: sync\n\nb: nonsense") else { panic!("no error") };
        assert!(error.to_string().starts_with("line 3, column 4: `nonsense`: no verb; the verbs are"), "{error}");
    }
}
