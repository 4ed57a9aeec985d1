//! Who asks: the operator, whose key opens everything, or an agent of this broker, by the token that its program was given.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::ids::AgentName;
use crate::msg::Secret;
use crate::net::Request;
use crate::registry::Registry;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Principal {
    /// Whoever has the key of `connection.json`.
    Operator,
    /// An agent that runs here, by its own token.
    Agent(AgentName),
}

/// Whose key or token the request carries, as `X-API-Key` or bearer.
pub(crate) fn principal(request: &Request, key: &Secret, agents: &Registry) -> Option<Principal> {
    if has_key(request, key) {
        return Some(Principal::Operator);
    }
    let offered = [request.header("x-api-key"), request.bearer()];
    let mut offered = offered.into_iter().flatten().map(str::trim);
    let agent = offered.find_map(|token| agents.whose(|own| same(token, own.reveal())))?;
    Some(Principal::Agent(agent))
}

/// Whether the request carries the key, as `X-API-Key` or bearer.
pub(crate) fn has_key(request: &Request, key: &Secret) -> bool {
    let offered = [request.header("x-api-key"), request.bearer()];
    offered
        .into_iter()
        .flatten()
        .any(|candidate| same(candidate.trim(), key.reveal()))
}

/// Compares digests, so that the time taken tells neither the length nor the first wrong letter. No key opens nothing.
fn same(offered: &str, key: &str) -> bool {
    let (a, b) = (Sha256::digest(offered), Sha256::digest(key));
    !key.is_empty() && bool::from(a.as_slice().ct_eq(b.as_slice()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_key_opens() {
        let key = Secret::new("br_0123");
        assert!(has_key(
            &Request::with_headers(&[("x-api-key", "br_0123")]),
            &key
        ));
        assert!(has_key(
            &Request::with_headers(&[("authorization", "Bearer br_0123")]),
            &key
        ));
        for wrong in ["", "br_012", "br_01234", "BR_0123", "x"] {
            assert!(
                !has_key(&Request::with_headers(&[("x-api-key", wrong)]), &key),
                "{wrong}"
            );
        }
        assert!(!has_key(&Request::with_headers(&[]), &key));
        assert!(!has_key(
            &Request::with_headers(&[("x-api-key", "")]),
            &Secret::new("")
        ));
    }
}
