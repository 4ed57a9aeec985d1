//! A process of ours between the broker and a program that is run once for each message: `relay-broker __runs CMD ARGS…`.
//! Reads orders in lines of JSON: a run with its words and its input, or to stop one. What the program writes goes out as
//! it is; a line of ours says that a run ended. Ends with all it started when its input ends. Knows nothing of what the
//! words mean.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio, exit};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};
use serde::Deserialize;
use serde_json::json;

use crate::sys::{entropy, thread};

/// The subcommand's name.
pub const SUBCOMMAND: &str = "__runs";

/// Stack of the thread that waits for a run.
const STACK_KIB: usize = 128;

#[derive(Deserialize)]
#[serde(untagged)]
enum RunOrder {
    Run {
        run: String,
        #[serde(default)]
        more: Vec<String>,
        input: String,
    },
    Stop {
        stop: String,
    },
}

/// The run that goes on, until it is reaped.
type Current = Arc<Mutex<Option<ActiveRun>>>;

struct ActiveRun {
    key: String,
    pid: Pid,
    /// It was told to stop.
    told: bool,
}

/// Reads orders until there are no more. `args` are those after [`SUBCOMMAND`].
pub fn run(args: impl IntoIterator<Item = OsString>) -> ! {
    let argv: Vec<OsString> = args.into_iter().collect();
    let current = Current::default();
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        match serde_json::from_str::<RunOrder>(&line) {
            Ok(RunOrder::Run { run, more, input }) => {
                if let Err(e) = begin(&argv, &run, &more, &input, &current) {
                    tell(&run, Some(&format!("it cannot be started: {e}")));
                }
            }
            Ok(RunOrder::Stop { stop }) => interrupt(&current, &stop),
            Err(e) => eprintln!("relay-broker {SUBCOMMAND} is for the broker itself: {e}"),
        }
    }
    // Nobody is there any more to hear of it; this process is of the group, too.
    let _ = kill_process_group(rustix::process::getpgrp(), Signal::HUP);
    exit(0);
}

fn begin(
    argv: &[OsString],
    key: &str,
    more: &[String],
    input: &str,
    current: &Current,
) -> io::Result<()> {
    let (program, args) = argv
        .split_first()
        .ok_or_else(|| io::Error::other("there is no command"))?;
    let mut running = current.lock();
    let child = Command::new(program)
        .args(args)
        .args(more)
        .stdin(Stdio::from(unnamed(input)?))
        .spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    *running = pid.map(|pid| ActiveRun {
        key: key.to_owned(),
        pid,
        told: false,
    });
    drop(running);
    let (key, current) = (key.to_owned(), current.clone());
    thread::start("run", STACK_KIB, move || {
        tell(&key, how(wait(child, &current)).as_deref());
    })?;
    Ok(())
}

/// A program that does not read its input must not hold this process up, as it would behind a pipe.
fn unnamed(text: &str) -> io::Result<File> {
    let path = std::env::temp_dir().join(format!("relay-broker-{}", entropy::hex::<8>()?));
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

/// Its number is let go of before it is given back, so that nobody else is sent its signal.
fn wait(mut child: Child, current: &Current) -> io::Result<ExitStatus> {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let only_look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), only_look) {}
    }
    let mut running = current.lock();
    *running = None;
    child.wait()
}

/// Who is told a second time has not stopped by the first.
fn interrupt(current: &Current, key: &str) {
    if let Some(running) = current.lock().as_mut()
        && running.key == key
    {
        let signal = match std::mem::replace(&mut running.told, true) {
            false => Signal::INT,
            true => Signal::KILL,
        };
        let _ = kill_process(running.pid, signal);
    }
}

/// How it ended, if not well.
fn how(status: io::Result<ExitStatus>) -> Option<String> {
    match status {
        Ok(status) if status.success() => None,
        Ok(status) => Some(match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("killed by signal {signal}"),
            (None, None) => "gone".to_owned(),
        }),
        Err(e) => Some(format!("nobody knows how it ended: {e}")),
    }
}

/// Says that a run ended. The program may have left a line without its end.
fn tell(key: &str, failed: Option<&str>) {
    let line = json!({"relay_run": key, "failed": failed});
    let mut out = io::stdout().lock();
    let _ = write!(out, "\n{line}\n").and_then(|()| out.flush());
}
