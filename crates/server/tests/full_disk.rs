//! A disk that is full: the node says so and stops, rather than promise what it cannot keep, and starts again once there is room.

mod common;

use std::{fs, io::Write, path::Path, process::Command};

use common::{EX, Peer, TTL, config, start, tcp};
use lockstead_server::{Server, ServerConfig};
use lockstead_types::{SessionId, Span, message::ClientMessage, message::ServerMessage, report::Meta};

/// A file system of its own with little room, for as long as this lives.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, and says so, where this process may not mount.
    fn mount() -> Option<SmallDisk> {
        let folder = tempfile::tempdir().expect("a folder");
        let options = ["-t", "tmpfs", "-o", "size=256k", "lockstead-test"];
        let mounted = Command::new("mount").args(options).arg(folder.path()).output();
        if mounted.is_ok_and(|m| m.status.success()) {
            return Some(SmallDisk(folder));
        }
        eprintln!("SKIPPED: a full disk needs the right to mount a tmpfs (root)");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all the room there is; gives the file to remove.
    fn fill(&self) -> std::path::PathBuf {
        let path = self.path().join("other-data");
        let mut file = fs::File::create(&path).expect("a file");
        while file.write_all(&[7; 512]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Opens a session over each connection until one is not answered; whether one was not.
fn open_until_silence(mut peers: Vec<Peer>) -> bool {
    peers.iter_mut().zip(100..).any(|(peer, session)| {
        peer.send(&[ClientMessage::Open { session: SessionId(session), ttl: TTL, meta: Meta::default() }]);
        !matches!(peer.try_recv(), Some(ServerMessage::Opened { .. }))
    })
}

#[test]
fn a_full_disk_stops_the_node_and_no_session_is_open_that_is_not_written() {
    let Some(disk) = SmallDisk::mount() else { return };
    let on = || ServerConfig { data: Some(disk.path().join("data")), ..config() };
    let server = start(on());
    let mut holder = tcp(&server).open(1, Span::from_secs(600));
    let before = holder.lock("orders", EX);
    // Connected before: what has ended does not listen.
    let greeted = || {
        let mut peer = tcp(&server);
        peer.hello();
        peer
    };
    let peers = (0..100).map(|_| greeted()).collect();
    let filler = disk.fill();
    let end = std::thread::spawn(move || server.wait());
    assert!(open_until_silence(peers), "a hundred sessions were opened on a full disk");
    let why = end.join().expect("no panic").expect_err("it cannot go on").to_string();
    assert!(why.contains("journal") && why.contains("start again"), "{why}");

    // Without room it does not start, since it could not raise its epoch, and damages nothing.
    assert!(Server::start(on()).is_err(), "started without room");
    fs::remove_file(filler).expect("removed");
    let server = start(on());
    let mut peer = tcp(&server);
    assert!(peer.attach(1).expect("its record was written before it was open").reclaim);
    let mut newcomer = tcp(&server).open(2, TTL);
    let held = common::lock_op("orders", EX, lockstead_types::request::Wait::Never);
    assert!(matches!(newcomer.ask(held), lockstead_types::reply::Reply::Refused(_)), "frozen until it has claimed");
    assert!(before.token.epoch() < server.epoch());
}
