//! What the operating system lets this process have: as many descriptors as may be, the limit's name in every error that
//! comes from one, and for the programs we start the limit that was there before.

use std::io;
use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

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
        Some(Errno::NFILE) => {
            "the machine has no descriptor left; raise its limit (fs.file-max)".to_owned()
        }
        Some(Errno::AGAIN) => "no further process or thread is allowed; raise the limit \
             (`ulimit -u`, TasksMax=, a container's pids limit)"
            .to_owned(),
        Some(Errno::NOSPC) => {
            "the machine has no terminal left; raise its limit (kernel.pty.max)".to_owned()
        }
        Some(Errno::NOMEM) => "there is no memory left for it".to_owned(),
        _ => return error.to_string(),
    };
    format!("{which} ({error})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_named_with_the_way_to_raise_it_and_other_errors_stay_as_they_are() {
        let limit = io::Error::from_raw_os_error(Errno::MFILE.raw_os_error());
        let text = explain(&limit);
        assert!(is_reached(&limit) && text.contains("ulimit -n"), "{text}");
        assert!(text.contains(char::is_numeric), "how many: {text}");
        let limit = io::Error::from_raw_os_error(Errno::AGAIN.raw_os_error());
        assert!(is_reached(&limit) && explain(&limit).contains("ulimit -u"));
        let other = io::Error::other("something else");
        assert!(!is_reached(&other));
        assert_eq!(explain(&other), "something else");
    }
}
