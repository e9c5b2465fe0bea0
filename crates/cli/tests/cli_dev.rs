//! `lockstead dev`: a node that is ready, can be killed, and goes away with the command.

mod common;

use std::{
    io::Read as _,
    net::TcpListener,
    os::unix::{fs::DirBuilderExt, net::UnixListener},
    path::Path,
    process::{Command, Stdio},
};

use common::{LONG, Process, lockstead, runs, until};
use rustix::process::{Pid, Signal, kill_process};

fn dev(folder: &tempfile::TempDir, args: &[&str]) -> Command {
    let mut command = lockstead();
    command.arg("dev").args(args).env("LOCKSTEAD_RUN_DIR", folder.path().join("run")).stdin(Stdio::null());
    command
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn a_command_finds_the_node_and_this_program() {
    let folder = folder();
    let script = "lockstead lock a -- sh -c 'test -n \"$LOCKSTEAD_TOKEN\"' && echo \"$LOCKSTEAD_ENDPOINTS\" && exit 5";
    let run = dev(&folder, &["--port", "auto", "--", "sh", "-c", script]).output().expect("runs");
    assert_eq!(run.status.code(), Some(5), "{}", String::from_utf8_lossy(&run.stderr));
    let (out, said) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(out.starts_with("127.0.0.1:") && out.lines().count() == 1, "only the command's output: {out}");
    let endpoint = out.trim();
    assert!(said.contains(&format!("client {endpoint} admin http://127.0.0.1:")), "{said}");
    assert!(said.lines().any(|line| line == "ready"), "{said}");
    let status = |command: &[&str]| {
        let args = [&["--port", "auto", "--"], command].concat();
        dev(&folder, &args).stderr(Stdio::null()).status().expect("runs").code()
    };
    assert_eq!(status(&["sh", "-c", "kill -9 $$"]), Some(128 + 9));
    assert_eq!(status(&["/nonexistent/program"]), Some(127));
}

#[test]
fn a_killed_node_is_started_again_by_the_printed_command() {
    let folder = folder();
    let mut command = dev(&folder, &["--port", "auto"]);
    let mut process = Process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut lines = process.lines();
    let first = lines.next().expect("the node's line");
    let words: Vec<&str> = first.split(' ').collect();
    let ["node", "1", "pid", pid, "client", client, "admin", admin] = words[..] else { panic!("{first}") };
    assert!(admin.starts_with("http://"), "{first}");
    let again = lines.next().expect("the command to start it again");
    let again = again.strip_prefix("node 1 again with: ").unwrap_or_else(|| panic!("{again}")).to_owned();
    assert_eq!(lines.next().as_deref(), Some("ready"));

    let run_dir = folder.path().join("run");
    let client = client.to_owned();
    let ls = || {
        let mut ls = lockstead();
        ls.arg("ls").env("LOCKSTEAD_ENDPOINTS", &client).env("LOCKSTEAD_RUN_DIR", &run_dir);
        ls.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("runs").code()
    };
    assert_eq!(ls(), Some(0));
    kill_process(Pid::from_raw(pid.parse().expect("a pid")).expect("not zero"), Signal::KILL).expect("it runs");
    until("it is gone", LONG, || (!runs(pid)).then_some(()));
    assert_eq!(ls(), Some(69));
    assert!(process.ended().is_none(), "dev goes on");

    let mut second = Command::new("sh");
    second.args(["-c", &format!("exec {again}")]).env("LOCKSTEAD_RUN_DIR", &run_dir).stdout(Stdio::piped());
    let mut second = Process::spawn(second.stdin(Stdio::null()).stderr(Stdio::null()));
    assert!(second.lines().any(|line| line == "ready"));
    assert_eq!(ls(), Some(0));
    let mut errors = process.errors();
    process.signal(Signal::INT);
    assert_eq!(process.wait_for("Ctrl-C ends it", LONG).code(), Some(0));
    // It did not start that one, which goes on with its data.
    let mut said = String::new();
    errors.read_to_string(&mut said).expect("text");
    let data = said.trim_end().rsplit_once("remove ").unwrap_or_else(|| panic!("{said}")).1.to_owned();
    assert!(again.contains(&data) && Path::new(&data).join("journal").exists(), "{said}");
    assert_eq!(ls(), Some(0));
    second.signal(Signal::TERM);
    assert_eq!(second.wait_for("SIGTERM ends the node", LONG).code(), Some(0));
    std::fs::remove_dir_all(&data).expect("removed");
}

#[test]
fn what_cannot_be_is_said() {
    let folder = folder();
    let none = dev(&folder, &["--nodes", "0"]).output().expect("runs");
    assert_eq!(none.status.code(), Some(64));
    let beyond = dev(&folder, &["--nodes", "3", "--port", "65530"]).output().expect("runs");
    assert_eq!(beyond.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&beyond.stderr).contains("65535"));
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let busy = dev(&folder, &["--port", &port]).output().expect("runs");
    assert_eq!(busy.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&busy.stderr).contains("--port"));
    let mut server = lockstead();
    server.args(["server", "--client-tcp", &format!("127.0.0.1:{port}")]).env("LOCKSTEAD_RUN_DIR", folder.path());
    let server = server.output().expect("runs");
    assert_eq!(server.status.code(), Some(69));
    let said = String::from_utf8_lossy(&server.stderr);
    assert!(said.contains("`client_tcp` in the configuration, or --client-tcp"), "{said}");
}

