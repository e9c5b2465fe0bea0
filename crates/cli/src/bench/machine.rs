//! What the machine does around a measurement: load, CPU time of the node, of this process and of everybody else.

use core::time::Duration;
use std::{fs, io, time::Instant};

/// Below this share of CPU time in use a machine is called quiet.
const QUIET: f64 = 0.08;

/// Ticks so far of this process, of the node and of the machine.
#[derive(Copy, Clone, Default, Debug)]
pub(crate) struct Cpu {
    pub(crate) client: u64,
    pub(crate) server: u64,
    pub(crate) busy: u64,
    pub(crate) total: u64,
}

impl Cpu {
    /// Now.
    pub(crate) fn now(server: Option<u32>) -> Cpu {
        let (busy, total) = machine_ticks();
        let server = server.and_then(|pid| ticks_of(&pid.to_string())).unwrap_or(0);
        Cpu { client: ticks_of("self").unwrap_or(0), server, busy, total }
    }

    /// From `earlier` to this.
    pub(crate) fn since(&self, earlier: Cpu) -> Cpu {
        Cpu {
            client: self.client.saturating_sub(earlier.client),
            server: self.server.saturating_sub(earlier.server),
            busy: self.busy.saturating_sub(earlier.busy),
            total: self.total.saturating_sub(earlier.total),
        }
    }

    /// The share of all CPU time that went to neither the node nor this process.
    pub(crate) fn foreign(&self) -> f64 {
        self.busy.saturating_sub(self.client + self.server) as f64 / self.total.max(1) as f64
    }
}

/// The process of this host that listens on a TCP port, as far as we may see it.
pub(crate) fn pid_listening_on(port: u16) -> Option<u32> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let socket = tables.iter().flat_map(|table| table.lines().skip(1)).find_map(|line| listener(line, port))?;
    let wanted = format!("socket:[{socket}]");
    let pids = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.into_iter().find(|pid| {
        let fds = fs::read_dir(format!("/proc/{pid}/fd"));
        let mut links = fds.into_iter().flatten().filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        links.any(|link| link.as_os_str() == wanted.as_str())
    })
}

/// The inode in a line of `/proc/net/tcp`, if it is the listener of a port.
fn listener(line: &str, port: u16) -> Option<u64> {
    const LISTEN: &str = "0A";
    let mut words = line.split_whitespace().skip(1);
    let local = words.next()?.rsplit_once(':')?.1;
    let state = words.nth(1)?;
    let inode = words.nth(5)?.parse().ok()?;
    (state == LISTEN && u16::from_str_radix(local, 16) == Ok(port)).then_some(inode)
}

/// Microseconds of one tick.
pub(crate) fn tick_us() -> f64 {
    1e6 / rustix::param::clock_ticks_per_second().max(1) as f64
}

/// The load average of the last minute.
pub(crate) fn load1() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

/// Waits until the CPUs are nearly idle, at most `limit`; how busy they were at the last look, 0 to 1.
pub(crate) fn wait_quiet(limit: Duration) -> f64 {
    let start = Instant::now();
    loop {
        let before = machine_ticks();
        std::thread::sleep(Duration::from_millis(700));
        let after = machine_ticks();
        let total = after.1.saturating_sub(before.1).max(1);
        let busy = after.0.saturating_sub(before.0) as f64 / total as f64;
        if busy < QUIET || start.elapsed() >= limit {
            return busy;
        }
    }
}

/// Keeps idle CPUs polling instead of halting for as long as this lives, through the kernel's PM QoS interface.
pub(crate) struct Awake {
    _file: fs::File,
}

impl Awake {
    /// Asks for a wake-up latency of zero. Needs root.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn start() -> io::Result<Awake> {
        use std::io::Write as _;
        let mut file = fs::OpenOptions::new().write(true).open("/dev/cpu_dma_latency")?;
        file.write_all(&0i32.to_ne_bytes())?;
        Ok(Awake { _file: file })
    }
}

/// Busy and total ticks over all CPUs; what the host took away counts as busy.
fn machine_ticks() -> (u64, u64) {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = text.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = first.split_whitespace().skip(1).take(8).map(|word| word.parse().unwrap_or(0)).collect();
    let total: u64 = ticks.iter().sum();
    let idle = ticks.get(3).copied().unwrap_or(0) + ticks.get(4).copied().unwrap_or(0);
    (total.saturating_sub(idle), total)
}

/// User and system ticks of a process.
fn ticks_of(pid: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name may hold spaces: count from behind its parenthesis.
    let rest: Vec<&str> = text.get(text.rfind(')')? + 2..)?.split_whitespace().collect();
    Some(rest.get(11)?.parse::<u64>().ok()? + rest.get(12)?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::pid_listening_on;

    #[test]
    fn a_listener_is_found_by_its_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        assert_eq!(pid_listening_on(port), Some(std::process::id()));
    }
}
