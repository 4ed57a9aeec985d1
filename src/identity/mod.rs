//! Who this node is: its id, derived and pinned, and the files that keep its seed and tokens.

pub mod copy;
pub mod derive;
pub mod store;
