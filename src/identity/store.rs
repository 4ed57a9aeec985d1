//! The files of the identity, mode 0600: the machine's seed, one node token per node id, and which workspace a key opens.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use serde::{Deserialize, Serialize};

use super::derive::{Enrolment, Kept, TokenScope};
use crate::ids::{NodeId, WorkspaceId};
use crate::msg::Secret;
use crate::sys::disk::{self, create_private_dir, read_private, read_small, write_private};
use crate::sys::entropy;

/// The folder of the node tokens, in the data folder.
const TOKENS: &str = "node-tokens";
/// The file of the machine's seed.
pub(super) const SEED: &str = "machine-id";
/// The file in the state folder that says where its node's identity is.
const ORIGIN: &str = "identity.json";
/// The file in the state folder that says which workspace the key opens.
pub(super) const WORKSPACE: &str = "workspace.json";

/// A file that cannot be read or written, named.
#[derive(Debug, thiserror::Error)]
#[error("{what} {}: {why}; {}", path.display(), way_out(what))]
pub struct StoreError {
    what: &'static str,
    path: PathBuf,
    why: String,
}

/// What a folder of many cannot be told like a file of ours.
const FOLDER: &str = "data folder";

fn way_out(what: &str) -> &'static str {
    match what {
        FOLDER => "make room there, or set XDG_DATA_HOME to a folder that you may write",
        _ => "fix its permissions, or remove it to have a new one made",
    }
}

pub(super) fn trouble(what: &'static str, path: &Path, why: impl ToString) -> StoreError {
    StoreError {
        what,
        path: path.to_owned(),
        why: why.to_string(),
    }
}

/// Where the identity is kept: in the user's data folder, or in the state folder where that cannot be used, and from then
/// on always, so that the node stays who it is when the data folder comes back.
///
/// # Errors
/// [`StoreError`] names the file that should say where that is, and cannot be read.
pub fn folder(data_dir: &Path, state_dir: &Path) -> Result<PathBuf, StoreError> {
    let own = state_dir.join(SEED);
    if matches!(read_seed(&own), Ok(Some(_))) {
        return Ok(state_dir.to_owned());
    }
    if let Some(other) = of_another_home(data_dir, state_dir)? {
        return Ok(other);
    }
    let begun = usable(data_dir).map_err(|e| e.to_string());
    let Err(e) = begun.and_then(|()| begin(data_dir)) else {
        return Ok(data_dir.to_owned());
    };
    log::warn!(
        "the data folder {} cannot be used ({e}); the state folder serves in its place. To share one identity among all \
         folders of this user, set XDG_DATA_HOME to a folder that you may write, and start in a new state folder",
        data_dir.display()
    );
    // A folder that can be read only says who we are all the same.
    if let Ok(Some(seed)) = read_seed(&data_dir.join(SEED))
        && let Err(e) = place_once(&own, format!("{seed}\n").as_bytes())
    {
        log::warn!("machine seed {}: {e}", own.display());
    }
    Ok(state_dir.to_owned())
}

/// Where the identity is kept of a state folder that the operator named: in there, so that the folder is the node, whatever
/// HOME is, and HOME need not be there. One that an earlier start kept elsewhere is taken over. A new folder has a new seed
/// and not the user's: folders of the same path, on machines that share a home or in containers of one image, would be one
/// node.
///
/// A token that the operator gives without an id belongs to the user's seed, which is taken over then (`verbatim`).
///
/// # Errors
/// [`StoreError`] names the file that should say who this node is, and cannot be read.
pub fn own_folder(
    data_dir: &Path,
    state_dir: &Path,
    verbatim: bool,
) -> Result<PathBuf, StoreError> {
    let own = state_dir.join(SEED);
    if read_seed(&own)?.is_some() {
        return Ok(state_dir.to_owned());
    }
    let earlier = match origin(state_dir)? {
        Some(place) => Some((place.seed, place.folder)),
        None if verbatim => read_seed(&data_dir.join(SEED))
            .unwrap_or_default()
            .map(|seed| (seed, data_dir.to_owned())),
        None => None,
    };
    let Some((seed, from)) = earlier else {
        return Ok(state_dir.to_owned());
    };
    if let Err(e) = place_once(&own, format!("{seed}\n").as_bytes()) {
        // Such as on a full disk: what was good until now is good once more.
        log::warn!("machine seed {}: {e}", own.display());
        return folder(data_dir, state_dir);
    }
    log::info!(
        "this node's identity is in {} from now on; it was in {}",
        state_dir.display(),
        from.display()
    );
    Ok(state_dir.to_owned())
}

