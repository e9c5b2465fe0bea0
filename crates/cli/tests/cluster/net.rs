//! Networks of their own for the nodes of a test and for its clients, joined by a bridge that can be cut for any two of them, one
//! way or both. A cut loses packets without a word, as a broken switch does: who is cut off sends to a hardware address that
//! nobody has. All of it is in namespaces that end with the test.

use core::sync::atomic::{AtomicU16, Ordering::SeqCst};
use std::{ffi::OsStr, fs::File, io::Write as _, os::fd::AsFd as _, process::Command};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Two places for clients, after those of the nodes.
pub(crate) const CLIENTS: [u16; 2] = [101, 102];

/// A hardware address that nobody has.
const NOBODY: &str = "02:00:00:00:00:99";

/// The networks.
pub(crate) struct Net {
    /// What the names of all its namespaces begin with.
    name: String,
    members: Vec<u16>,
}

impl Net {
    /// A network for each node and each place for clients; nothing, and says so, where this process may not make them.
    pub(crate) fn of(nodes: u16) -> Option<Net> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let name = format!("lockstead-{}-{}", std::process::id(), NEXT.fetch_add(1, SeqCst));
        let net = Net { name, members: (1..=nodes).chain(CLIENTS).collect() };
        if !try_ip(&["netns", "add", &net.bridge()]) {
            // Past the test's own capture: a test that was not run must be seen.
            let _ = std::io::stderr().write_all(b"SKIPPED: networks of their own need root and `ip netns`\n");
            return None;
        }
        let bridge = net.bridge();
        ip(&["-n", &bridge, "link", "add", "bridge", "type", "bridge"]);
        ip(&["-n", &bridge, "link", "set", "bridge", "up"]);
        for member in &net.members {
            let (space, port) = (net.space(*member), format!("to{member}"));
            ip(&["netns", "add", &space]);
            ip(&["-n", &bridge, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &space]);
            ip(&["-n", &bridge, "link", "set", &port, "master", "bridge", "up"]);
            ip(&["-n", &space, "addr", "add", &format!("{}/24", net.address(*member)), "dev", "eth0"]);
            ip(&["-n", &space, "link", "set", "eth0", "up"]);
            ip(&["-n", &space, "link", "set", "lo", "up"]);
        }
        Some(net)
    }

    /// The address of a member.
    pub(crate) fn address(&self, member: u16) -> String {
        format!("10.213.7.{member}")
    }

    /// A program that runs in a member's network.
    pub(crate) fn command(&self, member: u16, program: &OsStr) -> Command {
        let mut command = Command::new("ip");
        // It becomes the program, so its process id is the program's.
        command.args(["netns", "exec", &self.space(member)]).arg(program);
        command
    }

    /// Does something in a member's network: sockets that are made there stay there.
    pub(crate) fn within<T: Send>(&self, member: u16, act: impl FnOnce() -> T + Send) -> T {
        let path = self.path(member);
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                enter(&path);
                act()
            });
            inside.join().expect("no panic")
        })
    }

    /// Where [`enter`] finds a member's network.
    pub(crate) fn path(&self, member: u16) -> String {
        format!("/run/netns/{}", self.space(member))
    }

    /// From now on nothing goes from one to the other; what goes the other way arrives.
    pub(crate) fn cut_one_way(&self, from: u16, to: u16) {
        let (space, to) = (self.space(from), self.address(to));
        ip(&["-n", &space, "neigh", "replace", &to, "lladdr", NOBODY, "dev", "eth0", "nud", "permanent"]);
    }

    /// From now on nothing goes between these and those.
    pub(crate) fn cut(&self, these: &[u16], those: &[u16]) {
        for (one, other) in pairs(these, those) {
            self.cut_one_way(one, other);
            self.cut_one_way(other, one);
        }
    }

    /// Everything goes everywhere again.
    pub(crate) fn heal(&self) {
        for member in &self.members {
            ip(&["-n", &self.space(*member), "neigh", "flush", "dev", "eth0", "nud", "permanent"]);
        }
    }

    fn space(&self, member: u16) -> String {
        format!("{}-{member}", self.name)
    }

    fn bridge(&self) -> String {
        format!("{}-bridge", self.name)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for member in &self.members {
            try_ip(&["netns", "del", &self.space(*member)]);
        }
        try_ip(&["netns", "del", &self.bridge()]);
    }
}

/// Takes this thread into a network.
pub(crate) fn enter(path: &str) {
    let space = File::open(path).expect("the network is there");
    move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).expect("allowed");
}

fn pairs<'a>(these: &'a [u16], those: &'a [u16]) -> impl Iterator<Item = (u16, u16)> + 'a {
    these.iter().flat_map(|one| those.iter().map(|other| (*one, *other)))
}

fn ip(words: &[&str]) {
    let output = Command::new("ip").args(words).output().expect("`ip` runs");
    assert!(output.status.success(), "ip {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn try_ip(words: &[&str]) -> bool {
    Command::new("ip").args(words).output().is_ok_and(|output| output.status.success())
}
