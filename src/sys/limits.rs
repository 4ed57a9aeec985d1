//! What the operating system lets this process have: as many descriptors as may be, the limit's name and value in every
//! error that comes from one, and for the programs we start the limit that was there before.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::sys::process_figures;

/// The limit of open descriptors as it was, if it has been raised.
static BEFORE: OnceLock<u64> = OnceLock::new();

/// Lets the process open as many descriptors as its hard limit allows. The soft one is low by custom, for the sake of
/// programs that cannot count further.
pub fn raise() {
    let now = getrlimit(Resource::Nofile);
    let Some(soft) = now
        .current
        .filter(|soft| now.maximum.is_none_or(|hard| *soft < hard))
    else {
        return;
    };
    let wanted = Rlimit {
        current: now.maximum,
        maximum: now.maximum,
    };
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => drop(BEFORE.set(soft)),
        // Some systems have a lower limit for all processes that they do not tell.
        Err(e) => log::debug!("the limit of open descriptors stays at {soft}: {e}"),
    }
}

/// The limit that programs we start are to have, if it is not the one they would inherit.
pub fn before() -> Option<u64> {
    BEFORE.get().copied()
}

/// Gives this process the limit that its program is to have. May be called between fork and exec.
pub fn lower(soft: u64) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let wanted = Rlimit {
        current: Some(soft),
        maximum,
    };
    let _ = setrlimit(Resource::Nofile, wanted);
}

/// Whether something failed because a limit is reached, and may succeed later or with a higher one.
pub fn is_reached(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        code,
        Some(Errno::MFILE | Errno::NFILE | Errno::AGAIN | Errno::NOMEM | Errno::NOSPC)
    )
}

/// The error in words that name the limit, if one is behind it. For descriptors, terminals, processes and threads, not for
/// files.
pub fn explain(error: &io::Error) -> String {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    let which = match code {
        Some(Errno::MFILE) => {
            let limit = getrlimit(Resource::Nofile).current;
            let limit = limit.map_or_else(String::new, |limit| format!(" {limit}"));
            format!(
                "all{limit} descriptors that this process may open are in use; raise the limit (`ulimit -n`, LimitNOFILE=)"
            )
        }
        Some(Errno::NFILE) => format!(
            "the machine has no descriptor left; raise its limit ({})",
            of_machine("fs.file-max")
        ),
        Some(Errno::AGAIN) => tasks(),
        Some(Errno::NOSPC) => format!(
            "the machine has no terminal left; raise its limit ({})",
            of_machine("kernel.pty.max")
        ),
        Some(Errno::NOMEM) => {
            full_address_space().unwrap_or_else(|| "there is no memory left for it".to_owned())
        }
        _ => return error.to_string(),
    };
    format!("{which} ({error})")
}

/// How much of a limited address space no thread may take: what those that run may still want, for whom no memory is the
/// end of the process.
const RESERVE: u64 = 4 * 1024 * 1024;
/// How much an agent may not take besides: for threads that answer whoever wants to end one.
const RESERVE_BESIDE_AGENTS: u64 = 4 * 1024 * 1024;
/// The largest stack of a thread, and what the C library adds.
const LARGEST_THREAD: u64 = 2 * 1024 * 1024;

/// Whether a thread with a stack of that many bytes leaves the others enough memory.
///
/// # Errors
/// That there is no memory for it.
pub fn check_room(stack_bytes: u64) -> io::Result<()> {
    match address_space_left().is_some_and(|(_, left)| left < RESERVE + stack_bytes) {
        true => Err(Errno::NOMEM.into()),
        false => Ok(()),
    }
}

/// As [`check_room`] for one more agent, whose thread has a stack of that many bytes.
///
/// # Errors
/// That there is no memory for it.
pub fn check_room_for_agent(stack_bytes: u64) -> io::Result<()> {
    check_room(RESERVE_BESIDE_AGENTS + stack_bytes)
}

