//! How a node comes by its token: the operator's, the one from last time, or one that the engine makes
//! ([engine-protocol 2.2](crate::docs::engine_protocol#2.2), [7](crate::docs::engine_protocol#7)). Every token that is made
//! replaces the one before it, so that is done only when no other is left to try. Blocking; called at the start, and by the
//! uplink's thread when the engine refuses the token at hand.

use std::time::Duration;

use super::rest::{CallError, RestClient, TokenProof};
use crate::identity::derive::{Enrolment, Kept};
use crate::ids::NodeId;
use crate::msg::Secret;
use crate::sys::entropy;
use crate::wire::rest::CreatedNode;

/// Between tries at the start, while the engine cannot be reached (as upstream has it,
/// [engine-protocol 1.6](crate::docs::engine_protocol#1.6)).
const PATIENCE: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
];
/// How often one wish for a token may be put differently: another name, another key.
const WORDINGS: usize = 4;

/// Keeps node tokens for exactly this node, workspace and engine.
pub trait Tokens: Send {
    /// What was kept, by this process or another with our id.
    fn kept(&self) -> Kept;
    /// Keeps it; a failure is logged, and costs a new token at the next start.
    fn keep(&self, kept: &Kept);
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoToken {
    /// For people.
    pub why: String,
    /// The engine said no, rather than nothing: asking again soon is of no use.
    pub refused: bool,
}

/// See the module.
pub struct Enroller {
    client: RestClient,
    node_id: NodeId,
    node_name: String,
    tokens: Box<dyn Tokens>,
    pinned: Option<Secret>,
}

impl Enroller {
    /// For the node that calls itself so; the engine's answer may know it under another id or name. `pinned` is the
    /// operator's token: never stored, never replaced.
    pub fn new(
        client: RestClient,
        node_id: NodeId,
        node_name: String,
        tokens: Box<dyn Tokens>,
        pinned: Option<Secret>,
    ) -> Self {
        Self {
            client,
            node_id,
            node_name,
            tokens,
            pinned,
        }
    }

    /// Whether the operator gave the token.
    pub fn is_pinned(&self) -> bool {
        self.pinned.is_some()
    }

    /// The engine.
    pub fn client(&self) -> &RestClient {
        &self.client
    }

    /// The operator's token, else the one that was kept.
    pub fn at_hand(&self) -> Option<Enrolment> {
        match &self.pinned {
            Some(token) => Some(Enrolment {
                node_id: self.node_id.clone(),
                node_name: String::new(),
                token: token.clone(),
            }),
            None => self.tokens.kept().enrolment,
        }
    }

    /// A token to start with.
    ///
    /// # Errors
    /// [`NoToken`] when there is none and the engine gives none.
    pub fn enrol(&self) -> Result<Enrolment, NoToken> {
        if let Some(enrolment) = self.at_hand() {
            return Ok(enrolment);
        }
        let mut patience = PATIENCE.iter();
        loop {
            match self.mint(None) {
                Err(no) if !no.refused => match patience.next() {
                    Some(time) => std::thread::sleep(*time),
                    None => return Err(no),
                },
                other => return other,
            }
        }
    }

    /// Another token than the one that is spent: what another process with our id has kept meanwhile, else a new one. The
    /// request's key is kept before the request, so that an answer that is lost can be asked for once more.
    ///
    /// # Errors
    /// [`NoToken`] says whether it is worth asking again soon.
    pub fn mint(&self, spent: Option<&Secret>) -> Result<Enrolment, NoToken> {
        let kept = self.tokens.kept();
        if let Some(other) = differing(&kept, spent) {
            return Ok(other);
        }
        let mut wish = Wish {
            name: self.node_name.clone(),
            key: kept.mint_key.clone(),
        };
        let current = kept.enrolment.as_ref().map(|e| &e.token);
        let proof = spent.or(current);
        for _ in 0..WORDINGS {
            let key = match wish.key.take() {
                Some(key) => key,
                None => entropy::hex::<16>().map_err(|e| NoToken {
                    why: e.to_string(),
                    refused: false,
                })?,
            };
            self.tokens.keep(&Kept {
                enrolment: kept.enrolment.clone(),
                mint_key: Some(key.clone()),
            });
            let asked = TokenProof {
                key: &key,
                token: proof,
            };
            match self.client.mint(&self.node_id, &wish.name, &asked) {
                Ok(node) => return Ok(self.keep(node)),
                Err(e) => {
                    if let Err(no) = self.reword(&mut wish, &e) {
                        // Another process with our id may have got a token while we asked.
                        return differing(&self.tokens.kept(), spent).ok_or(no);
                    }
                }
            }
        }
        Err(NoToken {
            why: "the engine finds fault with every request for a node token".into(),
            refused: true,
        })
    }

    fn keep(&self, node: CreatedNode) -> Enrolment {
        let enrolment = Enrolment {
            node_id: node.id,
            node_name: node.name,
            token: Secret::new(node.token),
        };
        self.tokens.keep(&Kept {
            enrolment: Some(enrolment.clone()),
            mint_key: None,
        });
        enrolment
    }

    /// Puts the wish so that the engine may grant it, or gives up.
    fn reword(&self, wish: &mut Wish, error: &CallError) -> Result<(), NoToken> {
        match error.code() {
            // The name belongs to another node: part of our id makes it our own.
            "node_name_conflict" if wish.name == self.node_name => {
                wish.name = format!("{}-{}", self.node_name, self.node_id.tail());
                return Ok(());
            }
            // The key of an earlier request, which was put differently.
            "idempotency_key_reused" => return Ok(()),
            _ => {}
        }
        let refused = error.refused() && error.code() != "idempotency_in_progress";
        if refused {
            // It was answered, so there is no answer to ask for once more.
            self.tokens.keep(&Kept {
                mint_key: None,
                ..self.tokens.kept()
            });
        }
        let why = match error.code() {
            "node_token_proof_required" => format!(
                "the engine gives a new token for node {} only to who has its current one, and ours is not ({error}); \
                 delete the node at the engine, or give its token (RELAY_NODE_TOKEN)",
                self.node_id
            ),
            _ => format!("no node token to be had: {error}"),
        };
        Err(NoToken { why, refused })
    }
}

/// A kept token that is not the spent one.
fn differing(kept: &Kept, spent: Option<&Secret>) -> Option<Enrolment> {
    let enrolment = kept.enrolment.clone()?;
    (spent? != &enrolment.token).then_some(enrolment)
}

/// One request for a token, as it will be put.
struct Wish {
    name: String,
    /// A fresh one when absent.
    key: Option<String>,
}
