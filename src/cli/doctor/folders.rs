//! The state folder and that of the identity: whose they are, who reads the keys in them, and what was left behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access, statvfs};

use super::diagnosis::{Diagnosis, DoctorSubject};
use crate::cli::client::Client;
use crate::cli::find::CONNECTION;
use crate::journal::{JournalVerdict, Lock, Look, Tenant};
use crate::sys::session::alive;
use crate::sys::trust;

const FOLDER: &str = "folder";
const KEYS: &str = "keys";
const DISK: &str = "disk";
const LEFT: &str = "leftovers";
const BROKER: &str = "broker";
const JOURNAL: &str = "journal";
/// What the reason begins with of a broker that only misses its link.
const NO_LINK: &str = "no link to the engine";

const MIB: u64 = 1024 * 1024;
/// Below it a journal can hardly be rewritten.
const DISK_LEAST: u64 = 64 * MIB;
const DISK_ENOUGH: u64 = 512 * MIB;
const INODES_LEAST: u64 = 100;
const INODES_ENOUGH: u64 = 1000;

pub(super) fn look(patient: &DoctorSubject) -> Vec<Diagnosis> {
    let (state, data) = (&patient.state_dir, patient.data_dir());
    let mut found = folder(state);
    found.extend(keys(patient));
    found.extend(disk(state));
    if data != *state {
        found.extend(folder(&data));
    }
    found.extend(broker(patient));
    found.extend(health(patient));
    found.extend(journals(state));
    found.extend(leftovers(&[
        state.clone(),
        data.clone(),
        data.join("node-tokens"),
    ]));
    found
}

/// Whose a folder is, and whether it can be written in.
fn folder(dir: &Path) -> Vec<Diagnosis> {
    let shown = dir.display();
    let quoted = shell_words::quote(&shown.to_string()).into_owned();
    if !dir.exists() {
        let writable = nearest(dir).is_some_and(|at| access(&at, Access::WRITE_OK).is_ok());
        return vec![match writable {
            true => Diagnosis::fine(
                FOLDER,
                format!("{shown} is not there yet; the first start makes it"),
            ),
            false => Diagnosis::error(
                FOLDER,
                format!("{shown} is not there and cannot be made"),
                "make it yours, or name another one (--state-dir; XDG_DATA_HOME for the identity)",
            ),
        }];
    }
    let trusted = trust::own(dir).and_then(|()| trust::way(dir));
    match (
        dir.is_dir(),
        access(dir, Access::WRITE_OK | Access::EXEC_OK),
        trusted,
    ) {
        (false, _, _) => vec![Diagnosis::error(
            FOLDER,
            format!("{shown} is not a folder"),
            "remove it, or name another one with --state-dir",
        )],
        (_, Err(e), _) => vec![Diagnosis::error(
            FOLDER,
            format!("{shown} cannot be written in: {e}"),
            format!("chown {} {quoted}; chmod u+rwx {quoted}", trust::me()),
        )],
        (_, _, Err(why)) => vec![Diagnosis::error(
            FOLDER,
            why.to_string(),
            format!(
                "name another one with --state-dir; or, if it is yours and you know who wrote what is in it, chown {} {quoted}; \
                 chmod go-w {quoted}",
                trust::me()
            ),
        )],
        _ => vec![Diagnosis::fine(
            FOLDER,
            format!("{shown} is yours alone to write in"),
        )],
    }
}

/// What is there already of a path that need not be.
fn nearest(path: &Path) -> Option<PathBuf> {
    path.ancestors().find(|at| at.exists()).map(Path::to_owned)
}

/// Files that hold something which opens something, and that others can read.
fn keys(patient: &DoctorSubject) -> Vec<Diagnosis> {
    let (state, data) = (&patient.state_dir, patient.data_dir());
    let mut files = vec![
        state.join(CONNECTION),
        state.join("engine/workspace-key"),
        data.join("machine-id"),
    ];
    for dir in [&data, state] {
        let tokens = fs::read_dir(dir.join("node-tokens"))
            .into_iter()
            .flatten()
            .flatten();
        files.extend(tokens.map(|entry| entry.path()));
    }
    for name in [
        "AGENT_RELAY_WORKSPACE_KEY",
        "RELAY_WORKSPACE_KEY",
        "RELAY_API_KEY",
        "RELAY_BROKER_API_KEY",
        "RELAY_NODE_TOKEN",
    ] {
        files.extend(patient.env.path(&format!("{name}_FILE")));
    }
    let open = |path: &PathBuf| {
        fs::metadata(path)
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o077 != 0)
    };
    let told = |path: &PathBuf| {
        let quoted = shell_words::quote(&path.display().to_string()).into_owned();
        Diagnosis::error(
            KEYS,
            format!("{} can be read by other users", path.display()),
            format!("chmod 600 {quoted}"),
        )
    };
    let found: Vec<Diagnosis> = files.iter().filter(|path| open(path)).map(told).collect();
    match found.is_empty() {
        true => vec![Diagnosis::fine(
            KEYS,
            "no file with a key is readable by others",
        )],
        false => found,
    }
}

fn disk(state: &Path) -> Vec<Diagnosis> {
    let Some((at, free)) = nearest(state).and_then(|at| Some((at.clone(), statvfs(&at).ok()?)))
    else {
        return Vec::new();
    };
    let bytes = free.f_bavail.saturating_mul(free.f_frsize);
    let mut found = vec![Diagnosis::amount(
        DISK,
        (bytes, DISK_LEAST, DISK_ENOUGH),
        format!("{} MiB are free at {}", bytes / MIB, at.display()),
        "make room: nothing is delivered while the journal cannot be written",
    )];
    // Some file systems count none.
    if free.f_files > 0 {
        found.push(Diagnosis::amount(
            DISK,
            (free.f_favail, INODES_LEAST, INODES_ENOUGH),
            format!("{} inodes are free at {}", free.f_favail, at.display()),
            "remove files: no file can be made without an inode",
        ));
    }
    found
}

