//! The durable truth about deliveries. [`Ledger::apply`] is its only `&mut`, live and on replay alike, so recovery needs
//! no second telling of the rules. It decides nothing: the dispatcher does, and writes down what it decided.
//!
//! `record` is the journal's vocabulary, `delivery`, `image` and `stored` the shapes that records are made of on disk;
//! `apply` is the [`Ledger`], `cursor`, `mailbox`, `dead_letters` and `restart` its parts. Nothing here knows of
//! [`crate::wire`].

mod apply;
pub mod cursor;
pub mod dead_letters;
mod delivery;
mod image;
pub mod mailbox;
pub mod record;
pub mod restart;
mod stored;

pub use apply::{ANSWERS_KEPT, IDENTITIES_KEPT, Ledger};
pub use cursor::{Cursor, Verdict};
pub use dead_letters::{Dead, DeadLetters};
pub use delivery::{Delivery, Origin};
pub use image::Image;
pub use mailbox::{Mailboxes, Pending};
pub use record::Record;
pub use restart::{Departed, LastSession, Life, Lives};
pub use stored::{StoredHarness, StoredProof, StoredRestartPolicy, StoredRestartWhen, StoredSpawn};
