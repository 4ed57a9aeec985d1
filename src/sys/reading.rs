//! Does anybody wait for what is typed into a terminal? The kernel says in which call each thread of a process sleeps. Read
//! from `/proc`, which says nothing elsewhere than on Linux; changes nothing and knows nothing of agents.

use std::os::fd::AsFd;

/// How many processes of a family are looked at; more are those of a program that is at work.
#[cfg(target_os = "linux")]
const MOST: usize = 256;

/// Whether a thread of `root` or of one of its descendants sleeps until the terminal has input: of those processes that are
/// in the group `front`, which alone may read it. `None` where that cannot be known.
#[cfg(target_os = "linux")]
pub fn awaited(terminal: impl AsFd, root: u32, front: i32) -> Option<bool> {
    let tty = rustix::fs::fstat(terminal).ok()?.st_rdev;
    let mut unknown = false;
    let mut family = vec![root];
    let mut at = 0;
    while at < family.len() && family.len() <= MOST {
        let pid = family[at];
        at += 1;
        let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
            continue;
        };
        let fore = group(pid) == Some(front);
        for thread in threads.flatten().map(|entry| entry.path()) {
            let children = std::fs::read_to_string(thread.join("children"));
            unknown |= children.is_err();
            let children = children.unwrap_or_default();
            family.extend(
                children
                    .split_whitespace()
                    .filter_map(|n| n.parse::<u32>().ok()),
            );
            if !fore {
                continue;
            }
            match std::fs::read_to_string(thread.join("syscall")) {
                Ok(call) if linux::waits(pid, &call, tty) => return Some(true),
                Ok(_) => {}
                // A thread that ended meanwhile waits for nothing.
                Err(_) => unknown |= thread.exists(),
            }
        }
    }
    (!unknown && linux::KNOWN).then_some(false)
}

/// Whether anybody waits for the terminal's input: not to be known here.
#[cfg(not(target_os = "linux"))]
pub fn awaited(_: impl AsFd, _root: u32, _front: i32) -> Option<bool> {
    None
}

/// The process group of a process: the third field after the name, which is in parentheses and may hold anything.
#[cfg(target_os = "linux")]
fn group(pid: u32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(2)?.parse().ok()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::os::unix::fs::{FileExt, MetadataExt};

    /// The controlling terminal, whichever it is: `/dev/tty`.
    const OWN_TTY: u64 = 5 << 8;
    /// The most descriptors of one call that are looked at.
    const FDS: u64 = 1024;
    const POLLIN: i16 = 1;

    /// Numbers of the calls in which a program waits for input; they differ between machines.
    #[cfg(target_arch = "x86_64")]
    mod calls {
        pub const READ: [u64; 2] = [0, 19];
        pub const POLL: [u64; 2] = [7, 271];
        pub const SELECT: [u64; 2] = [23, 270];
        pub const EPOLL: [u64; 3] = [232, 281, 441];
    }
    #[cfg(not(target_arch = "x86_64"))]
    mod calls {
        pub const READ: [u64; 2] = [63, 65];
        pub const POLL: [u64; 1] = [73];
        pub const SELECT: [u64; 1] = [72];
        pub const EPOLL: [u64; 2] = [22, 441];
    }
    /// Those numbers are right here: the second list is that of all newer machines.
    pub const KNOWN: bool = cfg!(any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64"
    ));

    /// Whether a call as `/proc/PID/task/TID/syscall` tells it (its number, then its arguments) waits for that terminal.
    pub fn waits(pid: u32, call: &str, tty: u64) -> bool {
        let mut words = call.split_whitespace();
        let Some(number) = words.next().and_then(|word| word.parse::<u64>().ok()) else {
            return false;
        };
        let args: Vec<u64> = words
            .map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).unwrap_or(0))
            .collect();
        let [first, second, ..] = args[..] else {
            return false;
        };
        let is_tty = |fd: u64| {
            let meta = std::fs::metadata(format!("/proc/{pid}/fd/{fd}"));
            meta.is_ok_and(|meta| meta.rdev() == tty || meta.rdev() == OWN_TTY)
        };
        if !KNOWN {
            false
        } else if calls::READ.contains(&number) {
            is_tty(first)
        } else if calls::POLL.contains(&number) {
            polled(pid, first, second).into_iter().any(is_tty)
        } else if calls::SELECT.contains(&number) {
            selected(pid, second, first).into_iter().any(is_tty)
        } else {
            calls::EPOLL.contains(&number) && watched(pid, first).into_iter().any(is_tty)
        }
    }

    fn memory(pid: u32, address: u64, len: u64) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(len).ok()?];
        let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
        memory.read_exact_at(&mut bytes, address).ok()?;
        Some(bytes)
    }

    /// The descriptors that a `poll` reads from: an array of a number, what is asked, and what is answered.
    fn polled(pid: u32, array: u64, count: u64) -> Vec<u64> {
        let bytes = memory(pid, array, count.min(FDS) * 8).unwrap_or_default();
        let entry = |entry: &[u8]| {
            let fd = i32::from_ne_bytes(entry[..4].try_into().ok()?);
            let asked = i16::from_ne_bytes(entry[4..6].try_into().ok()?);
            u64::try_from(fd).ok().filter(|_| asked & POLLIN != 0)
        };
        bytes.chunks_exact(8).filter_map(entry).collect()
    }

    /// The descriptors that a `select` reads from: a bit each.
    fn selected(pid: u32, set: u64, count: u64) -> Vec<u64> {
        if set == 0 {
            return Vec::new();
        }
        let bytes = memory(pid, set, count.min(FDS).div_ceil(8)).unwrap_or_default();
        let bit = |fd: &u64| {
            bytes
                .get(*fd as usize / 8)
                .is_some_and(|b| b >> (fd % 8) & 1 == 1)
        };
        (0..count.min(FDS)).filter(bit).collect()
    }

    /// The descriptors that an epoll instance watches for input.
    fn watched(pid: u32, epoll: u64) -> Vec<u64> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{epoll}"));
        let text = text.unwrap_or_default();
        let entry = |line: &str| {
            let mut words = line.strip_prefix("tfd:")?.split_whitespace();
            let fd = words.next()?.parse().ok()?;
            let events = u64::from_str_radix(words.nth(1)?, 16).ok()?;
            (events & POLLIN as u64 != 0).then_some(fd)
        };
        text.lines().filter_map(entry).collect()
    }
}
