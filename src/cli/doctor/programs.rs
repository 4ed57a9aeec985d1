//! The CLIs that are installed, with what they say of their version.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal, kill_process_group};

use super::diagnosis::{Diagnosis, DoctorSubject};
use crate::cli::render::brief;
use crate::config::KNOWN_HARNESSES;
use crate::net::link;
use crate::sys::{clock, proc};

const AREA: &str = "programs";
/// How long a program may think about its version. Those in Node take a second on a slow machine.
const LIMIT: Duration = Duration::from_secs(5);
/// How much of what it says is read.
const SAID: usize = 4096;

pub(super) fn look(patient: &DoctorSubject) -> Vec<Diagnosis> {
    let path = patient.env.path("PATH").unwrap_or_default();
    let place = |name: &str| {
        let mut places = std::env::split_paths(&path).map(|folder| folder.join(name));
        places.find(|place| place.is_file())
    };
    let found: Vec<(&str, PathBuf)> = KNOWN_HARNESSES
        .iter()
        .filter_map(|name| Some((*name, place(name)?)))
        .collect();
    if found.is_empty() {
        let text = format!("none of {} is in PATH", KNOWN_HARNESSES.join(", "));
        return vec![Diagnosis::fine(AREA, text)];
    }
    found
        .iter()
        .map(|(name, place)| version(name, place))
        .collect()
}

fn version(name: &str, place: &Path) -> Diagnosis {
    let shown = place.display();
    match said(place) {
        Ok(text) => {
            let line = text
                .lines()
                .find(|line| !line.trim().is_empty())
                .unwrap_or("says nothing");
            Diagnosis::fine(AREA, format!("{name}: {} ({shown})", brief(line, 60)))
        }
        Err(why) => Diagnosis::warning(
            AREA,
            format!("{name}: {shown} does not tell its version: {why}"),
            "install it again, if agents are to use it",
        ),
    }
}

/// What `--version` prints.
fn said(program: &Path) -> Result<String, String> {
    let mut command = Command::new(program);
    command
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0);
    for name in proc::WITHHELD.into_iter().chain(proc::not_inherited()) {
        command.env_remove(name);
    }
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    let read = read(&mut child);
    // Whatever it started goes with it.
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
    read
}

fn read(child: &mut Child) -> Result<String, String> {
    let Some(mut out) = child.stdout.take() else {
        return Err("it has no output".to_owned());
    };
    let until = clock::now().mono + LIMIT;
    let mut bytes = Vec::new();
    let mut buffer = [0; 1024];
    loop {
        let left = until.since(clock::now().mono);
        if left.is_zero() {
            return Err(format!("no end within {LIMIT:?}"));
        }
        let mut fds = [PollFd::new(&out, PollFlags::IN)];
        link::wait(&mut fds, Some(left)).map_err(|e| e.to_string())?;
        if fds[0].revents().is_empty() {
            continue;
        }
        match out.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(e) => return Err(e.to_string()),
        }
        if bytes.len() >= SAID {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
