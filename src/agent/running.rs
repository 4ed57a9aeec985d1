//! Which processes are agents of ours, written down before their programs begin: a broker that is killed leaves those
//! behind that ignore a hang-up, and the next one ends them before it starts others of their names. The notes are not
//! synced, because what ends the machine ends the processes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::ids::AgentName;
use crate::sys::disk::{create_private_dir, read_private, write_private};
use crate::sys::session::{self, ProcessIdentity, Sessions};
use crate::sys::{clock, proc};

/// The folder of all notes, in the state folder.
pub const FOLDER: &str = "running";
/// The variable that tells a program which agent it is.
pub const NAME: &str = "RELAY_AGENT_NAME";
/// Between looks at processes that are to end.
const LOOK: Duration = Duration::from_millis(20);
/// How long the system may take to end what was killed.
const BURIAL: Duration = Duration::from_secs(2);

#[derive(PartialEq, Serialize, Deserialize)]
struct Note {
    agent: AgentName,
    /// The agent's first process, whose number is that of its process group and session, too.
    process: ProcessIdentity,
    /// The broker that started it; not noted by earlier versions.
    #[serde(default)]
    broker: Option<ProcessIdentity>,
}

impl Note {
    /// Whether the broker of this note runs: then the folder is a copy of that broker's, and the agent is in good hands.
    fn is_cared_for(&self) -> bool {
        self.broker.as_ref().is_some_and(|broker| {
            broker.pid != std::process::id() && session::alive(broker.pid) && broker.is_there()
        })
    }
}

/// A note that is there as long as the value lives, and longer if this process is killed.
#[derive(Debug)]
pub struct Running(PathBuf);

impl Running {
    /// Writes down that a process is an agent's. Without a note the agent runs all the same.
    pub fn note(dir: &Path, agent: &AgentName, pid: u32) -> Option<Self> {
        let process = ProcessIdentity::of(pid)?;
        let path = dir.join(format!("{pid}.json"));
        let agent = agent.clone();
        let note = Note {
            agent,
            process,
            broker: ProcessIdentity::of(std::process::id()),
        };
        let note = serde_json::to_vec(&note).ok()?;
        create_private_dir(dir)
            .and_then(|()| write_private(&path, &note))
            .inspect_err(|e| log::warn!("it is not noted that process {pid} is an agent: {e}"))
            .ok()?;
        Some(Self(path))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What was found of an agent whose broker was killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survivor {
    /// Whose it was.
    pub agent: AgentName,
    /// What became of it, for people.
    pub fate: String,
}

/// Ends everything that a broker of this folder left running: hangs up, waits, and kills what is left after `grace`. Agents
/// of a broker that runs are left alone: their notes came here with a copy of its folder.
pub fn end_survivors(dir: &Path, grace: Duration) -> Vec<Survivor> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let (mut notes, mut done) = (Vec::new(), Vec::new());
    for path in entries.map(|entry| entry.path()) {
        let bytes = read_private(&path).ok();
        match bytes.and_then(|bytes| serde_json::from_slice::<Note>(&bytes).ok()) {
            Some(note) if !note.is_cared_for() => notes.push((path, note)),
            _ => done.push(path),
        }
    }
    let all: Vec<&Note> = notes.iter().map(|(_, note)| note).collect();
    let survivors = end(&surviving(&all), grace);
    let left = surviving(&all);
    for (path, note) in &notes {
        // What could not be ended is tried again by the next broker.
        if !left.contains(&note) {
            done.push(path.clone());
        }
    }
    for path in done {
        let _ = std::fs::remove_file(path);
    }
    survivors
}

/// Those of which anything still runs; asked about all at once, because one look costs the same for one and for many.
fn surviving<'a>(notes: &[&'a Note]) -> Vec<&'a Note> {
    if notes.is_empty() {
        return Vec::new();
    }
    let now = session::all();
    let notes = notes.iter().copied();
    notes
        .filter(|note| !remains(note, &now).is_empty())
        .collect()
}

fn end(notes: &[&Note], grace: Duration) -> Vec<Survivor> {
    signal(notes, Signal::HUP);
    // A stopped program cannot act on a hang-up.
    signal(notes, Signal::CONT);
    let stubborn = wait(grace, || surviving(notes));
    let lasting = wait(BURIAL, || {
        signal(&stubborn, Signal::KILL);
        surviving(&stubborn)
    });
    let tell = |note: &&Note| {
        let how = match (stubborn.contains(note), lasting.contains(note)) {
            (false, _) => "was ended",
            (true, false) => "was killed, because it ignored the hang-up",
            (true, true) => "cannot be ended; it may belong to another user: end it by hand",
        };
        let (agent, pid) = (note.agent.clone(), note.process.pid);
        let fate = format!("its process {pid} outlived its broker, and {how}");
        log::warn!(event = "agent_outlived", agent:%; "{agent}: {fate}");
        Survivor { agent, fate }
    };
    notes.iter().map(tell).collect()
}

fn signal(notes: &[&Note], signal: Signal) {
    let now = session::all();
    for pid in notes.iter().flat_map(|note| remains(note, &now)) {
        let _ = kill_process(pid, signal);
    }
}