/// The broker of this folder, and others.
fn broker(patient: &DoctorSubject) -> Vec<Diagnosis> {
    let dir = &patient.state_dir;
    let holder = Lock::holder(Tenant::Broker, dir);
    let connection = dir.join(CONNECTION);
    let mut found = Vec::new();
    found.push(match (&patient.running, holder) {
        (Some(file), Some(pid)) if file.pid != pid => Diagnosis::error(
            BROKER,
            format!(
                "process {pid} holds the folder, and {CONNECTION} names process {}",
                file.pid
            ),
            format!("`kill {pid}`, and start a broker again"),
        ),
        (Some(file), _) => {
            Diagnosis::fine(BROKER, format!("process {} runs at {}", file.pid, file.url))
        }
        (None, Some(pid)) => Diagnosis::error(
            BROKER,
            format!(
                "process {pid} holds {}, and {CONNECTION} does not lead to it",
                dir.display()
            ),
            format!("`kill {pid}` ends it in order; then start a broker again"),
        ),
        (None, None) if connection.is_dir() => Diagnosis::error(
            BROKER,
            format!("{} is a folder", connection.display()),
            "remove it: the file of that name tells commands where the broker is",
        ),
        (None, None) if connection.exists() => Diagnosis::warning(
            LEFT,
            format!(
                "{} is of a broker that ended without a goodbye",
                connection.display()
            ),
            "start it again with `relay-broker up`, which goes on where that one was",
        ),
        (None, None) => Diagnosis::fine(BROKER, "none runs here"),
    });
    let own = patient.running.as_ref().map(|file| file.pid).or(holder);
    for (pid, cwd) in others(own) {
        found.push(Diagnosis::fine(
            BROKER,
            format!("another one, process {pid}, was started in {cwd}"),
        ));
    }
    found
}

/// How the broker that runs is, in its own words.
fn health(patient: &DoctorSubject) -> Option<Diagnosis> {
    let client = Client::new(patient.running.as_ref()?);
    let told = match client.look("/health") {
        Ok(told) => told,
        Err(e) => {
            let repair = "`relay-broker stop`, or end its process, and start it again";
            return Some(Diagnosis::error(BROKER, e.text, repair));
        }
    };
    if told["status"] != "degraded" {
        return None;
    }
    let why = told["degradedReason"]
        .as_str()
        .unwrap_or("it does not say why");
    // Health counts the link as well; mail of this machine goes on without it.
    Some(match why.starts_with(NO_LINK) {
        true => Diagnosis::warning(
            BROKER,
            why,
            "it tries again by itself; what is said of the engine here tells more",
        ),
        false => Diagnosis::error(
            BROKER,
            format!("it is degraded and delivers nothing: {why}"),
            "make the disk writable or make room: it goes on by itself, and nothing is lost meanwhile",
        ),
    })
}

/// Whether what is on disk is whole.
fn journals(state: &Path) -> Vec<Diagnosis> {
    const REPAIR: &str = "`relay-broker journal check` says more; take a copy of the folder before the next start, which \
                          saves what can be saved";
    let folders = [("broker", "journal"), ("engine", "engine/journal")];
    let looked = folders.into_iter().filter_map(|(kind, folder)| {
        let dir = state.join(folder);
        match Look::take(&dir, kind) {
            Ok(look) => {
                let look = look?;
                let file = look.file().display();
                Some(match look.verdict() {
                    JournalVerdict::Damaged { offset, .. } => {
                        let text = format!("{file} is damaged from byte {offset}");
                        Diagnosis::error(JOURNAL, text, REPAIR)
                    }
                    _ => Diagnosis::fine(JOURNAL, format!("{file} is whole")),
                })
            }
            Err(_) if !dir.exists() => None,
            Err(e) => Some(Diagnosis::error(JOURNAL, e.to_string(), REPAIR)),
        }
    });
    looked.collect()
}

/// Other brokers of this machine that we may look at, and where they run.
fn others(own: Option<u32>) -> Vec<(u32, String)> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let found = processes.filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let mut words = line.split(|b| *b == 0);
        let program = String::from_utf8_lossy(words.next()?).into_owned();
        let is_ours = Path::new(&program).file_name()? == env!("CARGO_PKG_NAME");
        let stays = words.any(|word| word == b"up");
        let cwd = fs::read_link(entry.path().join("cwd")).ok()?;
        (is_ours && stays && Some(pid) != own).then(|| (pid, cwd.display().to_string()))
    });
    found.collect()
}

/// What killed processes left of files they were writing.
fn leftovers(dirs: &[PathBuf]) -> Vec<Diagnosis> {
    let mut drafts = Vec::new();
    for dir in dirs {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let writer = name
                .strip_suffix(".tmp")
                .and_then(|stem| stem.rsplit_once('.')?.1.split_once('-')?.0.parse().ok());
            if writer.is_some_and(|pid: u32| !alive(pid)) {
                drafts.push(entry.path().display().to_string());
            }
        }
    }
    match drafts.is_empty() {
        true => vec![Diagnosis::fine(
            LEFT,
            "no temporary files of killed processes",
        )],
        false => vec![Diagnosis::warning(
            LEFT,
            format!("temporary files of killed processes: {}", drafts.join(", ")),
            "the next start removes them",
        )],
    }
}
