//! Who a node is, copied into a backup: the seed, the id, the node's own token, and which workspace it belongs to. The copy
//! names the id outright, so that the node is the same one wherever the copy is put.

use std::io;
use std::path::{Path, PathBuf};

use super::derive::{PROJECT_STATE_DIR, node_id};
use super::store::{self, StoreError};
use crate::ids::NodeId;
use crate::sys::disk::{create_private_dir, read_private, read_small, write_private};

/// The file in a state folder that names its node's id, whatever the folder's path is; only copies have one, and folders that
/// were upstream's.
pub const PINNED: &str = "node-id";

/// The id that a copy of a state folder brought with it.
pub fn pinned(state_dir: &Path) -> Option<NodeId> {
    let bytes = read_small(&state_dir.join(PINNED)).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let id = text.trim();
    (!id.is_empty()).then(|| NodeId::new(id))
}

/// Has a state folder name its node's id.
///
/// # Errors
/// [`StoreError`] names the file that cannot be written.
pub fn pin(state_dir: &Path, id: &NodeId) -> Result<(), StoreError> {
    put(&state_dir.join(PINNED), format!("{id}\n").as_bytes())
}

/// The name under which a folder stands for its node: two brokers can run in two folders of one machine, and each keeps its
/// id.
///
/// # Errors
/// When the folder's full path cannot be told.
pub fn folder_of(state_dir: &Path) -> io::Result<Vec<u8>> {
    let full = state_dir.canonicalize()?;
    let folder = match (full.file_name(), full.parent()) {
        (Some(name), Some(parent)) if name == ".relay-broker" => parent.to_owned(),
        (_, Some(parent)) if full.ends_with(PROJECT_STATE_DIR) => {
            parent.parent().unwrap_or(parent).to_owned()
        }
        _ => full,
    };
    Ok(folder.into_os_string().into_encoded_bytes())
}

/// Copies the identity of the node of `state_dir` into the folder `to`; its id. `None` for one that has never been at an
/// engine.
///
/// # Errors
/// [`StoreError`] names the file that cannot be read or written.
pub fn copy(state_dir: &Path, data_dir: &Path, to: &Path) -> Result<Option<NodeId>, StoreError> {
    let Some((seed, from)) = store::seed_of(state_dir, data_dir)? else {
        return Ok(None);
    };
    put(&to.join(store::SEED), format!("{seed}\n").as_bytes())?;
    let Some(workspace) = store::last_workspace(state_dir) else {
        return Ok(None);
    };
    let path = state_dir.join(store::WORKSPACE);
    put(
        &to.join(store::WORKSPACE),
        &read_small(&path).map_err(|e| store::trouble("workspace file", &path, e))?,
    )?;
    let folder = folder_of(state_dir).map_err(|e| store::trouble("state folder", state_dir, e))?;
    let id = pinned(state_dir).unwrap_or_else(|| node_id(&seed, &folder, &workspace));
    put(&to.join(PINNED), format!("{id}\n").as_bytes())?;
    for place in [from, state_dir.to_owned()] {
        let token = store::token_path(&place, &id);
        if let Ok(bytes) = read_private(&token) {
            let place: PathBuf = store::token_path(to, &id);
            let folder = place.parent().unwrap_or(to);
            create_private_dir(folder).map_err(|e| store::trouble("node token", folder, e))?;
            put(&place, &bytes)?;
        }
    }
    Ok(Some(id))
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    write_private(path, bytes).map_err(|e| store::trouble("copy", path, e))
}
