//! What the allocator does with large pieces.

/// Pieces from this size on are the kernel's again as soon as they are freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: i32 = 256 * 1024;

/// Has large pieces, such as the bodies of messages, given back when they are freed. Without a word the C library learns from
/// the first of them to keep its like for later, and a broker that once held 300 MB would look so for good.
pub fn give_back_large_pieces() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the call sets a number in the allocator and keeps nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}
