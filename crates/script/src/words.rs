//! A line of text as words with their columns, and the help a person gets on the language.

/// A word of a line and the column (1 for the first character) where it starts.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Word<'a> {
    pub(crate) text: &'a str,
    pub(crate) column: usize,
}

/// The words of a line up to a comment. A comment starts with a `#` at the start of a word; a name that starts so is
/// written `%23...`.
pub(crate) fn split(line: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut start: Option<(usize, usize)> = None;
    for (column, (at, c)) in line.char_indices().enumerate() {
        match (start, c.is_whitespace()) {
            (None, false) if c == '#' => return words,
            (None, false) => start = Some((at, column + 1)),
            (Some((from, column)), true) => {
                words.push(Word { text: &line[from..at], column });
                start = None;
            }
            _ => {}
        }
    }
    if let Some((from, column)) = start {
        words.push(Word { text: &line[from..], column });
    }
    words
}

/// The language on one page.
pub const HELP: &str = "\
Lines are `SESSION: VERB ARGS`. Each SESSION name is a session of its own, opened on first use.
Names and values are percent-escaped: `a%20b` is `a b`. A `#` at the start of a word begins a comment.

  lock NAME MODE [as=ID] [nowait | wait=DUR] [value=TEXT] [priority=N]
                                         [group=NAME | alone | session | statement] [FLAG ...]
  lock NAME permits=TAKE/OF ...          some of OF permits
  lockall NAME MODE NAME MODE ... [as=ID] [nowait | wait=DUR] [value=TEXT] [priority=N]
                                         [alone | session | statement] [FLAG ...]      all or none
  lockpath NAME MODE [nowait | wait=DUR] [statement] [priority=N] [FLAG ...]
                                         in a hierarchy, with the intents above it
  convert NAME MODE [as=ID] [nowait | wait=DUR] [value=TEXT] [FLAG ...]
  unlock NAME [as=ID] [value=TEXT] [FLAG ...]
  cancel NAME [as=ID]                    stop waiting
  value NAME [as=ID]                     read the value block of a lock that is held
  show NAME                              the three queues
  create LOCKSPACE [modes=TABLE] [extents]
                                         a new one, and use it; with `extents` names may be of a part, `rows[10,20)`
  use LOCKSPACE                          for the lines of this session that follow
  group NAME, detach NAME                join and leave a group, for `group=NAME`
  purge                                  drop the orphans of the lockspace in use
  begin, commit, rollback                a transaction of this session: locks from here on are its own, and released together,
                                         but those that say `session`; `begin again` has the age of the one before
  savepoint NAME, rollback to NAME       releases what was locked since
  end-statement                          releases the locks of the transaction that say `statement`
  on HOST:PORT                           begin this session at that node; an open one goes there, if it is not local
  kill                                   drop the connection without a goodbye
  bye                                    end the session in order
  sleep DUR                              500ms, 2s, 1m
  sync                                   wait for everything caused so far, as every line does

A line that ends in ` &` does not wait for what it causes. FLAG is one of
noqueue valblk quecvt ivvalblk convdeadlk persistent nodlckwt nodlckblk expedite noqueuebast headque noorder orphan altpr
altcw forceunlock nobast. `value=` implies valblk; only a conversion or release from a mode that writes writes it.

Of what is refused: `busy` is a second lock of this session on a name (convert it, or say as=ID), or a conversion beside
another; `invalid` are flags that exclude each other, more permits than there are (permits=5/3), or another OF than others
named; `would-wait` and `timeout` that somebody else has it. With -o json each refusal says what it means.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_know_their_columns() {
        let words = split("  a: lock \u{e9} x#1 EX # why");
        let seen: Vec<(&str, usize)> = words.iter().map(|w| (w.text, w.column)).collect();
        assert_eq!(seen, [("a:", 3), ("lock", 6), ("\u{e9}", 11), ("x#1", 13), ("EX", 17)]);
        assert!(split("# all").is_empty());
    }

    #[test]
    fn the_help_names_every_flag() {
        for (_, name) in lockstead_types::Flags::ALL {
            assert!(HELP.split_whitespace().any(|w| w.trim_end_matches('.') == *name), "{name}");
        }
    }
}
