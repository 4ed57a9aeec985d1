//! What the operating system counts of this process, as monitoring expects it of every program.

#[cfg(target_os = "linux")]
use super::proc::bytes_in;

/// This process in numbers. What the system does not tell is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessFigures {
    /// Seconds of processor time, the kernel's share included.
    pub cpu_secs: Option<f64>,
    /// Bytes of memory in use.
    pub resident_bytes: Option<u64>,
    /// Bytes of address space.
    pub virtual_bytes: Option<u64>,
    /// Open descriptors.
    pub open_fds: Option<u64>,
    /// The limit on them.
    pub max_fds: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
}

/// Reads them.
#[cfg(target_os = "linux")]
pub fn own() -> ProcessFigures {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let threads = status.lines().find_map(|l| l.strip_prefix("Threads:"));
    let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    ProcessFigures {
        cpu_secs: cpu_secs(),
        resident_bytes: bytes_in(&status, "VmRSS:"),
        virtual_bytes: bytes_in(&status, "VmSize:"),
        // One of them is the folder that is being read.
        open_fds: std::fs::read_dir("/proc/self/fd")
            .ok()
            .map(|fds| fds.count().saturating_sub(1) as u64),
        max_fds: limits.current,
        threads: threads.and_then(|count| count.trim().parse().ok()),
    }
}

/// Reads them: elsewhere than on Linux there is no place to read them from.
#[cfg(not(target_os = "linux"))]
pub fn own() -> ProcessFigures {
    ProcessFigures::default()
}

#[cfg(target_os = "linux")]
fn cpu_secs() -> Option<f64> {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let secs = u32::try_from(used.tv_sec).ok()?;
    let nanos = u32::try_from(used.tv_nsec).ok()?;
    Some(f64::from(secs) + f64::from(nanos) / 1e9)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn all_of_them_are_known_and_plausible() {
        let own = own();
        assert!(own.cpu_secs.is_some_and(|secs| secs > 0.0), "{own:?}");
        assert!(own.resident_bytes < own.virtual_bytes, "{own:?}");
        assert!(own.open_fds.is_some_and(|fds| fds >= 3), "{own:?}");
        assert!(own.open_fds <= own.max_fds, "{own:?}");
        assert!(own.threads.is_some_and(|threads| threads >= 1), "{own:?}");
    }
}
