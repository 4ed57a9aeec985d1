//! What the operating system knows of a process, and what holds for every process we make.

use parking_lot::Mutex;

/// Variables of ours that no program we start may see.
pub const WITHHELD: [&str; 2] = ["RELAY_BROKER_API_KEY", "RELAY_NODE_TOKEN"];

/// One process is made at a time: a terminal opened while another is being made could leak into it.
pub static SPAWNING: Mutex<()> = Mutex::new(());

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
    fn our_own_memory_is_known_and_that_of_nobody_is_not() {
        let own = resident_bytes(std::process::id()).expect("we exist");
        assert!(own > 100 * 1024, "{own}");
        assert_eq!(resident_bytes(u32::MAX), None);
    }
}