/// What keeps this process from starting another one or a thread. The system has one error for all of these limits.
fn tasks() -> String {
    if let Some(limit) =
        full_control_group(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"))
    {
        return format!(
            "all {limit} processes and threads of this control group are in use; raise the limit (TasksMax=, a container's \
             pids limit)"
        );
    }
    if let Some(memory) = full_address_space() {
        return memory;
    }
    match getrlimit(Resource::Nproc).current {
        Some(limit) => format!(
            "no further process or thread is allowed, and this user may have {limit}; raise the limit (`ulimit -u`, \
             LimitNPROC=, TasksMax=, a container's pids limit)"
        ),
        None => format!(
            "no further process or thread is allowed; raise the limit (TasksMax=, a container's pids limit, {})",
            of_machine("kernel.threads-max")
        ),
    }
}

/// The limit of a control group of ours that has as many processes and threads as it may have.
fn full_control_group(ours: &Path, mounted: &Path) -> Option<u64> {
    let number = |file: &Path| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    let listed = fs::read_to_string(ours).ok()?;
    // A line is `0::PATH`, or `N:pids:PATH` where each kind has a tree of its own.
    let groups = listed.lines().filter_map(|line| {
        let (kinds, path) = line.split_once(':')?.1.split_once(':')?;
        match kinds {
            "" => Some((mounted.to_owned(), path)),
            kinds => kinds
                .split(',')
                .any(|kind| kind == "pids")
                .then(|| (mounted.join(kinds), path)),
        }
    });
    groups
        .flat_map(|(top, path)| {
            let own = Path::new(path.trim_start_matches('/'));
            let above = own.ancestors().map(|group| top.join(group));
            above.collect::<Vec<_>>()
        })
        .find_map(|group| {
            let limit = number(&group.join("pids.max"))?;
            (number(&group.join("pids.current"))? >= limit).then_some(limit)
        })
}

/// The limit of address space, if there is one, and how much of it is left.
fn address_space_left() -> Option<(u64, u64)> {
    let limit = getrlimit(Resource::As).current?;
    let used = process_figures::own().virtual_bytes?;
    Some((limit, limit.saturating_sub(used)))
}

/// What is said where the limit of address space leaves no room for another thread.
fn full_address_space() -> Option<String> {
    let (limit, left) = address_space_left()?;
    (left < RESERVE + RESERVE_BESIDE_AGENTS + LARGEST_THREAD).then(|| {
        format!(
            "of the {} KiB of address space that this process may have too little is left; raise the limit (`ulimit -v`, \
             LimitAS=)",
            limit / 1024
        )
    })
}

/// A limit of the machine, with its value where that can be read.
fn of_machine(name: &str) -> String {
    let file = Path::new("/proc/sys").join(name.replace('.', "/"));
    match fs::read_to_string(file) {
        Ok(value) => format!("{name} is {}", value.trim()),
        Err(_) => name.to_owned(),
    }
}

/// How many bytes more the file system of a path takes from this user, whether or not the path is there; `None` where nobody
/// can tell.
pub fn free(path: &Path) -> Option<u64> {
    let at = path.ancestors().find(|at| at.exists())?;
    let found = rustix::fs::statvfs(at).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::disk::tests::Scratch;

    #[test]
    fn a_limit_is_named_with_the_way_to_raise_it_and_other_errors_stay_as_they_are() {
        let limit = io::Error::from_raw_os_error(Errno::MFILE.raw_os_error());
        let text = explain(&limit);
        assert!(is_reached(&limit) && text.contains("ulimit -n"), "{text}");
        assert!(text.contains(char::is_numeric), "how many: {text}");
        let limit = io::Error::from_raw_os_error(Errno::AGAIN.raw_os_error());
        assert!(is_reached(&limit) && explain(&limit).contains("TasksMax="));
        let limit = io::Error::from_raw_os_error(Errno::NOSPC.raw_os_error());
        assert!(is_reached(&limit) && explain(&limit).contains("kernel.pty.max"));
        let other = io::Error::other("something else");
        assert!(!is_reached(&other));
        assert_eq!(explain(&other), "something else");
    }

    #[test]
    fn the_limit_of_a_control_group_counts_once_it_is_reached_also_one_further_up() {
        let scratch = Scratch::new();
        let top = scratch.path().join("top");
        let (pod, own) = (top.join("pids/pod"), top.join("pids/pod/own"));
        fs::create_dir_all(&own).expect("room");
        let ours = scratch.path().join("cgroup");
        fs::write(&ours, "9:name=systemd:/\n8:pids:/pod/own\n0::/other\n").expect("room");
        let group = |at: &Path, limit: &str, current: &str| {
            fs::write(at.join("pids.max"), limit).expect("room");
            fs::write(at.join("pids.current"), current).expect("room");
        };
        group(&own, "max\n", "5\n");
        group(&pod, "12\n", "11\n");
        assert_eq!(full_control_group(&ours, &top), None);
        group(&pod, "12\n", "12\n");
        assert_eq!(full_control_group(&ours, &top), Some(12));
        assert_eq!(full_control_group(&scratch.path().join("no"), &top), None);
    }
}
