//! What the operating system lets a broker have: descriptors, processes, memory, terminals, and a home.

use std::fs;

use rustix::fs::{Access, access};
use rustix::process::{Resource, getrlimit};
use rustix::pty::{OpenptFlags, openpt};

use super::diagnosis::{Diagnosis, DoctorSubject};

const LIMITS: &str = "limits";
const TERMINALS: &str = "terminals";
const HOME: &str = "home";
const MIB: u64 = 1024 * 1024;

pub(super) fn look(patient: &DoctorSubject) -> Vec<Diagnosis> {
    let mut found = vec![home(patient)];
    found.extend(limits());
    found.extend(terminals());
    found
}

fn home(patient: &DoctorSubject) -> Diagnosis {
    const REPAIR: &str = "set HOME to a folder that you may write in; until then the node's identity is kept in the state folder";
    match patient.env.path("HOME") {
        None => Diagnosis::warning(
            HOME,
            "HOME is not set, and CLIs keep their logins there",
            REPAIR,
        ),
        Some(dir) if !dir.is_dir() => Diagnosis::warning(
            HOME,
            format!("HOME is {}, which is not a folder", dir.display()),
            REPAIR,
        ),
        Some(dir) if access(&dir, Access::WRITE_OK).is_err() => Diagnosis::warning(
            HOME,
            format!("HOME is {}, which cannot be written in", dir.display()),
            REPAIR,
        ),
        Some(dir) => Diagnosis::fine(HOME, dir.display().to_string()),
    }
}

/// A number that a file of the kernel's holds.
fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn limits() -> Vec<Diagnosis> {
    let mut found = Vec::new();
    let mut judge = |limit: Option<u64>, (least, enough): (u64, u64), what: &str, repair: &str| {
        found.push(match limit {
            None => Diagnosis::fine(LIMITS, format!("{what}: no limit")),
            Some(limit) => Diagnosis::amount(
                LIMITS,
                (limit, least, enough),
                format!("{what}: {limit}"),
                repair,
            ),
        });
    };
    // A broker raises the soft limit itself.
    judge(
        getrlimit(Resource::Nofile).maximum,
        (256, 1024),
        "open descriptors (hard limit)",
        "raise it (`ulimit -Hn`, LimitNOFILE=): each agent takes about eight",
    );
    judge(
        getrlimit(Resource::Nproc).current,
        (64, 256),
        "processes and threads of this user",
        "raise it (`ulimit -u`, LimitNPROC=, TasksMax=)",
    );
    judge(
        number("/sys/fs/cgroup/pids.max"),
        (64, 256),
        "processes and threads of this control group",
        "raise it (TasksMax=, `--pids-limit` of a container)",
    );
    let address_space = getrlimit(Resource::As).current.map(|bytes| bytes / MIB);
    judge(
        address_space,
        (256, 1024),
        "address space in MiB",
        "raise it (`ulimit -v`): programs of agents need far more than the broker",
    );
    judge(
        number("/sys/fs/cgroup/memory.max").map(|bytes| bytes / MIB),
        (32, 256),
        "memory of this control group in MiB",
        "raise it (MemoryMax=, `--memory` of a container)",
    );
    found
}

fn terminals() -> Vec<Diagnosis> {
    if let Err(e) = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY) {
        return vec![Diagnosis::error(
            TERMINALS,
            format!("no terminal can be opened: {e}"),
            "mount devpts on /dev/pts and have /dev/ptmx, or raise kernel.pty.max",
        )];
    }
    let (used, most) = (
        number("/proc/sys/kernel/pty/nr"),
        number("/proc/sys/kernel/pty/max"),
    );
    let (Some(used), Some(most)) = (used, most) else {
        return vec![Diagnosis::fine(TERMINALS, "there are some")];
    };
    let left = most.saturating_sub(used);
    vec![Diagnosis::amount(
        TERMINALS,
        (left, 4, 32),
        format!("{left} of {most} are left"),
        "raise it (`sysctl kernel.pty.max`): each agent takes one",
    )]
}