/// Takes this very node's token over from where an earlier start kept it, once, because some engines give a new one for the
/// old one only. A token of another id, such as that of a folder that this one was copied from, stays where it is.
pub fn take_over_token(dir: &Path, state_dir: &Path, data_dir: &Path, scope: &TokenScope) {
    if dir != state_dir || token_path(dir, &scope.node_id).exists() {
        return;
    }
    let noted = origin(state_dir).ok().flatten().map(|place| place.folder);
    let earlier = noted.iter().map(PathBuf::as_path).chain([data_dir]);
    let found = earlier
        .filter(|folder| *folder != dir && token_path(folder, &scope.node_id).exists())
        .map(|folder| kept(folder, scope))
        .find(|found| *found != Kept::default());
    if let Some(Err(e)) = found.map(|found| keep(dir, scope, &found)) {
        log::warn!("{e}; the node's token is not taken over");
    }
}

/// Where the identity of a state folder's node is.
#[derive(PartialEq, Serialize, Deserialize)]
struct IdentityPlace {
    folder: PathBuf,
    seed: String,
}

/// `None` for a state folder that knows nothing yet. A file that cannot be read is an error: under another home the node
/// would come back as a stranger.
fn origin(state_dir: &Path) -> Result<Option<IdentityPlace>, StoreError> {
    let path = state_dir.join(ORIGIN);
    let bad = |why: String| trouble("identity", &path, why);
    match read_small(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| bad(e.to_string())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(bad(e.to_string())),
    }
}

/// Keeps where the identity is, so that a broker that is started with another HOME in the same state folder is the same
/// node. A failure costs that, and is logged.
pub fn remember(state_dir: &Path, data_dir: &Path, seed: &str) {
    let now = IdentityPlace {
        folder: data_dir.to_owned(),
        seed: seed.to_owned(),
    };
    if data_dir == state_dir || matches!(origin(state_dir), Ok(Some(kept)) if kept == now) {
        return;
    }
    let path = state_dir.join(ORIGIN);
    let kept = serde_json::to_vec(&now).map_err(io::Error::other);
    if let Err(e) = kept.and_then(|bytes| write_private(&path, &bytes)) {
        log::warn!(
            "{}: {e}; under another HOME this node would be another one",
            path.display()
        );
    }
}

/// The folder of the identity, if it was made under another home than today's: that of then, or the state folder where that
/// is gone. Whoever removes the seed under today's home wants another identity, and gets one.
fn of_another_home(data_dir: &Path, state_dir: &Path) -> Result<Option<PathBuf>, StoreError> {
    let Some(origin) = origin(state_dir)?.filter(|origin| origin.folder != data_dir) else {
        return Ok(None);
    };
    let seed = read_seed(&origin.folder.join(SEED));
    let is_there = matches!(seed, Ok(Some(seed)) if seed == origin.seed);
    if is_there && usable(&origin.folder).is_ok() {
        log::info!("this node's identity is in {}", origin.folder.display());
        return Ok(Some(origin.folder));
    }
    let own = state_dir.join(SEED);
    place_once(&own, format!("{}\n", origin.seed).as_bytes())
        .map_err(|e| trouble("machine seed", &own, e))?;
    Ok(Some(state_dir.to_owned()))
}

/// Makes the seed where there is none. One that is there, or may be there, is no reason to go elsewhere: the node would come
/// back as a stranger.
fn begin(data_dir: &Path) -> Result<(), String> {
    match read_seed(&data_dir.join(SEED)) {
        Ok(None) => seed(data_dir).map(|_| ()).map_err(|e| e.why),
        _ => Ok(()),
    }
}

