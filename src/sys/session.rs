//! Sessions of processes: who belongs to one, and which process it is, told from every later one that gets its number.
//! One look at all processes of the machine serves all who ask at the same time.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::sys::clock;
use crate::time::Mono;

/// How often a session is looked through again for processes that were made while it was being killed.
const ROUNDS: usize = 5;

/// A process for good: numbers are used again, moments are not. Moments count from the machine's start, so they go with
/// its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Its number.
    pub pid: u32,
    /// When it began, in ticks since the machine's start.
    pub began: u64,
    /// Which start of the machine.
    pub boot: String,
}

impl ProcessIdentity {
    /// Of a process that is there; `None` where that cannot be asked.
    pub fn of(pid: u32) -> Option<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let stat = Stat::read(&Path::new("/proc").join(pid.to_string()))?;
        Some(Self {
            pid,
            began: stat.began,
            boot: boot.trim().to_owned(),
        })
    }

    /// Whether that very process is there, and not another that has its number by now.
    pub fn is_there(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }
}

/// What `/proc/PID/stat` says of a process.
struct Stat {
    ended: bool,
    parent: Option<Pid>,
    session: Option<Pid>,
    began: u64,
}

impl Stat {
    /// The name is in parentheses and may hold anything; the fields are counted behind it.
    fn read(process: &Path) -> Option<Self> {
        let stat = std::fs::read_to_string(process.join("stat")).ok()?;
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        Some(Self {
            ended: fields.first()?.starts_with(['Z', 'X']),
            parent: positive(fields.get(1)?.parse().ok()?),
            session: positive(fields.get(3)?.parse().ok()?),
            began: fields.get(19)?.parse().ok()?,
        })
    }
}

/// A process that is just being taken away has no session any more, which the kernel says as 0 or -1.
fn positive(raw: i32) -> Option<Pid> {
    Some(raw).filter(|raw| *raw > 0).and_then(Pid::from_raw)
}

/// Whether a process of that number runs, whoever owns it. One that has ended but that its parent has not asked about yet
/// runs no more.
pub fn alive(pid: u32) -> bool {
    if let Some(stat) = Stat::read(&Path::new("/proc").join(pid.to_string())) {
        return !stat.ended;
    }
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return false;
    };
    !matches!(
        rustix::process::test_kill_process(pid),
        Err(rustix::io::Errno::SRCH)
    )
}

/// Whether a process has that very file open; false where its descriptors cannot be seen.
pub fn has_open(pid: u32, file: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let which = |path: &Path| std::fs::metadata(path).map(|found| (found.dev(), found.ino()));
    let open = std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd"));
    match (open, which(file)) {
        (Ok(open), Ok(wanted)) => open
            .flatten()
            .any(|entry| which(&entry.path()).is_ok_and(|found| found == wanted)),
        _ => false,
    }
}

/// Sessions, and the processes that run in each.
pub type Sessions = HashMap<Pid, Vec<Pid>>;

/// All sessions of the machine as they are now. None where that cannot be asked.
pub fn all() -> Arc<Sessions> {
    static LOOK: Shared<Sessions> = Shared::new();
    let now = || clock::now().mono;
    LOOK.get(now(), now, look)
}

/// The processes that run in a session.
pub fn members(session: Pid) -> Vec<Pid> {
    all().get(&session).cloned().unwrap_or_default()
}

/// Kills all of a session, also those that are made meanwhile. Says how many there were.
pub fn kill(session: Pid) -> usize {
    let mut killed = 0;
    for _ in 0..ROUNDS {
        let found = members(session);
        if found.is_empty() {
            break;
        }
        for pid in found {
            killed += usize::from(kill_process(pid, Signal::KILL).is_ok());
        }
    }
    killed
}

