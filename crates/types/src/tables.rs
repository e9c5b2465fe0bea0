//! The built-in mode tables, as data.
//!
//! Sources: `vms` Davis, *VAXcluster Principles*, and Linux `fs/dlm` (Oracle's IDLM has the same algebra under other
//! names); `granular` Gray, Lorie, Putzolu, Traiger 1975, with SQL Server's published U; `sqlserver` Microsoft's
//! locking guide, 22 modes, with their intents; `innodb` the record locks of MySQL's `lock0lock.cc`; `postgres` PostgreSQL 15 `lock.c` (table modes) and its manual (row modes); `rw` needs none.

use alloc::{
    borrow::ToOwned,
    string::{String, ToString},
    vec::Vec,
};

use crate::mode::{ModeSpec, ModeTable, ModeTableSpec};

/// Names of the built-in tables.
pub const BUILT_IN: [&str; 6] = ["vms", "granular", "sqlserver", "innodb", "postgres", "rw"];

/// A built-in table by name.
#[must_use]
pub fn built_in(name: &str) -> Option<ModeTable> {
    let spec = match name {
        "vms" => vms(),
        "granular" => granular(),
        "sqlserver" => sqlserver(),
        "innodb" => innodb(),
        "postgres" => postgres(),
        "rw" => rw(),
        _ => return None,
    };
    // The specs are constants of this file, and a test builds each: an error here is a mistake in the file.
    ModeTable::new(spec).ok()
}

fn vms() -> ModeTableSpec {
    spec(
        "vms",
        &["NL:NULL", "CR:SS", "CW:SX", "PR:S,shared", "PW:SSX,update", "EX:X,exclusive"],
        &["PW", "EX"],
        &["++++++", "+++++-", "+++---", "++-+--", "++----", "+-----"],
        ["PR", "PW", "EX"],
    )
    .with_intents("CR>CR PR>CR CW>CW PW>CW EX>CW")
}

fn granular() -> ModeTableSpec {
    spec(
        "granular",
        &["IS", "IX", "S:shared", "U:update", "SIX", "X:exclusive"],
        &["SIX", "X"],
        //IS IX S  U SIX X
        &["+++++-", "++----", "+-++--", "+-+---", "+-----", "------"],
        ["S", "U", "X"],
    )
    .with_intents("IS>IS S>IS IX>IX U>IX SIX>IX X>IX")
}

fn sqlserver() -> ModeTableSpec {
    let names = [
        "NL", "SCH-S", "SCH-M", "S", "U", "X", "IS", "IU", "IX", "SIU", "SIX", "UIX", "BU", "RS-S", "RS-U", "RI-N",
        "RI-S", "RI-U", "RI-X", "RX-S", "RX-U", "RX-X",
    ];
    let rows = [
        "NNNNNNNNNNNNNNNNNNNNNN",
        "NNCNNNNNNNNNNIIIIIIIII",
        "NCCCCCCCCCCCCIIIIIIIII",
        "NNCNNCNNCNCCCNNNNNCNNC",
        "NNCNCCNCCCCCCNCNNCCNCC",
        "NNCCCCCCCCCCCCCNCCCCCC",
        "NNCNNCNNNNNNCIIIIIIIII",
        "NNCNCCNNNNNCCIIIIIIIII",
        "NNCCCCNNNCCCCIIIIIIIII",
        "NNCNCCNNCNCCCIIIIIIIII",
        "NNCCCCNNCCCCCIIIIIIIII",
        "NNCCCCNCCCCCCIIIIIIIII",
        "NNCCCCCCCCCCNIIIIIIIII",
        "NIINNCIIIIIIINNCCCCCCC",
        "NIINCCIIIIIIINCCCCCCCC",
        "NIINNNIIIIIIICCNNNNCCC",
        "NIINNCIIIIIIICCNNNCCCC",
        "NIINCCIIIIIIICCNNCCCCC",
        "NIICCCIIIIIIICCNCCCCCC",
        "NIINNCIIIIIIICCCCCCCCC",
        "NIINCCIIIIIIICCCCCCCCC",
        "NIICCCIIIIIIICCCCCCCCC",
    ];
    let writers = ["SCH-M", "X", "SIX", "UIX", "BU", "RI-X", "RX-X"];
    let mut spec = spec("sqlserver", &names, &writers, &rows, ["S", "U", "X"]);
    for row in &mut spec.relation {
        *row = row.replace('N', "+").replace('C', "-").replace('I', "!");
    }
    // Of a table a schema lock announces at the database what it does to it; key ranges announce what they do to their key.
    spec.with_intents(
        "SCH-S>IS SCH-M>IX S>IS U>IU X>IX IS>IS IU>IU IX>IX SIU>IU SIX>IX UIX>IX BU>IX \
         RS-S>IS RS-U>IU RI-N>IX RI-S>IX RI-U>IX RI-X>IX RX-S>IX RX-U>IX RX-X>IX",
    )
}

