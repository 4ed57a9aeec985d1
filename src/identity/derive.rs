//! The node id, as a pure function of what it must depend on.

use sha2::{Digest, Sha256};

use crate::ids::{NodeId, WorkspaceId, to_hex};
use crate::msg::Secret;

/// `node_` and 32 hex digits of SHA-256(seed, 0, folder, 0, workspace): stable over restarts, different per machine,
/// folder and workspace ([engine-protocol 7](crate::docs::engine_protocol#7), the form of upstream's 11.x line). The folder
/// is taken byte for byte: two names that are no text may look alike and still are two folders.
pub fn node_id(seed: &str, folder: &[u8], workspace: &WorkspaceId) -> NodeId {
    let mut hash = Sha256::new();
    hash.update(seed.as_bytes());
    hash.update([0]);
    hash.update(folder);
    hash.update([0]);
    hash.update(workspace.as_str().as_bytes());
    NodeId::new(format!("node_{}", &to_hex(&hash.finalize())[..32]))
}

/// Where upstream's broker keeps its state, below the folder for which its node stands.
pub const PROJECT_STATE_DIR: &str = ".agentworkforce/relay";

/// The id that upstream's 9.x line gives the node of a folder, whatever its workspace
/// ([engine-protocol 7](crate::docs::engine_protocol#7)).
pub fn node_id_of_9(seed: &str, folder: &[u8]) -> NodeId {
    let mut hash = Sha256::new();
    hash.update(seed.as_bytes());
    hash.update([0]);
    hash.update(folder);
    NodeId::new(format!("node_{}", &to_hex(&hash.finalize())[..32]))
}

/// SHA-256 of a secret, for telling whether a stored fact belongs to it without storing it.
pub fn fingerprint(secret: &str) -> String {
    to_hex(&Sha256::digest(secret.as_bytes()))
}

/// What a token is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenScope {
    /// Our own id.
    pub node_id: NodeId,
    /// In which workspace.
    pub workspace_id: WorkspaceId,
    /// At which engine.
    pub base_url: String,
}

/// What enrolment gave us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    /// To register with; the engine may have kept an older one ([engine-protocol 2.2](crate::docs::engine_protocol#2.2)).
    pub node_id: NodeId,
    /// Listed under.
    pub node_name: String,
    /// Opens the link.
    pub token: Secret,
}

/// What is kept of a node's enrolment between lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The token, if there ever was one.
    pub enrolment: Option<Enrolment>,
    /// The key of a request for a token whose answer has not been seen: asked again with it, an engine that took the
    /// request gives the same answer again ([engine-protocol 2.2](crate::docs::engine_protocol#2.2)).
    pub mint_key: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// N6: the id comes from the machine's seed and the folder.
    #[test]
    fn the_id_is_stable_and_differs_per_machine_folder_and_workspace() {
        let id = |s, f: &str, w| node_id(s, f.as_bytes(), &WorkspaceId::new(w));
        let ours = id("node_seed", "/srv/a", "1901");
        assert_eq!(ours, id("node_seed", "/srv/a", "1901"));
        assert_eq!(ours.as_str().len(), "node_".len() + 32);
        for other in [
            id("other", "/srv/a", "1901"),
            id("node_seed", "/srv/b", "1901"),
            id("node_seed", "/srv/a", "1902"),
        ] {
            assert_ne!(ours, other);
        }
    }

    /// The form was read off the tokens of a broker 9.1.6.
    #[test]
    fn the_id_of_an_older_broker_is_found_again() {
        let id = node_id_of_9("node_6f53e8f3f32747e0809138155d3463fb", b"/srv/shop");
        assert_eq!(id.as_str(), "node_02935f1a970b1f025435d6ab6391cbb0");
    }

    #[test]
    fn folder_and_workspace_cannot_be_shifted_into_each_other() {
        assert_ne!(
            node_id("s", b"a", &WorkspaceId::new("bc")),
            node_id("s", b"ab", &WorkspaceId::new("c"))
        );
    }

    #[test]
    fn folders_whose_names_are_no_text_are_told_apart() {
        let workspace = WorkspaceId::new("w");
        assert_ne!(
            node_id("s", b"/srv/\xff", &workspace),
            node_id("s", b"/srv/\xfe", &workspace)
        );
    }
}