/// What a process has started, and what that has started in turn, as far as it runs outside of the session that bears the
/// process's number. A process whose parent has ended belongs to nobody any more, and is not found.
pub fn runaways(leader: Pid) -> Vec<ProcessIdentity> {
    let mut children: HashMap<Pid, Vec<(Pid, bool)>> = HashMap::new();
    for (pid, stat) in running() {
        if let Some(parent) = stat.parent {
            let away = stat.session != Some(leader);
            children.entry(parent).or_default().push((pid, away));
        }
    }
    let (mut found, mut parents) = (Vec::new(), vec![leader]);
    while let Some(parent) = parents.pop() {
        for (pid, away) in children.remove(&parent).unwrap_or_default() {
            parents.push(pid);
            let number = pid.as_raw_nonzero().get().unsigned_abs();
            found.extend(ProcessIdentity::of(number).filter(|_| away));
        }
    }
    found
}

/// Sends a signal to those of the processes that are still there, and to no other that has a number of theirs by now.
pub fn signal(processes: &[ProcessIdentity], signal: Signal) {
    for process in processes.iter().filter(|process| process.is_there()) {
        let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, signal);
        }
    }
}

/// All processes that run.
fn running() -> impl Iterator<Item = (Pid, Stat)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid = entry
            .file_name()
            .to_str()?
            .parse()
            .ok()
            .and_then(Pid::from_raw)?;
        let stat = Stat::read(&entry.path()).filter(|stat| !stat.ended)?;
        Some((pid, stat))
    })
}

fn look() -> Sessions {
    let mut sessions = Sessions::new();
    for (pid, stat) in running() {
        if let Some(session) = stat.session {
            sessions.entry(session).or_default().push(pid);
        }
    }
    sessions
}

/// An answer that is good for everybody who asked before it was begun to be looked for.
struct Shared<T>(Mutex<Option<(Mono, Arc<T>)>>);

impl<T> Shared<T> {
    const fn new() -> Self {
        Self(Mutex::new(None))
    }

    fn get(&self, asked: Mono, now: impl Fn() -> Mono, look: impl FnOnce() -> T) -> Arc<T> {
        let mut last = self.0.lock();
        if let Some((begun, found)) = &*last
            && *begun >= asked
        {
            return found.clone();
        }
        let begun = now();
        let found = Arc::new(look());
        *last = Some((begun, found.clone()));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_just_being_taken_away_has_no_session() {
        assert_eq!((positive(-1), positive(0)), (None, None));
        assert!(positive(7).is_some());
    }

    #[test]
    fn one_look_serves_all_who_asked_before_it_began_and_nobody_later() {
        let shared = Shared::new();
        let looks = std::cell::Cell::new(0);
        let ask = |asked| {
            let look = || looks.set(looks.get() + 1);
            shared.get(Mono(asked), || Mono(10), look);
        };
        (1..=10).for_each(ask);
        assert_eq!(looks.get(), 1);
        ask(11);
        assert_eq!(looks.get(), 2);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_is_itself_and_no_other_and_those_of_a_session_are_found() {
        crate::sys::thread::tests::within(
            "a process is found in its session, and no more once it has ended",
            || {
                let own = ProcessIdentity::of(std::process::id()).expect("we exist");
                assert_eq!(ProcessIdentity::of(std::process::id()), Some(own.clone()));
                // A session of its own: the one of whoever runs the tests may be outside of what a container can see.
                let mut child = std::process::Command::new("setsid")
                    .arg("cat")
                    .stdin(std::process::Stdio::piped())
                    .spawn()
                    .expect("setsid");
                let other = ProcessIdentity::of(child.id()).expect("it exists");
                assert_ne!(own, other);
                assert!(alive(child.id()));
                let pid = Pid::from_child(&child);
                let session = pid;
                while !members(session).contains(&pid) {
                    std::thread::yield_now();
                }
                child.kill().expect("ours");
                // Ended, although nobody has asked about it yet.
                while alive(child.id()) {
                    std::thread::yield_now();
                }
                assert!(!members(session).contains(&pid));
                child.wait().expect("ours");
                assert_eq!(ProcessIdentity::of(child.id()), None);
            },
        );
    }
}