/// Locks of an index record, which names the gap before it too: of the record, of the gap, of both (next-key, the plain S and X), and the
/// intention to insert into the gap. Not symmetric: that waits for the locks of a gap, and no lock of a gap waits for anything.
fn innodb() -> ModeTableSpec {
    spec(
        "innodb",
        &[
            "INSERT_INTENTION",
            "S-GAP",
            "X-GAP",
            "S-REC:S-REC_NOT_GAP",
            "X-REC:X-REC_NOT_GAP",
            "S:shared,next-key-S",
            "X:exclusive,next-key-X",
        ],
        &["X-REC", "X"],
        //II SG XG SR XR S  X
        &["+--++--", "+++++++", "+++++++", "++++-+-", "+++----", "++++-+-", "+++----"],
        ["S", "X", "X"],
    )
}

/// Table modes 1 to 8 and the four row modes. The two kinds are asked of different resources, so a pair of one each is
/// illegal on one.
fn postgres() -> ModeTableSpec {
    spec(
        "postgres",
        &[
            "AccessShare:AccessShareLock",
            "RowShare:RowShareLock",
            "RowExclusive:RowExclusiveLock",
            "ShareUpdateExclusive:ShareUpdateExclusiveLock",
            "Share:ShareLock",
            "ShareRowExclusive:ShareRowExclusiveLock",
            "Exclusive:ExclusiveLock",
            "AccessExclusive:AccessExclusiveLock",
            "ForKeyShare",
            "ForShare",
            "ForNoKeyUpdate",
            "ForUpdate",
        ],
        &["ShareRowExclusive", "Exclusive", "AccessExclusive", "ForNoKeyUpdate", "ForUpdate"],
        &[
            "+++++++- !!!!",
            "++++++-- !!!!",
            "++++---- !!!!",
            "+++----- !!!!",
            "++--+--- !!!!",
            "++------ !!!!",
            "+------- !!!!",
            "-------- !!!!",
            "!!!!!!!! +++-",
            "!!!!!!!! ++--",
            "!!!!!!!! +---",
            "!!!!!!!! ----",
        ],
        ["Share", "ShareUpdateExclusive", "AccessExclusive"],
    )
}

fn rw() -> ModeTableSpec {
    spec("rw", &["R:read,S,shared", "W:write,X,exclusive"], &["W"], &["+-", "--"], ["R", "W", "W"])
}

/// `modes` are written `NAME` or `NAME:ALIAS,ALIAS`.
fn spec(name: &str, modes: &[&str], writers: &[&str], relation: &[&str], shortcuts: [&str; 3]) -> ModeTableSpec {
    let mode = |text: &&str| {
        let (name, aliases) = text.split_once(':').unwrap_or((text, ""));
        ModeSpec {
            name: name.to_owned(),
            aliases: aliases.split(',').filter(|a| !a.is_empty()).map(ToString::to_string).collect(),
            writes: writers.contains(&name),
            intent: None,
        }
    };
    ModeTableSpec {
        name: name.to_owned(),
        modes: modes.iter().map(mode).collect(),
        relation: relation.iter().map(|r| String::from(*r)).collect::<Vec<_>>(),
        shortcuts: shortcuts.map(String::from),
    }
}

impl ModeTableSpec {
    /// `intents` are written `MODE>INTENT`.
    fn with_intents(mut self, intents: &str) -> ModeTableSpec {
        for (mode, intent) in intents.split_whitespace().filter_map(|text| text.split_once('>')) {
            self.modes.iter_mut().filter(|m| m.name == mode).for_each(|m| m.intent = Some(intent.to_owned()));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_table_is_valid() {
        for name in BUILT_IN {
            let table = built_in(name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(table.name(), name);
        }
        assert!(built_in("nonsense").is_none());
    }
}
