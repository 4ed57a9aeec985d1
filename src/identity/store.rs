//! The files of the identity, mode 0600: the machine's seed, one node token per node id, and which workspace a key opens.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::derive::{Enrolment, TokenScope};
use crate::ids::{NodeId, WorkspaceId};
use crate::msg::Secret;
use crate::sys::disk::{create_private_dir, write_private};
use crate::sys::entropy;

/// A file that cannot be read or written, named.
#[derive(Debug, thiserror::Error)]
#[error("{what} {}: {why}; fix its permissions, or remove it to have a new one made", path.display())]
pub struct StoreError {
    what: &'static str,
    path: PathBuf,
    why: String,
}

fn trouble(what: &'static str, path: &Path, why: impl ToString) -> StoreError {
    StoreError {
        what,
        path: path.to_owned(),
        why: why.to_string(),
    }
}

/// The machine's seed, made at the first call. A file that cannot be read is an error, never a reason for a new seed: the
/// node would come back as a stranger.
///
/// # Errors
/// [`StoreError`] names the file.
pub fn seed(data_dir: &Path) -> Result<String, StoreError> {
    let path = data_dir.join("machine-id");
    match std::fs::read(&path) {
        Ok(bytes) => {
            let text = String::from_utf8(bytes)
                .map_err(|_| trouble("machine seed", &path, "not UTF-8 text"))?;
            if !text.trim().is_empty() {
                return Ok(text.trim().to_owned());
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(trouble("machine seed", &path, e)),
    }
    let seed = format!(
        "node_{}",
        entropy::hex::<16>().map_err(|e| trouble("machine seed", &path, e))?
    );
    create_private_dir(data_dir).map_err(|e| trouble("data folder", data_dir, e))?;
    write_private(&path, format!("{seed}\n").as_bytes())
        .map_err(|e| trouble("machine seed", &path, e))?;
    Ok(seed)
}

/// A cached node token (engine-wire 7).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct TokenFile {
    node_id: NodeId,
    workspace_id: WorkspaceId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base_url: Option<String>,
    token: String,
    /// The name the engine lists us under (ours).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node_name: Option<String>,
    /// The id the engine gave us, where it is not the one we asked for (ours).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    given_id: Option<NodeId>,
}

fn token_path(data_dir: &Path, node_id: &NodeId) -> PathBuf {
    let safe: String = node_id
        .as_str()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '_' || c == '-' {
                c
            } else {
                '_'
            }
        })
        .collect();
    data_dir.join("node-tokens").join(format!("{safe}.json"))
}

/// The cached token for exactly that scope. An unreadable or foreign cache counts as none: a token can always be had anew.
pub fn cached_token(data_dir: &Path, scope: &TokenScope) -> Option<Enrolment> {
    let path = token_path(data_dir, &scope.node_id);
    let file: TokenFile = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).ok()?,
        Err(e) => {
            if e.kind() != io::ErrorKind::NotFound {
                log::warn!(
                    "node token cache {}: {e}; asking the engine for a new token",
                    path.display()
                );
            }
            return None;
        }
    };
    let same_engine = file
        .base_url
        .as_ref()
        .is_none_or(|url| *url == scope.base_url);
    (file.node_id == scope.node_id && file.workspace_id == scope.workspace_id && same_engine).then(
        || Enrolment {
            node_id: file.given_id.unwrap_or(file.node_id),
            node_name: file.node_name.unwrap_or_default(),
            token: Secret::new(file.token),
        },
    )
}

/// Keeps a token.
///
/// # Errors
/// [`StoreError`] names the file.
pub fn keep_token(
    data_dir: &Path,
    scope: &TokenScope,
    enrolment: &Enrolment,
) -> Result<(), StoreError> {
    let path = token_path(data_dir, &scope.node_id);
    if let Some(folder) = path.parent() {
        create_private_dir(folder).map_err(|e| trouble("data folder", folder, e))?;
    }
    let file = TokenFile {
        node_id: scope.node_id.clone(),
        workspace_id: scope.workspace_id.clone(),
        base_url: Some(scope.base_url.clone()),
        token: enrolment.token.reveal().to_owned(),
        node_name: Some(enrolment.node_name.clone()),
        given_id: (enrolment.node_id != scope.node_id).then(|| enrolment.node_id.clone()),
    };
    let bytes = serde_json::to_vec(&file).map_err(|e| trouble("node token", &path, e))?;
    write_private(&path, &bytes).map_err(|e| trouble("node token", &path, e))
}

/// Which workspace a key opens at an engine, so that a node can start while the engine is away.
#[derive(Serialize, Deserialize)]
struct WorkspaceFile {
    base_url: String,
    key_sha256: String,
    workspace_id: WorkspaceId,
}

/// The workspace last seen under that engine and key fingerprint.
pub fn known_workspace(state_dir: &Path, base_url: &str, key_sha256: &str) -> Option<WorkspaceId> {
    let bytes = std::fs::read(state_dir.join("workspace.json")).ok()?;
    let file: WorkspaceFile = serde_json::from_slice(&bytes).ok()?;
    (file.base_url == base_url && file.key_sha256 == key_sha256).then_some(file.workspace_id)
}

/// Keeps it.
///
/// # Errors
/// [`StoreError`] names the file.
pub fn keep_workspace(
    state_dir: &Path,
    base_url: &str,
    key_sha256: &str,
    workspace_id: &WorkspaceId,
) -> Result<(), StoreError> {
    let path = state_dir.join("workspace.json");
    let file = WorkspaceFile {
        base_url: base_url.to_owned(),
        key_sha256: key_sha256.to_owned(),
        workspace_id: workspace_id.clone(),
    };
    let bytes = serde_json::to_vec(&file).map_err(|e| trouble("workspace file", &path, e))?;
    write_private(&path, &bytes).map_err(|e| trouble("workspace file", &path, e))
}