/// Looks until nobody is left, or the time is over; who is left then.
fn wait<'a>(limit: Duration, mut look: impl FnMut() -> Vec<&'a Note>) -> Vec<&'a Note> {
    let end = clock::now().mono + limit;
    loop {
        let left = look();
        if left.is_empty() || clock::now().mono >= end {
            return left;
        }
        std::thread::sleep(LOOK);
    }
}

/// What still runs of an agent. A session keeps its number as long as anybody is in it, so if the first process is there,
/// and is the very same, all of its session is the agent's. If it is gone, its number may have been used again by a
/// session of strangers: then only those count that were started as that agent.
fn remains(note: &Note, now: &Sessions) -> Vec<Pid> {
    let Some(session) = i32::try_from(note.process.pid).ok().and_then(Pid::from_raw) else {
        return Vec::new();
    };
    let members = now.get(&session).cloned().unwrap_or_default();
    if members.is_empty() {
        return members;
    }
    match ProcessIdentity::of(note.process.pid) {
        Some(found) if found == note.process => members,
        Some(_) => Vec::new(),
        None => {
            let ours = |pid: &Pid| {
                let name = proc::variable(pid.as_raw_nonzero().get().unsigned_abs(), NAME);
                name.is_some_and(|name| name.as_os_str() == note.agent.as_str())
            };
            members.into_iter().filter(ours).collect()
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::sys::disk::tests::Scratch;
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::{Child, Command, Stdio};

    /// A shell that leads a session, has said so, and ends when it is told to unless its script says otherwise.
    fn leader(script: &str) -> Child {
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .env(NAME, "ada")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let lead = || rustix::process::setsid().map(drop).map_err(Into::into);
        // SAFETY: the call may be made between fork and exec.
        unsafe { command.pre_exec(lead) };
        let mut child = command.spawn().expect("sh");
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().expect("piped"));
        said.read_line(&mut line).expect("it speaks");
        child
    }

    fn noted(dir: &Path, pid: u32) {
        std::mem::forget(Running::note(dir, &AgentName::new("ada"), pid).expect("room"));
    }

    fn files(dir: &Path) -> usize {
        std::fs::read_dir(dir).expect("a folder").count()
    }

    #[test]
    fn one_that_ignores_the_hang_up_is_killed_with_its_session_and_told() {
        let dir = Scratch::new();
        let mut stubborn = leader("trap '' HUP; sleep 1000 & echo $!; wait");
        noted(dir.path(), stubborn.id());
        let told = end_survivors(dir.path(), Duration::ZERO);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].agent, AgentName::new("ada"));
        assert!(told[0].fate.contains("was killed"), "{}", told[0].fate);
        assert!(!stubborn.wait().expect("ours").success());
        assert_eq!(files(dir.path()), 0);
    }

    #[test]
    fn what_the_agent_left_in_its_session_is_ended_too() {
        let dir = Scratch::new();
        let mut shell = leader("trap '' HUP; sleep 1000 >/dev/null & echo $!; read x");
        noted(dir.path(), shell.id());
        let session = Pid::from_child(&shell);
        drop(shell.stdin.take());
        shell.wait().expect("ours");
        assert_eq!(session::members(session).len(), 1, "the sleeper");
        let told = end_survivors(dir.path(), Duration::ZERO);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(session::members(session).is_empty());
    }

    #[test]
    fn agents_of_a_broker_that_runs_are_left_alone_by_one_that_starts_in_a_copy_of_its_folder() {
        let dir = Scratch::new();
        let (mut agent, mut broker) = (leader("echo; read x"), leader("echo; read x"));
        noted(dir.path(), agent.id());
        let path = dir.path().join(format!("{}.json", agent.id()));
        let mut note: Note =
            serde_json::from_slice(&std::fs::read(&path).expect("a note")).expect("JSON");
        note.broker = ProcessIdentity::of(broker.id());
        let text = serde_json::to_vec(&note).expect("JSON");
        std::fs::write(&path, &text).expect("room");
        assert_eq!(end_survivors(dir.path(), Duration::ZERO), []);
        assert!(session::alive(agent.id()));
        assert_eq!(files(dir.path()), 0, "the note is of another folder");
        broker.kill().expect("ours");
        broker.wait().expect("ours");
        std::fs::write(&path, &text).expect("room");
        assert_eq!(end_survivors(dir.path(), Duration::ZERO).len(), 1);
        assert!(!agent.wait().expect("ours").success());
    }

    #[test]
    fn a_stranger_that_got_the_number_is_left_alone() {
        let dir = Scratch::new();
        let mut stranger = leader("trap '' HUP; echo; read x");
        noted(dir.path(), stranger.id());
        let path = dir.path().join(format!("{}.json", stranger.id()));
        let text = std::fs::read_to_string(&path).expect("a note");
        let mut note: Note = serde_json::from_str(&text).expect("JSON");
        note.process.began -= 1;
        std::fs::write(&path, serde_json::to_vec(&note).expect("JSON")).expect("room");
        std::fs::write(dir.path().join("junk"), "{").expect("room");
        assert_eq!(end_survivors(dir.path(), Duration::ZERO), []);
        assert_eq!(files(dir.path()), 0);
        drop(stranger.stdin.take());
        assert!(
            stranger
                .wait()
                .is_ok_and(|status| status.signal().is_none())
        );
    }
}
