//! What the core remembers of faults on order.

/// The faults under way, and what was seen of them.
#[cfg(feature = "faults")]
#[derive(Debug, Default)]
pub struct Faults {
    /// Orders are taken.
    pub allowed: bool,
    pub(super) refuse: Option<(u16, u32)>,
    pub(super) cut_after: Option<u32>,
    pub(super) cut_due: bool,
    pub(super) fail: u32,
    pub(super) fail_path: String,
    pub(super) frames: u64,
    pub(super) upgrades: u64,
    /// Node tokens made for whoever asked, answers given a second time not counted.
    pub(super) minted: u64,
    pub(super) refused: u64,
    pub(super) cuts: u64,
}

#[cfg(feature = "faults")]
impl Faults {
    /// A frame passes over a node's socket. `false`: it does not, because the sockets are cut already.
    pub fn passes(&mut self) -> bool {
        if self.cut_due {
            return false;
        }
        self.frames += 1;
        if let Some(left) = &mut self.cut_after {
            *left -= 1;
            if *left == 0 {
                self.cut_after = None;
                self.cut_due = true;
            }
        }
        true
    }

    /// A node token was made for whoever asked.
    pub fn mints(&mut self) {
        self.minted += 1;
    }
}

/// No faults at all, as in a build without them.
#[cfg(not(feature = "faults"))]
#[derive(Debug, Default)]
pub struct Faults {}

#[cfg(not(feature = "faults"))]
impl Faults {
    /// Every frame passes.
    pub const fn passes(&self) -> bool {
        true
    }

    /// Nobody counts.
    pub const fn mints(&self) {}
}
