//! Programs that serve actions: each invocation is one process with the input as JSON on its standard input and the
//! output as JSON from its standard output. One thread per running process, asleep in one `poll`; a process that takes
//! too long, or says too much, is killed with everything it started. Decides nothing about who may run when.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::ids::InvocationId;
use crate::msg::{HandlerRun, How};
use crate::net::link;
use crate::sys::reap::Reaper;
use crate::sys::wake::{Receiver, mailbox};
use crate::sys::{clock, limits, proc, thread};
use crate::wire::local::Supervision;

/// How much of what a failed program said on standard error goes into its answer.
const COMPLAINT: usize = 2048;
/// How long after the program's end its pipes may stay open.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What becomes known of programs that serve actions.
#[derive(Debug)]
pub enum News {
    /// An invocation ended.
    Handled(InvocationId, Result<Value, String>),
    /// A sidecar's program that we started ended: its command line, and how.
    LaunchEnded(Vec<String>, String),
}

/// All running handlers, and the sidecars that we started.
#[derive(Clone)]
pub struct HandlerRunner {
    reaper: Arc<Reaper>,
    groups: Arc<Mutex<BTreeSet<i32>>>,
    launched: Arc<Mutex<BTreeSet<i32>>>,
    tell: Arc<dyn Fn(News) + Send + Sync>,
}

impl HandlerRunner {
    /// `tell` is called once for each run, on the run's thread or the reaper's.
    pub fn new(reaper: Arc<Reaper>, tell: impl Fn(News) + Send + Sync + 'static) -> Self {
        Self {
            reaper,
            groups: Arc::default(),
            launched: Arc::default(),
            tell: Arc::new(tell),
        }
    }

    /// Starts the program; says why if there is not even a thread for it.
    pub fn start(&self, id: InvocationId, run: HandlerRun) -> Option<String> {
        let handlers = self.clone();
        let started = thread::start(format!("action:{}", run.action), 128, move || {
            let result = handlers.run(&run).and_then(|said| answer(&said));
            (handlers.tell)(News::Handled(id, result));
        });
        started
            .err()
            .map(|e| format!("cannot start the handler: {}", limits::explain(&e)))
    }

    /// Kills what still runs: the broker leaves, and the engine gives the invocations to somebody else.
    pub fn stop(&self) {
        for group in std::mem::take(&mut *self.groups.lock()) {
            kill(group);
        }
        for group in std::mem::take(&mut *self.launched.lock()) {
            signal(group, Signal::TERM);
        }
    }

    /// Starts a sidecar's program and leaves it to itself; says why if it cannot be started.
    pub fn launch(&self, order: Supervision) -> Option<String> {
        let Some((name, args)) = order.argv.split_first() else {
            return Some("its command line is empty".into());
        };
        let mut command = program(name, args);
        command
            .envs(&order.env)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some(dir) = &order.cwd {
            command.current_dir(dir);
        }
        let child = match spawn(&mut command) {
            Ok(child) => child,
            Err(e) => return Some(format!("cannot start {name:?}: {}", limits::explain(&e))),
        };
        let group = i32::try_from(child.id()).unwrap_or(0);
        self.launched.lock().insert(group);
        let (launched, tell) = (self.launched.clone(), self.tell.clone());
        let ended = move |how: How| {
            launched.lock().remove(&group);
            tell(News::LaunchEnded(order.argv, how.to_string()));
        };
        self.reaper.claim(child.id(), Box::new(ended));
        None
    }

    /// Runs a program on this thread until it ends; what it printed.
    ///
    /// # Errors
    /// Why it did not end well, or was killed.
    pub fn run(&self, run: &HandlerRun) -> Result<String, String> {
        let (tell, ended) = mailbox(1).map_err(|e| limits::explain(&e))?;
        let mut process = Process::start(run)?;
        let group = process.group;
        self.groups.lock().insert(group);
        let claim = move |how: How| drop(tell.try_send(how));
        self.reaper.claim(group.unsigned_abs(), Box::new(claim));
        let result = process.watch(run, &ended);
        self.groups.lock().remove(&group);
        // Also when it ended well: what it left behind would hold its pipes, and nobody looks after it.
        kill(group);
        result
    }
}

fn kill(group: i32) {
    signal(group, Signal::KILL);
}

fn signal(group: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(group) {
        let _ = kill_process_group(pid, signal);
    }
}

/// A command without what describes the surroundings of whoever started the broker.
fn program(name: &str, args: &[String]) -> Command {
    let mut command = Command::new(name);
    command.args(args);
    for name in proc::not_inherited() {
        command.env_remove(name);
    }
    command
}

