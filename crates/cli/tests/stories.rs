//! `lockstead dev -- lockstead shell`: the stories and the shell itself, with the built command and real sockets.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use lockstead_script::TokenMask;

const LOCKSTEAD: &str = env!("CARGO_BIN_EXE_lockstead");

/// A command under a node of its own, with sockets in a folder of its own.
fn under_a_node(folder: &Path, command: &[&str]) -> Output {
    let mut dev = Command::new(LOCKSTEAD);
    dev.args(["dev", "--port", "auto", "--"]).args(command).env("LOCKSTEAD_RUN_DIR", folder);
    dev.output().expect("lockstead dev runs")
}

/// Runs a script and returns what it prints, tokens numbered.
fn play(script: &Path) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let output = under_a_node(folder.path(), &[LOCKSTEAD, "shell", &script.display().to_string()]);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {}\n{complaints}", script.display(), output.status);
    TokenMask::new().text(&String::from_utf8_lossy(&output.stdout))
}

fn script(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("script.txt");
    fs::write(&path, text).expect("a script");
    path
}

/// The shell alone, with nobody to talk to.
fn shell(arguments: &[&str], input: &str) -> Output {
    let mut shell = Command::new(LOCKSTEAD)
        .arg("shell")
        .args(arguments)
        .args(["--endpoints", "unix:/nonexistent/lockstead.sock"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("lockstead shell runs");
    let mut stdin = shell.stdin.take().expect("its standard input");
    // It may end before it has read all of it, and that is what some of these tests want.
    let _closed_already = stdin.write_all(input.as_bytes());
    drop(stdin);
    shell.wait_with_output().expect("it ends")
}

#[test]
fn every_story_is_told_as_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../stories");
    let entries = fs::read_dir(&folder).expect("the stories");
    let mut told = 0;
    for path in entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "txt")) {
        let expected = fs::read_to_string(path.with_extension("expected")).expect("what it should print");
        assert_eq!(play(&path), expected, "{}", path.display());
        told += 1;
    }
    assert!(told >= 6, "{told} stories");
}

/// Sixteen sessions, each event caused by another one: whatever order the sockets are served in, the output is the same.
#[test]
fn the_same_script_prints_the_same_every_time() {
    let mut text = String::new();
    for n in 0..16 {
        text += &format!("s{n}: lock r {}\n", if n < 8 { "CR" } else { "EX" });
    }
    for n in 0..4 {
        text += &format!("s{n}: kill\n");
    }
    text += "s15: cancel r\n";
    for n in 4..8 {
        text += &format!("s{n}: unlock r &\n");
    }
    text += "s0: bye\ns0: lock r PR wait=50ms\ns0: sleep 100ms\n";
    for n in 8..12 {
        text += &format!("s{n}: bye\n");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = script(folder.path(), &text);
    let first = play(&path);
    assert!(first.contains("s8: r granted EX token=#9\n"), "{first}");
    assert!(first.contains("s0: r refused timeout\n"), "{first}");
    assert!(first.ends_with("s12: r granted EX token=#13\ns12: r blocking EX\n"), "{first}");
    for _ in 0..4 {
        assert_eq!(play(&path), first);
    }
}

#[test]
fn json_is_one_object_an_event() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = script(folder.path(), "a: lock r EX\nb: lock r PR\na: convert r NL value=x\nb: show r\n");
    let path = path.display().to_string();
    let output = under_a_node(folder.path(), &[LOCKSTEAD, "shell", "-o", "json", &path]);
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout);
    let objects: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let seen: Vec<String> =
        objects.iter().map(|o| format!("{} {}", o["session"], o["event"]).replace('"', "")).collect();
    assert_eq!(seen, ["a granted", "b waiting", "a blocking", "a granted", "b granted", "b show"]);
    assert_eq!(objects[5]["value"]["text"], "x");
    assert!(objects[0]["token"].is_string());
}

#[test]
fn a_script_that_is_wrong_anywhere_does_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = script(folder.path(), "a: lock r EX\n\n# fine so far\nb: lok r EX\n");
    let output = shell(&[&path.display().to_string()], "");
    assert_eq!(output.status.code(), Some(64));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains("line 4, column 4: `lok`"), "{complaint}");
    assert_eq!(output.stdout, b"");
}

#[test]
fn piped_lines_are_checked_as_they_come() {
    let output = shell(&["-"], "# nothing yet\na: lock x\n");
    assert_eq!(output.status.code(), Some(64));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains("line 2, column 10: a mode, or permits=TAKE/OF, is missing"), "{complaint}");
}

#[test]
fn nobody_to_talk_to_is_69() {
    let output = shell(&[], "a: lock x EX\n");
    assert_eq!(output.status.code(), Some(69), "{}", String::from_utf8_lossy(&output.stderr));
}
