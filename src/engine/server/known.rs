//! Which tokens the core believed lately. The HTTP server asks before it carries a call to the core, so that callers who
//! show nothing, or something made up, keep out nobody who has a token.

use std::collections::{HashSet, VecDeque};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

/// So many; the oldest is forgotten for one more, and is believed again with its next call.
const MOST: usize = 4096;

type Hash = [u8; 32];

/// Shared by the threads of all connections.
#[derive(Default)]
pub struct KnownTokens(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    all: HashSet<Hash>,
    by_age: VecDeque<Hash>,
}

impl KnownTokens {
    /// Whether the token was believed.
    pub fn has(&self, token: &str) -> bool {
        self.0.lock().all.contains(&hash(token))
    }

    /// The core believed the token.
    pub fn add(&self, token: &str) {
        let (mut tokens, hash) = (self.0.lock(), hash(token));
        if !tokens.all.insert(hash) {
            return;
        }
        tokens.by_age.push_back(hash);
        if tokens.by_age.len() > MOST
            && let Some(oldest) = tokens.by_age.pop_front()
        {
            tokens.all.remove(&oldest);
        }
    }

    /// The core does not believe the token, perhaps no longer.
    pub fn remove(&self, token: &str) {
        let (mut tokens, hash) = (self.0.lock(), hash(token));
        if tokens.all.remove(&hash) {
            tokens.by_age.retain(|h| *h != hash);
        }
    }
}

fn hash(token: &str) -> Hash {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_until_it_is_refused_or_many_others_came() {
        let known = KnownTokens::default();
        known.add("a");
        known.add("b");
        known.remove("b");
        known.remove("c");
        assert!(known.has("a") && !known.has("b"));
        (0..MOST).for_each(|n| known.add(&n.to_string()));
        assert!(!known.has("a") && known.has("0"));
        known.remove("0");
        known.add("a");
        assert!(known.has("1"), "there was room");
    }
}
