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
    let mut offered = offered(request).map(Sha256::digest);
    let agent = offered.find_map(|token| agents.whose(|own| matches(&token, own.reveal())))?;
    Some(Principal::Agent(agent))
}

/// The header that programs which hand in results know.
const RESULT_TOKEN: &str = "x-agent-result-token";

/// What the request shows: as `X-API-Key`, as bearer, and as the token of a result.
fn offered(request: &Request) -> impl Iterator<Item = &str> {
    let all = [
        request.header("x-api-key"),
        request.bearer(),
        request.header(RESULT_TOKEN),
    ];
    all.into_iter().flatten().map(str::trim)
}

/// Whether the request shows anything at all.
pub(crate) fn shows_token(request: &Request) -> bool {
    offered(request).any(|token| !token.is_empty())
}

/// Whether the request carries the key, as `X-API-Key` or bearer.
pub(crate) fn has_key(request: &Request, key: &Secret) -> bool {
    offered(request).any(|candidate| matches(&Sha256::digest(candidate), key.reveal()))
}

/// Compares digests, so that the time taken tells neither the length nor the first wrong letter. No key opens nothing.
fn matches(offered: &[u8], key: &str) -> bool {
    !key.is_empty() && bool::from(offered.ct_eq(Sha256::digest(key).as_slice()))
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
