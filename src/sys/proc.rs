//! What the operating system knows of a process, and what holds for every process we make.

use std::path::PathBuf;

use parking_lot::Mutex;

/// Variables of ours that no program we start may see.
pub const WITHHELD: [&str; 2] = ["RELAY_BROKER_API_KEY", "RELAY_NODE_TOKEN"];

/// One process is made at a time: a terminal opened while another is being made could leak into it.
pub static SPAWNING: Mutex<()> = Mutex::new(());

/// A variable of a process's environment as it was when its program began; `None` if it had none, or where that cannot be
/// asked.
#[cfg(target_os = "linux")]
pub fn variable(pid: u32, name: &str) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut entries = environment.split(|byte| *byte == 0);
    let value =
        entries.find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(value)))
}

/// A variable of a process's environment as it was when its program began; `None` if it had none, or where that cannot be
/// asked.
#[cfg(not(target_os = "linux"))]
pub fn variable(_pid: u32, _name: &str) -> Option<PathBuf> {
    None
}

/// Bytes of memory a process holds right now; `None` where that cannot be asked, or when it is gone.
#[cfg(target_os = "linux")]
pub fn resident_bytes(pid: u32) -> Option<u64> {
    // `status` says kilobytes, while `statm` says pages and leaves their size to be found out.
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Bytes of memory a process holds right now; `None` where that cannot be asked, or when it is gone.
#[cfg(not(target_os = "linux"))]
pub fn resident_bytes(_pid: u32) -> Option<u64> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_was_started_with_is_known() {
        let own = std::process::id();
        assert!(variable(own, "PATH").is_some_and(|path| !path.as_os_str().is_empty()));
        assert_eq!(variable(own, "PAT"), None);
        assert_eq!(variable(u32::MAX, "PATH"), None);
    }

    #[test]
    fn our_own_memory_is_known_and_that_of_nobody_is_not() {
        let own = resident_bytes(std::process::id()).expect("we exist");
        assert!(own > 100 * 1024, "{own}");
        assert_eq!(resident_bytes(u32::MAX), None);
    }
}
