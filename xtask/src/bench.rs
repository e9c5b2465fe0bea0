//! `cargo xtask bench`: every benchmark in process, and instruction counts under callgrind, kept in `benches/results/`.
//!
//! A benchmark is a file in `crates/*/benches/` that prints its own table. One whose name ends in `counts` is for
//! callgrind: `--cases` prints the names of its cases, one a line, and `CASE N` sets up and then runs a case N times.
//! Two runs of different N tell the instructions of one time, free of the set-up. Counts hardly vary between runs, so
//! a change of a few per cent shows; time on a shared machine does not show that.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::run::{self, capture, cargo};

/// How often a case runs in the shorter of the two runs under callgrind.
const TIMES: u64 = 2_000;

#[derive(Default)]
struct Options<'a> {
    only: Option<&'a str>,
    no_callgrind: bool,
}

struct Bench {
    package: String,
    name: String,
}

impl Bench {
    fn counts(&self) -> bool {
        self.name.ends_with("counts")
    }
}

/// Runs the benchmarks and writes what they print to `benches/results/DATE-MACHINE/`.
///
/// # Errors
/// A benchmark that fails, or none to run.
pub(crate) fn run(options: &[&str]) -> Result<(), String> {
    let options = parse(options)?;
    let root = run::root();
    let benches: Vec<Bench> = find(&root)?
        .into_iter()
        .filter(|bench| options.only.is_none_or(|word| bench.package.contains(word) || bench.name.contains(word)))
        .collect();
    if benches.is_empty() {
        return Err("no benchmark of that name".into());
    }
    let place = root.join("benches/results").join(format!("{}-{}", today(), machine()));
    fs::create_dir_all(&place).map_err(|e| format!("{}: {e}", place.display()))?;
    keep(&place.join("machine.txt"), &description())?;
    let valgrind = !options.no_callgrind && run::works(Command::new("valgrind").arg("--version"));
    for bench in &benches {
        let said = match (bench.counts(), valgrind) {
            (false, _) => capture(cargo().args(["bench", "--quiet", "-p", &bench.package, "--bench", &bench.name]))?,
            (true, true) => count(bench)?,
            (true, false) => {
                println!("{} {}: needs valgrind (apt-get install valgrind)", bench.package, bench.name);
                continue;
            }
        };
        println!("{said}");
        keep(&place.join(format!("{}-{}.txt", bench.package, bench.name)), &said)?;
    }
    println!("written to {}", place.strip_prefix(&root).unwrap_or(&place).display());
    Ok(())
}

fn parse<'a>(options: &[&'a str]) -> Result<Options<'a>, String> {
    let mut parsed = Options::default();
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        match *option {
            "--no-callgrind" => parsed.no_callgrind = true,
            "--only" => parsed.only = Some(rest.next().ok_or("--only WORD")?),
            other => return Err(format!("bench knows --only WORD and --no-callgrind, not {other}")),
        }
    }
    Ok(parsed)
}

/// Every benchmark of the workspace, by package and name.
fn find(root: &Path) -> Result<Vec<Bench>, String> {
    let mut found = Vec::new();
    for folder in listing(&root.join("crates"))? {
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
        let manifest: toml::Table = manifest.parse().map_err(|e| format!("{}: {e}", folder.display()))?;
        let package = manifest.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str);
        let (Some(package), Ok(files)) = (package, listing(&folder.join("benches"))) else { continue };
        for file in files.iter().filter(|file| file.extension().is_some_and(|ending| ending == "rs")) {
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            found.push(Bench { package: package.into(), name });
        }
    }
    Ok(found)
}

fn listing(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    Ok(paths)
}

fn keep(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

/// Instructions of each case, one time.
fn count(bench: &Bench) -> Result<String, String> {
    let built = capture(cargo().args(["bench", "--no-run", "-p", &bench.package, "--bench", &bench.name]))?;
    let program =
        executable(&built).ok_or_else(|| format!("cargo did not say where it put {}:\n{built}", bench.name))?;
    let program = run::root().join(program);
    let cases = capture(Command::new(&program).arg("--cases"))?;
    let mut table = format!("{:40} {:>12}\n", "case", "instructions");
    for case in cases.lines().map(str::trim).filter(|case| !case.is_empty()) {
        let short = instructions(&program, case, TIMES)?;
        let long = instructions(&program, case, 2 * TIMES)?;
        table.push_str(&format!("{case:40} {:>12}\n", per_time(short, long)));
    }
    Ok(table)
}

fn per_time(short: u64, long: u64) -> u64 {
    (long.saturating_sub(short) + TIMES / 2) / TIMES
}

fn instructions(program: &Path, case: &str, times: u64) -> Result<u64, String> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program).args([case, &times.to_string()]);
    let said = capture(&mut command)?;
    collected(&said).ok_or_else(|| format!("callgrind did not say how many instructions it saw:\n{said}"))
}

/// The path in cargo's line `Executable benches/x.rs (target/release/deps/x-0123)`.
fn executable(said: &str) -> Option<&str> {
    let line = said.lines().find(|line| line.trim_start().starts_with("Executable"))?;
    line.rsplit_once('(')?.1.strip_suffix(')')
}

/// The number in callgrind's line `==1== Collected : 12345`.
fn collected(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains("Collected :"))?;
    line.rsplit(':').next()?.trim().parse().ok()
}

/// The date in UTC, as in `2026-11-22`.
fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = date(seconds / 86_400);
    format!("{year}-{month:02}-{day:02}")
}

/// The date so many days after 1970-01-01, by counting: nothing here is in a hurry.
fn date(mut days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

/// The machine by its processor, not by its name: `xeon-platinum-8375c-2`.
fn machine() -> String {
    let model = cpu_model();
    let words = model.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let skip = ["R", "TM", "CPU", "Processor", "Intel", "AMD"];
    let words: Vec<String> = words.filter(|word| !skip.contains(word)).take(4).map(str::to_ascii_lowercase).collect();
    format!("{}-{}", words.join("-"), cores())
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(':'))
        .map_or_else(|| std::env::consts::ARCH.into(), |(_, name)| name.trim().into())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn description() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let rustc = capture(Command::new("rustc").arg("-V")).unwrap_or_default();
    let commit = capture(Command::new("git").current_dir(run::root()).args(["rev-parse", "--short=12", "HEAD"]));
    let commit = commit.unwrap_or_else(|_| "unknown\n".into());
    format!("cpu {}\ncores {}\nkernel {kernel}{rustc}commit {commit}", cpu_model(), cores())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(59), (1970, 3, 1));
        assert_eq!(date(11_016), (2000, 2, 29));
        assert_eq!(date(20_779), (2026, 11, 22));
    }

    #[test]
    fn what_the_tools_say_is_understood() {
        let cargo = "   Compiling x\n  Executable benches/table_counts.rs (target/release/deps/table_counts-01ab)\n";
        assert_eq!(executable(cargo), Some("target/release/deps/table_counts-01ab"));
        assert_eq!(collected("==12== Events    : Ir\n==12== Collected : 4600123\n"), Some(4_600_123));
        assert_eq!(per_time(1_000_000, 1_000_000 + 250 * TIMES), 250);
        assert_eq!(executable("nothing"), None);
        assert_eq!(collected("nothing"), None);
    }

    #[test]
    fn options_are_understood() {
        assert!(parse(&["--only", "table", "--no-callgrind"]).is_ok_and(|o| o.only == Some("table") && o.no_callgrind));
        assert!(parse(&["--only"]).is_err());
        assert!(parse(&["--fast"]).is_err());
    }
}