/// Whether files can be made in a folder, which is made if missing. Only what will not pass by itself is an error: with a
/// disk that is full or fails for a moment the node must not become a stranger.
fn usable(dir: &Path) -> io::Result<()> {
    use io::ErrorKind::{
        NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem, Unsupported,
    };
    let writable = Access::WRITE_OK | Access::EXEC_OK;
    let found = create_private_dir(dir).and_then(|()| Ok(access(dir, writable)?));
    match found {
        Err(e)
            if matches!(
                e.kind(),
                NotADirectory | NotFound | PermissionDenied | ReadOnlyFilesystem | Unsupported
            ) =>
        {
            Err(e)
        }
        _ => Ok(()),
    }
}

/// The machine's seed, made at the first call. A file that cannot be read is an error, never a reason for a new seed: the
/// node would come back as a stranger.
///
/// # Errors
/// [`StoreError`] names the file.
pub fn seed(data_dir: &Path) -> Result<String, StoreError> {
    let path = data_dir.join(SEED);
    disk::sweep_drafts(data_dir, false);
    disk::sweep_drafts(&data_dir.join(TOKENS), false);
    if let Some(seed) = read_seed(&path)? {
        return Ok(seed);
    }
    let seed = format!(
        "node_{}",
        entropy::hex::<16>().map_err(|e| trouble("machine seed", &path, e))?
    );
    create_private_dir(data_dir).map_err(|e| trouble(FOLDER, data_dir, e))?;
    place_once(&path, format!("{seed}\n").as_bytes())
        .map_err(|e| trouble("machine seed", &path, e))?;
    // Whoever was first has made the seed of this machine, which need not be us.
    Ok(read_seed(&path)?.unwrap_or(seed))
}

