//! A workspace of the node's own, for who names an engine and no key: made once, and opened again by every later start in the
//! same state folder.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::identity::workspace_error;
use super::settings::NodeSettings;
use super::start_error::StartError;
use crate::msg::Secret;
use crate::sys::disk::{read_small, write_private};
use crate::sys::entropy;
use crate::uplink::rest::RestClient;

/// The file of the key, in the state folder.
pub const MADE_WORKSPACE: &str = "made-workspace.json";

/// A key, and the engine at which it opens something.
#[derive(Serialize, Deserialize)]
struct MadeWorkspace {
    base_url: String,
    workspace_key: String,
}

/// The key of the workspace that the engine at `url` has made for this state folder, or makes now.
///
/// # Errors
/// When the engine cannot be reached or refuses, and when the key cannot be kept: the next start would have another
/// workspace.
pub fn made_workspace(url: &str, node: &NodeSettings) -> Result<Secret, StartError> {
    let path = node.state_dir.join(MADE_WORKSPACE);
    if let Some(key) = kept(&path, url)? {
        return Ok(Secret::new(key));
    }
    let nobody = Secret::new(String::new());
    let client = RestClient::new(url, nobody, node.proxy.clone(), node.roots.clone());
    let suffix = entropy::hex::<4>().map_err(StartError::because)?;
    let key = client
        .make_workspace(&format!("{}-{suffix}", node.name))
        .map_err(|e| workspace_error(&e, url, node.roots.as_ref()))?;
    let made = MadeWorkspace {
        base_url: url.to_owned(),
        workspace_key: key.reveal().to_owned(),
    };
    let bytes = serde_json::to_vec(&made).map_err(StartError::because)?;
    write_private(&path, &bytes)
        .map_err(|e| StartError::folder(format!("{}: {e}", path.display())))?;
    Ok(key)
}

fn kept(path: &Path, url: &str) -> Result<Option<String>, StartError> {
    let bad = |why: &dyn std::fmt::Display| {
        StartError::folder(format!(
            "{}: {why}; it holds the key of this folder's workspace, so it is not replaced: repair it, or move it away to have \
             a new workspace made",
            path.display()
        ))
    };
    match read_small(path) {
        Ok(bytes) => {
            let made: MadeWorkspace = serde_json::from_slice(&bytes).map_err(|e| bad(&e))?;
            Ok((made.base_url == url).then_some(made.workspace_key))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(bad(&e)),
    }
}