#[test]
fn a_server_refuses_what_its_configuration_does_not_allow() {
    let folder = folder();
    let server = |args: &[&str]| {
        let mut command = lockstead();
        command.arg("server").args(args).env("LOCKSTEAD_RUN_DIR", folder.path().join("run")).stdin(Stdio::null());
        command.output().expect("runs")
    };
    let open = server(&["--client-tcp", "0.0.0.0:0"]);
    assert_eq!(open.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&open.stderr).contains("insecure_plaintext"));
    assert_eq!(server(&["--limit-locks", "many", "--client-tcp", "127.0.0.1:0"]).status.code(), Some(64));
    assert_eq!(server(&[]).status.code(), Some(64), "nobody could reach it");
    let file = folder.path().join("node.toml");
    std::fs::write(&file, "client_tcp = \"127.0.0.1:0\"\ncolour = \"red\"\n").expect("written");
    let wrong = server(&["--config", &file.display().to_string()]);
    assert_eq!(wrong.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("colour"));
}

#[test]
fn a_lockspace_may_be_created_with_modes_of_the_configuration() {
    let folder = folder();
    let (file, socket) = (folder.path().join("node.toml"), folder.path().join("run/node.sock"));
    let table = "relation = ['++', '+-']\nshortcuts = { shared = 'GO', update = 'STOP', exclusive = 'STOP' }\n\
                 modes = [{ name = 'GO' }, { name = 'STOP', writes = true }]\n";
    let text = format!("client_unix = '{}'\n[[mode_table]]\nname = 'traffic'\n{table}", socket.display());
    std::fs::write(&file, text).expect("written");
    let mut server = lockstead();
    server.arg("server").arg("--config").arg(&file).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut server = Process::spawn(server.stderr(Stdio::null()));
    assert!(server.lines().any(|line| line == "ready"));
    let run = |args: &[&str]| {
        let mut command = lockstead();
        command.args(args).env("LOCKSTEAD_ENDPOINTS", format!("unix:{}", socket.display()));
        command.output().expect("runs")
    };
    let created = run(&["lockspace", "create", "crossing", "--modes", "traffic"]);
    assert!(created.status.success(), "{created:?}");
    assert!(run(&["lock", "-L", "crossing", "-m", "GO", "a", "--", "true"]).status.success());
}

#[test]
fn the_socket_of_a_dead_node_hides_no_other() {
    let folder = folder();
    let run_dir = folder.path().join("run");
    std::fs::DirBuilder::new().mode(0o700).create(&run_dir).expect("made");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    drop(UnixListener::bind(run_dir.join(format!("{}.sock", address.port()))).expect("bound"));
    drop(listener);
    let elsewhere = folder.path().join("other/node.sock");
    let mut server = lockstead();
    server.args(["server", "--client-tcp", &address.to_string(), "--client-unix"]).arg(&elsewhere);
    let mut server = Process::spawn(server.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()));
    assert!(server.lines().any(|line| line == "ready"));
    let mut ls = lockstead();
    ls.arg("ls").env("LOCKSTEAD_ENDPOINTS", address.to_string()).env("LOCKSTEAD_RUN_DIR", &run_dir);
    let ls = ls.output().expect("runs");
    assert!(ls.status.success(), "{ls:?}");
}