/// `None` for a file that is missing, or holds nothing.
fn read_seed(path: &Path) -> Result<Option<String>, StoreError> {
    // Through a link, because seeds are kept in other places on purpose.
    match path.canonicalize().and_then(|path| read_small(&path)) {
        Ok(bytes) => {
            let text = String::from_utf8(bytes)
                .map_err(|_| trouble("machine seed", path, "not UTF-8 text"))?;
            let seed = text.trim();
            match seed.is_empty() || is_seed(seed) {
                true => Ok((!seed.is_empty()).then(|| seed.to_owned())),
                false => Err(trouble(
                    "machine seed",
                    path,
                    "it is damaged, because a seed is node_ and 32 hex digits; put a copy back, or this is another node",
                )),
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(trouble("machine seed", path, e)),
    }
}

/// Whether it has the form of those that are made ([engine-protocol 7](crate::docs::engine_protocol#7)).
fn is_seed(text: &str) -> bool {
    let digits = text.strip_prefix("node_");
    digits.is_some_and(|digits| digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Puts a file in place whole, unless another process just did: two brokers that start for the first time together must
/// end up with one seed. An empty file is nobody's.
fn place_once(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    write_private(&draft, bytes)?;
    let empty = std::fs::metadata(path).is_ok_and(|found| found.len() == 0);
    let placed = match std::fs::hard_link(&draft, path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && !empty => Ok(()),
        // In place of an empty file, and on file systems that have no links.
        Err(_) => std::fs::rename(&draft, path),
        linked => linked,
    };
    let _ = std::fs::remove_file(&draft);
    placed
}

/// A cached node token ([engine-protocol 7](crate::docs::engine_protocol#7)).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct TokenFile {
    node_id: NodeId,
    workspace_id: WorkspaceId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base_url: Option<String>,
    /// Empty while the first one is still being asked for.
    #[serde(default)]
    token: String,
    /// The key of a request for a token whose answer has not been seen (ours).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mint_key: Option<String>,
    /// The name the engine lists us under (ours).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node_name: Option<String>,
    /// The id the engine gave us, where it is not the one we asked for (ours).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    given_id: Option<NodeId>,
}

pub(super) fn token_path(data_dir: &Path, node_id: &NodeId) -> PathBuf {
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
    data_dir.join(TOKENS).join(format!("{safe}.json"))
}

/// What is kept for exactly that scope. An unreadable or foreign cache counts as none: a token can always be had anew. A
/// file that others could read is tightened.
pub fn kept(data_dir: &Path, scope: &TokenScope) -> Kept {
    let path = token_path(data_dir, &scope.node_id);
    let nothing = Kept::default();
    let file: TokenFile = match read_private(&path) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(file) => file,
            Err(e) => {
                log::warn!("node token cache {} says nothing: {e}", path.display());
                return nothing;
            }
        },
        Err(e) => {
            if e.kind() != io::ErrorKind::NotFound {
                log::warn!("node token cache: {e}; asking the engine for a new token");
            }
            return nothing;
        }
    };
    let same_engine = file
        .base_url
        .as_ref()
        .is_none_or(|url| *url == scope.base_url);
    if file.node_id != scope.node_id || file.workspace_id != scope.workspace_id || !same_engine {
        return nothing;
    }
    let enrolment = (!file.token.is_empty()).then(|| Enrolment {
        node_id: file.given_id.unwrap_or(file.node_id),
        node_name: file.node_name.unwrap_or_default(),
        token: Secret::new(file.token),
    });
    Kept {
        enrolment,
        mint_key: file.mint_key,
    }
}

/// Keeps it, whole or not at all.
///
/// # Errors
/// [`StoreError`] names the file.
pub fn keep(data_dir: &Path, scope: &TokenScope, kept: &Kept) -> Result<(), StoreError> {
    let path = token_path(data_dir, &scope.node_id);
    if let Some(folder) = path.parent() {
        create_private_dir(folder).map_err(|e| trouble(FOLDER, folder, e))?;
    }
    let enrolment = kept.enrolment.as_ref();
    let given_id = enrolment.map(|e| &e.node_id);
    let token = enrolment.map(|e| e.token.reveal().to_owned());
    let file = TokenFile {
        node_id: scope.node_id.clone(),
        workspace_id: scope.workspace_id.clone(),
        base_url: Some(scope.base_url.clone()),
        token: token.unwrap_or_default(),
        mint_key: kept.mint_key.clone(),
        node_name: enrolment.map(|e| e.node_name.clone()),
        given_id: given_id.filter(|id| **id != scope.node_id).cloned(),
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
    let bytes = read_small(&state_dir.join(WORKSPACE)).ok()?;
    let file: WorkspaceFile = serde_json::from_slice(&bytes).ok()?;
    (file.base_url == base_url && file.key_sha256 == key_sha256).then_some(file.workspace_id)
}

/// The workspace that this folder's node belongs to, whatever key opens it.
pub(super) fn last_workspace(state_dir: &Path) -> Option<WorkspaceId> {
    let bytes = read_small(&state_dir.join(WORKSPACE)).ok()?;
    let file: WorkspaceFile = serde_json::from_slice(&bytes).ok()?;
    Some(file.workspace_id)
}

/// The seed of this folder's node, and where it lies: in the folder, where the folder says, or with the user. Makes none.
pub(super) fn seed_of(
    state_dir: &Path,
    data_dir: &Path,
) -> Result<Option<(String, PathBuf)>, StoreError> {
    if let Some(seed) = read_seed(&state_dir.join(SEED))? {
        return Ok(Some((seed, state_dir.to_owned())));
    }
    if let Some(place) = origin(state_dir)? {
        return Ok(Some((place.seed, place.folder)));
    }
    let seed = read_seed(&data_dir.join(SEED))?;
    Ok(seed.map(|seed| (seed, data_dir.to_owned())))
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
    let path = state_dir.join(WORKSPACE);
    let file = WorkspaceFile {
        base_url: base_url.to_owned(),
        key_sha256: key_sha256.to_owned(),
        workspace_id: workspace_id.clone(),
    };
    let bytes = serde_json::to_vec(&file).map_err(|e| trouble("workspace file", &path, e))?;
    write_private(&path, &bytes).map_err(|e| trouble("workspace file", &path, e))
}

#[cfg(test)]
mod tests;
