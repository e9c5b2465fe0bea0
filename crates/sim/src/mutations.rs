//! Bugs planted one after the other, and after how many seeds each is caught.

use lockstead_types::planted::{Bug, plant};

use crate::{options::Options, run::run};

/// Tries every planted bug on up to `most` seeds, as `change` makes them, and prints a table. Whether all were caught.
pub fn mutations(most: u64, change: &dyn Fn(u64) -> Options) -> bool {
    let mut missed = 0;
    println!("{:<19} {:>5}  {:<6} what it does", "planted bug", "seeds", "by");
    for bug in Bug::ALL {
        plant(*bug);
        let caught = (0..most).find_map(|seed| run(&change(seed), false).violation.map(|v| (seed + 1, v.code)));
        plant(Bug::None);
        match caught {
            Some((seeds, code)) => {
                println!("{:<19} {seeds:>5}  {:<6} {}", format!("{bug:?}"), format!("{code:?}"), bug.text())
            }
            None => {
                missed += 1;
                println!("{:<19} {:>5}  {:<6} {}", format!("{bug:?}"), "-", "MISSED", bug.text());
            }
        }
    }
    println!("{} planted, {missed} missed", Bug::ALL.len());
    missed == 0
}