/// A child in a process group of its own, without what only we may know.
fn spawn(command: &mut Command) -> io::Result<Child> {
    for name in proc::WITHHELD {
        command.env_remove(name);
    }
    if let Some(files) = limits::before() {
        let restore = move || {
            limits::lower(files);
            Ok(())
        };
        // SAFETY: two system calls, which may be made between fork and exec.
        unsafe { command.pre_exec(restore) };
    }
    let _alone = proc::SPAWNING.lock();
    command.process_group(0).spawn()
}

/// A running program and its three pipes, non-blocking.
struct Process {
    group: i32,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    unsent: Vec<u8>,
    sent: usize,
    said: Vec<u8>,
    complained: Vec<u8>,
}

impl Process {
    fn start(run: &HandlerRun) -> Result<Self, String> {
        let Some((name, args)) = run.spec.command.split_first() else {
            return Err("the action's command is empty".into());
        };
        let mut command = program(name, args);
        command
            .envs(&run.env)
            .envs(&run.spec.env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(dir) = &run.spec.cwd {
            command.current_dir(dir);
        }
        let mut child = spawn(&mut command)
            .map_err(|e| format!("cannot start {name:?}: {}", limits::explain(&e)))?;
        let group = i32::try_from(child.id()).unwrap_or(0);
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let process = Self {
            group,
            stdin: pipes.0.map(OwnedFd::from),
            stdout: pipes.1.map(OwnedFd::from),
            stderr: pipes.2.map(OwnedFd::from),
            unsent: run.input.to_string().into_bytes(),
            sent: 0,
            said: Vec::new(),
            complained: Vec::new(),
        };
        for pipe in [&process.stdin, &process.stdout, &process.stderr] {
            if let Some(pipe) = pipe
                && let Err(e) = rustix::io::ioctl_fionbio(pipe, true)
            {
                kill(group);
                return Err(format!("cannot use the pipes of {name:?}: {e}"));
            }
        }
        Ok(process)
    }

    fn watch(&mut self, run: &HandlerRun, ended: &Receiver<How>) -> Result<String, String> {
        let mut give_up = clock::now().mono + run.spec.timeout;
        let mut how = None;
        while how.is_none() || self.stdout.is_some() {
            let left = give_up.since(clock::now().mono);
            if left.is_zero() && how.is_some() {
                // Something it left behind holds the pipe; its own words are all there.
                break;
            }
            if left.is_zero() {
                return Err(format!(
                    "the handler of {} took longer than {} s and was killed",
                    run.action,
                    run.spec.timeout.as_secs_f64()
                ));
            }
            self.wait(ended, left)
                .map_err(|e| format!("cannot watch the handler: {e}"))?;
            ended.clear();
            if let Ok(end) = ended.try_recv() {
                how = Some(end);
                give_up = clock::now().mono + LAST_WORDS;
            }
            self.send();
            hear(&mut self.stdout, &mut self.said, run.spec.output_max + 1);
            hear(&mut self.stderr, &mut self.complained, 64 * 1024);
            let surplus = self.complained.len().saturating_sub(COMPLAINT);
            self.complained.drain(..surplus);
            if self.said.len() > run.spec.output_max {
                return Err(format!(
                    "the handler of {} printed more than {} bytes and was killed",
                    run.action, run.spec.output_max
                ));
            }
        }
        self.verdict(&how.unwrap_or_default())
    }

    fn wait(&self, ended: &Receiver<How>, left: Duration) -> io::Result<()> {
        let mut fds = vec![PollFd::new(ended, PollFlags::IN)];
        for pipe in [&self.stdout, &self.stderr].into_iter().flatten() {
            fds.push(PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN));
        }
        if let Some(stdin) = &self.stdin {
            fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::OUT));
        }
        link::wait(&mut fds, Some(left))
    }

    /// As much of the input as the program takes; one that does not want it is not forced.
    fn send(&mut self) {
        let Some(stdin) = &self.stdin else { return };
        while self.sent < self.unsent.len() {
            match rustix::io::write(stdin, &self.unsent[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                Err(_) => break,
            }
        }
        self.stdin = None;
    }

    fn verdict(&self, how: &How) -> Result<String, String> {
        if how.code != Some(0) {
            let complaint = String::from_utf8_lossy(&self.complained);
            let complaint = complaint.trim();
            return Err(match complaint {
                "" => how.to_string(),
                words => format!("{how}: {words}"),
            });
        }
        Ok(String::from_utf8_lossy(&self.said).into_owned())
    }
}

