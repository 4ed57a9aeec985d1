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
const SEED: &str = "machine-id";
/// The file in the state folder that says where its node's identity is.
const ORIGIN: &str = "identity.json";

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

fn trouble(what: &'static str, path: &Path, why: impl ToString) -> StoreError {
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
            Ok((!seed.is_empty()).then(|| seed.to_owned()))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(trouble("machine seed", path, e)),
    }
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
    let bytes = read_small(&state_dir.join("workspace.json")).ok()?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::disk::tests::Scratch;
    use std::os::unix::fs::PermissionsExt;

    fn scope() -> TokenScope {
        TokenScope {
            node_id: NodeId::new("node/../x"),
            workspace_id: WorkspaceId::new("1901"),
            base_url: "http://127.0.0.1:1".into(),
        }
    }

    fn enrolled(token: &str) -> Kept {
        Kept {
            enrolment: Some(Enrolment {
                node_id: NodeId::new("node_given"),
                node_name: "box-1".into(),
                token: Secret::new(token),
            }),
            mint_key: None,
        }
    }

    #[test]
    fn a_machine_has_one_seed_for_good() {
        let dir = Scratch::new();
        let seed = super::seed(dir.path()).expect("room");
        assert!(seed.starts_with("node_") && seed.len() == 37, "{seed}");
        assert_eq!(super::seed(dir.path()).expect("readable"), seed);
        let files = std::fs::read_dir(dir.path()).expect("readable").count();
        assert_eq!(files, 1, "no draft is left");
    }

    #[test]
    fn a_seed_that_somebody_else_made_meanwhile_is_everybodys_and_an_empty_one_is_nobodys() {
        let dir = Scratch::new();
        let path = dir.path().join("machine-id");
        std::fs::write(&path, "node_first\n").expect("room");
        place_once(&path, b"node_second\n").expect("room");
        assert_eq!(super::seed(dir.path()).expect("readable"), "node_first");
        std::fs::write(&path, "\n").expect("room");
        let err = read_seed(&path).expect("readable");
        assert_eq!(err, None);
        std::fs::write(&path, "").expect("room");
        assert!(super::seed(dir.path()).expect("room").starts_with("node_"));
    }

    /// N7: a broken seed is an error that names the file, which stays untouched.
    #[test]
    fn a_seed_that_cannot_be_read_is_an_error_that_names_the_file_and_never_a_new_seed() {
        let dir = Scratch::new();
        let path = dir.path().join("machine-id");
        std::fs::write(&path, b"node_\xff\xfe").expect("room");
        let error = super::seed(dir.path()).expect_err("no text").to_string();
        assert!(
            error.contains("machine-id") && error.contains("UTF-8"),
            "{error}"
        );
        assert_eq!(std::fs::read(&path).expect("kept"), b"node_\xff\xfe");
        // A folder in its place stands for every other way of not being readable.
        std::fs::remove_file(&path).expect("ours");
        std::fs::create_dir(&path).expect("room");
        let error = super::seed(dir.path()).expect_err("a folder").to_string();
        assert!(error.contains("machine-id"), "{error}");
        assert!(path.is_dir(), "left as it was");
    }

    #[test]
    fn the_state_folder_serves_where_the_data_folder_cannot_be_used_and_then_for_good() {
        let dir = Scratch::new();
        let (file, state) = (dir.path().join("file"), dir.path().join("state"));
        create_private_dir(&state).expect("room");
        std::fs::write(&file, "").expect("room");
        // As on a full disk: the folder is there, and no file can be made in it.
        let full = dir.path().join("full");
        let draft = full.join(format!("{SEED}.{}.new", std::process::id()));
        create_private_dir(&draft).expect("room");
        let fresh = dir.path().join("fresh");
        create_private_dir(&fresh).expect("room");
        assert_eq!(folder(&full, &fresh).expect("known"), fresh);
        for none in [file.join("data"), "/proc/data".into()] {
            assert_eq!(
                folder(&none, &state).expect("known"),
                state,
                "{}",
                none.display()
            );
        }
        let seed = super::seed(&state).expect("room");
        let data = dir.path().join("data");
        assert_eq!(
            folder(&data, &state).expect("known"),
            state,
            "it is known here by now"
        );
        assert_eq!(super::seed(&state).expect("readable"), seed);
    }

    /// N8: whatever HOME is, as long as the state folder is the same; who removes the seed of today's home starts anew.
    #[test]
    fn the_identity_of_a_state_folder_is_found_under_every_home() {
        let dir = Scratch::new();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        let state = dir.path().join("state");
        create_private_dir(&state).expect("room");
        let start = |data: &Path, state: &Path| {
            let folder = folder(data, state).expect("known");
            let seed = super::seed(&folder).expect("room");
            remember(state, &folder, &seed);
            (folder, seed)
        };
        let (at, seed) = start(&one, &state);
        assert_eq!(at, one);
        assert_eq!(start(&two, &state), (one.clone(), seed.clone()));
        assert_eq!(
            start(&state, &state),
            (one.clone(), seed.clone()),
            "no home"
        );
        let fresh = dir.path().join("fresh");
        create_private_dir(&fresh).expect("room");
        assert_ne!(start(&two, &fresh).1, seed, "another state folder");

        std::fs::remove_file(one.join(SEED)).expect("ours");
        let (at, other) = start(&one, &state);
        assert!(at == one && other != seed);
        std::fs::remove_dir_all(&one).expect("ours");
        assert_eq!(start(&two, &state), (state.clone(), other.clone()));
        assert_eq!(start(&one, &state), (state.clone(), other));
    }

    /// N7: where the identity is must not be guessed.
    #[test]
    fn a_broken_file_about_the_identity_is_an_error_that_names_it_and_stays_as_it_is() {
        let dir = Scratch::new();
        let path = dir.path().join(ORIGIN);
        std::fs::write(&path, "{\"folder\":").expect("room");
        let home = dir.path().join("home");
        let error = folder(&home, dir.path()).expect_err("broken").to_string();
        assert!(
            error.contains(ORIGIN) && error.contains("remove it"),
            "{error}"
        );
        assert_eq!(std::fs::read(&path).expect("kept"), b"{\"folder\":");
        assert!(!home.exists(), "nothing was begun");
    }

    #[test]
    fn a_data_folder_that_can_be_used_is_used_and_one_that_fails_otherwise_is_an_error() {
        let dir = Scratch::new();
        let (data, state) = (dir.path().join("a/data"), dir.path().join("state"));
        create_private_dir(&state).expect("room");
        assert_eq!(folder(&data, &state).expect("known"), data);
        std::fs::remove_file(data.join(SEED)).expect("made at once");
        std::fs::create_dir(data.join(SEED)).expect("room");
        assert_eq!(
            folder(&data, &state).expect("known"),
            data,
            "it may have been somebody"
        );
        assert!(super::seed(&data).is_err());
    }

    /// N2: a token is kept per node id, under a name that no id can lead out of its folder.
    #[test]
    fn a_token_is_found_again_with_the_id_and_name_that_the_engine_gave() {
        let dir = Scratch::new();
        keep(dir.path(), &scope(), &enrolled("nt_live_1")).expect("room");
        assert_eq!(kept(dir.path(), &scope()), enrolled("nt_live_1"));
    }

    /// N2: a kept token is good for one node, workspace and base URL.
    #[test]
    fn a_token_is_good_for_its_own_node_workspace_and_engine_only() {
        let dir = Scratch::new();
        keep(dir.path(), &scope(), &enrolled("nt_live_1")).expect("room");
        let others = [
            TokenScope {
                workspace_id: WorkspaceId::new("1902"),
                ..scope()
            },
            TokenScope {
                base_url: "http://127.0.0.1:2".into(),
                ..scope()
            },
            TokenScope {
                // Another id that is written into the same file name.
                node_id: NodeId::new("node_.._x"),
                ..scope()
            },
        ];
        for other in others {
            assert_eq!(kept(dir.path(), &other), Kept::default(), "{other:?}");
        }
    }

    /// N2: the cache has mode 0600, also where the file was there with another.
    #[test]
    fn a_token_is_private_from_its_first_moment_and_tightened_when_it_is_not() {
        let dir = Scratch::new();
        keep(dir.path(), &scope(), &enrolled("nt_live_1")).expect("room");
        let path = dir.path().join("node-tokens/node____x.json");
        let mode = || {
            std::fs::metadata(&path)
                .expect("it is there")
                .permissions()
                .mode()
                & 0o777
        };
        assert_eq!(mode(), 0o600);
        let wide = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(&path, wide).expect("ours");
        assert_eq!(kept(dir.path(), &scope()), enrolled("nt_live_1"));
        assert_eq!(mode(), 0o600);
    }

    #[test]
    fn a_request_for_a_token_is_remembered_also_before_there_is_a_token() {
        let dir = Scratch::new();
        let asked = Kept {
            enrolment: None,
            mint_key: Some("k".repeat(32)),
        };
        keep(dir.path(), &scope(), &asked).expect("room");
        assert_eq!(kept(dir.path(), &scope()), asked);
    }

    /// N2: caches of earlier brokers, which knew neither base URL nor name, are used.
    #[test]
    fn a_cache_that_says_nothing_of_its_engine_is_used() {
        let dir = Scratch::new();
        let path = token_path(dir.path(), &scope().node_id);
        create_private_dir(&dir.path().join(TOKENS)).expect("room");
        let file = r#"{"node_id":"node/../x","workspace_id":"1901","token":"nt_live_1"}"#;
        std::fs::write(&path, file).expect("room");
        let found = kept(dir.path(), &scope()).enrolment.expect("a token");
        assert_eq!(found.token, Secret::new("nt_live_1"));
        assert_eq!(found.node_id, scope().node_id);
    }

    #[test]
    fn a_cache_that_is_no_cache_is_as_good_as_none() {
        let dir = Scratch::new();
        keep(dir.path(), &scope(), &enrolled("nt_live_1")).expect("room");
        let path = token_path(dir.path(), &scope().node_id);
        for text in ["", "{", "[]", "{\"token\":5}"] {
            std::fs::write(&path, text).expect("room");
            assert_eq!(kept(dir.path(), &scope()), Kept::default(), "{text}");
        }
    }
}
