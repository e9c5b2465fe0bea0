//! Shell processes that add to a counter file under a lock never lose a step and never meet inside it, also while some
//! of them are killed at random moments.

mod common;

use core::time::Duration;
use std::{fs, os::unix::process::ExitStatusExt, process::Stdio, thread};

use common::{Chance, LONG, Node, Process, pass};
use rustix::process::Signal;

const SHELLS: u64 = 64;

/// Adds one to the file `counter`, and writes a line to `overlaps` if another process that still runs is inside too:
/// each says in `inside` that it is there, and looks before and after. The new count takes the place of the old one in
/// one step, so that who is killed leaves one or the other.
const STEP: &str = r#"
before=free
read -r before < inside
if [ "$before" != free ] && [ -n "$before" ]; then
    state=gone
    read -r _ _ state _ 2>/dev/null < /proc/$before/stat
    case $state in
        gone | Z | X) ;;
        *) echo "$$ met $before" >> overlaps ;;
    esac
fi
echo $$ > inside
read -r n < counter
echo $((n + 1)) > counter.new
mv counter.new counter
read -r after < inside
[ "$after" = $$ ] || echo "$after met $$" >> overlaps
echo free > inside
"#;

/// What each shell adds.
const STEPS: u64 = 100;

fn node_with_counter() -> Node {
    let node = Node::start();
    fs::write(node.file("counter"), "0\n").expect("written");
    fs::write(node.file("inside"), "free\n").expect("written");
    fs::write(node.file("step.sh"), STEP).expect("written");
    node
}

fn count(node: &Node) -> u64 {
    let text = node.read("counter").expect("always there");
    text.parse().unwrap_or_else(|_| panic!("the counter is corrupt: {text:?}"))
}

#[test]
fn every_step_of_64_shells_counts() {
    let node = node_with_counter();
    let script =
        format!(r#"i=0; while [ $i -lt {} ]; do "$LOCKSTEAD" lock c -- sh step.sh || exit; i=$((i + 1)); done"#, STEPS);
    let mut shells: Vec<Process> = (0..SHELLS).map(|_| Process::spawn(&mut node.script(&script))).collect();
    for shell in &mut shells {
        let status = shell.wait();
        assert!(status.success(), "a shell ended with {status}");
    }
    assert_eq!(node.read("overlaps"), None);
    assert_eq!(count(&node), SHELLS * STEPS);
}

#[test]
fn a_quarter_killed_at_any_moment_corrupts_nothing() {
    let seed = 20_261_122;
    println!("seed {seed}");
    let node = node_with_counter();
    let (done, killed) = thread::scope(|scope| {
        let shells: Vec<_> = (0..SHELLS)
            .map(|n| {
                scope.spawn({
                    let node = &node;
                    move || doomed_shell(node, seed + n)
                })
            })
            .collect();
        shells.into_iter().map(|shell| shell.join().expect("no panic")).fold((0, 0), |(d, k), (a, b)| (d + a, k + b))
    });
    let counted = count(&node);
    println!("{done} done, {killed} killed, {counted} counted");
    assert_eq!(node.read("overlaps"), None);
    assert!(killed > 0, "nobody was killed: the test shows nothing");
    // One that was killed may have taken its step or not; one that ended well has.
    assert!((done..=done + killed).contains(&counted), "{done} done, {killed} killed, {counted} counted");
    let status = node.command(&["lock", "-w", "1", "c", "--", "true"]).status().expect("runs");
    assert!(status.success(), "a killed holder left the lock behind: {status}");
}

/// Takes its steps; each is killed with a chance of one in four, at a moment while it starts, waits or is inside.
/// Returns how many ended well and how many were killed.
fn doomed_shell(node: &Node, seed: u64) -> (u64, u64) {
    let mut chance = Chance::of(seed);
    let (mut done, mut killed) = (0, 0);
    for _ in 0..STEPS {
        let mut command = node.command(&["lock", "c", "--", "sh", "step.sh"]);
        let mut step = Process::spawn(command.stderr(Stdio::null()));
        if chance.below(4) == 0 {
            pass(Duration::from_micros(chance.below(400_000)));
            if step.ended().is_none() {
                step.signal(Signal::KILL);
            }
        }
        let status = step.wait_for("a step", LONG);
        match status.signal() {
            Some(_) => killed += 1,
            None => {
                assert!(status.success(), "a step ended with {status}");
                done += 1;
            }
        }
    }
    (done, killed)
}