/// What a program answered that printed this.
fn answer(said: &str) -> Result<Value, String> {
    let text = said.trim();
    if text.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(text).map_err(|e| {
        let start: String = text.chars().take(200).collect();
        format!("the handler printed no JSON ({e}): {start}")
    })
}

/// Reads what is there; closes the pipe at its end.
fn hear(pipe: &mut Option<OwnedFd>, into: &mut Vec<u8>, most: usize) {
    let mut buffer = [0; 8192];
    while let Some(open) = pipe {
        if into.len() >= most {
            return;
        }
        match rustix::io::read(&*open, &mut buffer) {
            Ok(0) => *pipe = None,
            Ok(n) => into.extend_from_slice(&buffer[..n]),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return,
            Err(_) => *pipe = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use serde_json::json;

    use crate::msg::ActionSpec;

    fn run(script: &str, input: Value) -> Result<Value, String> {
        run_within(Duration::from_secs(20), script, input)
    }

    fn run_within(timeout: Duration, script: &str, input: Value) -> Result<Value, String> {
        let (tell, heard) = crossbeam_channel::bounded(1);
        let reaper = Reaper::start().expect("a thread");
        let handlers = HandlerRunner::new(reaper.clone(), move |news| {
            if let News::Handled(_, result) = news {
                drop(tell.try_send(result));
            }
        });
        let run = HandlerRun {
            action: "try".into(),
            spec: ActionSpec {
                command: ["sh", "-c", script].map(str::to_owned).to_vec(),
                cwd: None,
                env: BTreeMap::new(),
                timeout,
                concurrency: 1,
                output_max: 1000,
            },
            input,
            env: [("RELAY_ACTION".to_owned(), "try".to_owned())].into(),
        };
        assert_eq!(handlers.start(InvocationId::new("i"), run), None);
        let result = heard.recv_timeout(Duration::from_secs(30)).expect("an end");
        reaper.stop();
        result
    }

    #[test]
    fn a_handler_reads_its_input_and_gives_its_output_as_json() {
        let big = json!({"text": "x".repeat(300)});
        assert_eq!(run("cat", big.clone()), Ok(big));
        assert_eq!(
            run("echo \"{\\\"a\\\":\\\"$RELAY_ACTION\\\"}\"", Value::Null),
            Ok(json!({"a": "try"}))
        );
        assert_eq!(run("cat > /dev/null", json!(1)), Ok(Value::Null));
    }

    #[test]
    fn an_input_the_handler_does_not_want_is_not_forced_on_it() {
        let huge = json!("x".repeat(1_000_000));
        assert_eq!(run("echo 1", huge), Ok(json!(1)));
    }

    #[test]
    fn a_handler_that_fails_answers_with_its_code_and_its_complaint() {
        let why = run("echo no such host >&2; exit 3", Value::Null).expect_err("failed");
        assert_eq!(why, "exit code 3: no such host");
        let why = run("echo not json", Value::Null).expect_err("no JSON");
        assert!(
            why.contains("printed no JSON") && why.ends_with("not json"),
            "{why}"
        );
    }

    #[test]
    fn a_handler_that_takes_too_long_or_says_too_much_is_killed() {
        let why = run_within(Duration::from_millis(100), "sleep 60", Value::Null);
        let why = why.expect_err("killed");
        assert!(why.contains("took longer than 0.1 s"), "{why}");
        let why = run("while :; do echo xxxxxxxxxxxxxxxx; done", Value::Null).expect_err("killed");
        assert!(why.contains("more than 1000 bytes"), "{why}");
    }

    #[test]
    fn what_a_handler_leaves_behind_does_not_hold_its_answer() {
        assert_eq!(run("sleep 50 & echo 2", Value::Null), Ok(json!(2)));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let reaper = Reaper::start().expect("a thread");
        let handlers = HandlerRunner::new(reaper.clone(), |_| {});
        let run = HandlerRun {
            action: "try".into(),
            spec: ActionSpec {
                command: vec!["/no/such/program".into()],
                cwd: None,
                env: BTreeMap::new(),
                timeout: Duration::from_secs(5),
                concurrency: 1,
                output_max: 10,
            },
            input: Value::Null,
            env: BTreeMap::new(),
        };
        let why = handlers.run(&run).expect_err("not there");
        assert!(why.contains("/no/such/program"), "{why}");
        reaper.stop();
    }
}
