//! Who this broker is at which engine: the workspace that the key opens, the id of the node, and the token to begin with.
//! All of it is known before anything else is started, or the start fails with the reason.

use std::path::{Path, PathBuf};

use super::settings::{NodeSettings, Settings};
use super::start_error::StartError;
use crate::identity::derive::{
    Enrolment, Kept, PROJECT_STATE_DIR, TokenScope, fingerprint, node_id, node_id_of_9,
};
use crate::identity::{copy, store};
use crate::ids::{NodeId, WorkspaceId};
use crate::msg::Secret;
use crate::sys::sysexit::Sysexit;
use crate::uplink::enrol::{Enroller, Tokens};
use crate::uplink::rest::{CallError, RestClient};
use crate::uplink::roots::TrustedRoots;

/// Who we are at which engine.
pub(super) struct Identity {
    pub client: RestClient,
    pub workspace_id: WorkspaceId,
    /// As we derive it, or as it was pinned. The engine may know us under another.
    pub node_id: NodeId,
    pub enrolment: Enrolment,
    /// The folder of the seed and the token.
    dir: PathBuf,
}

/// Where this node's seed and token are kept: in the state folder if the operator named that, else with the user's.
pub(super) fn identity_folder(node: &NodeSettings) -> Result<PathBuf, StartError> {
    let (data, state) = (&node.data_dir, &node.state_dir);
    let verbatim = node.node_token.is_some() && node.node_id.is_none();
    match node.named_state_dir {
        true => store::own_folder(data, state, verbatim),
        false => store::folder(data, state),
    }
    .map_err(StartError::folder)
}

/// The folder stands for the node.
fn folder_of(state_dir: &Path) -> Result<Vec<u8>, StartError> {
    copy::folder_of(state_dir).map_err(|e| {
        StartError::folder(format!(
            "state folder {} cannot be resolved: {e}",
            state_dir.display()
        ))
    })
}

pub(super) fn identify(settings: &Settings, dir: PathBuf) -> Result<Identity, StartError> {
    let (url, key) = (&settings.engine_url, settings.workspace_key.clone());
    let node = &settings.node;
    let client = RestClient::new(url, key, node.proxy.clone(), node.roots.clone());
    let key = fingerprint(settings.workspace_key.reveal());
    let known = store::known_workspace(&settings.node.state_dir, &settings.engine_url, &key);
    let workspace_id = match known {
        // A node that has been here before can start while its engine is away.
        Some(id) => id,
        None => {
            let id = client
                .workspace()
                .map_err(|e| workspace_error(&e, &settings.engine_url, node.roots.as_ref()))?;
            if let Err(e) =
                store::keep_workspace(&settings.node.state_dir, &settings.engine_url, &key, &id)
            {
                log::warn!("{e}");
            }
            id
        }
    };
    let node_id = own_id(node, &dir, &workspace_id, url)?;
    let scope = TokenScope {
        node_id: node_id.clone(),
        workspace_id: workspace_id.clone(),
        base_url: settings.engine_url.clone(),
    };
    store::take_over_token(&dir, &node.state_dir, &node.data_dir, &scope);
    let tokens = TokenFile {
        dir: dir.clone(),
        scope,
    };
    let enrolment = enroller(node, &client, tokens).enrol().map_err(|no| {
        let exit = match no.refused {
            true => Sysexit::NoPermission,
            false => Sysexit::Unavailable,
        };
        StartError::new(exit, no.why)
    })?;
    Ok(Identity {
        client,
        workspace_id,
        node_id,
        enrolment,
        dir,
    })
}

/// The id this node asks for. A token that the operator gives belongs to one id, which cannot depend on the folder: the
/// machine's seed itself, unless that is given too ([engine-protocol 7](crate::docs::engine_protocol#7)).
fn own_id(
    settings: &NodeSettings,
    dir: &Path,
    workspace_id: &WorkspaceId,
    engine_url: &str,
) -> Result<NodeId, StartError> {
    if let Some(id) = &settings.node_id {
        return Ok(NodeId::new(id.clone()));
    }
    let seed = store::seed(dir).map_err(StartError::folder)?;
    store::remember(&settings.state_dir, dir, &seed);
    if settings.node_token.is_some() {
        return Ok(NodeId::new(seed));
    }
    if let Some(id) = copy::pinned(&settings.state_dir) {
        return Ok(id);
    }
    let folder = folder_of(&settings.state_dir)?;
    // The id that a broker of upstream's 9.x line has had here, while its token is there: the engine knows this node by it.
    let earlier = TokenScope {
        node_id: node_id_of_9(&seed, &folder),
        workspace_id: workspace_id.clone(),
        base_url: engine_url.to_owned(),
    };
    if settings.state_dir.ends_with(PROJECT_STATE_DIR)
        && store::kept(dir, &earlier).enrolment.is_some()
    {
        if let Err(e) = copy::pin(&settings.state_dir, &earlier.node_id) {
            log::warn!("{e}; a copy of this folder would be another node");
        }
        return Ok(earlier.node_id);
    }
    Ok(node_id(&seed, &folder, workspace_id))
}

pub(super) fn enroller(
    settings: &NodeSettings,
    client: &RestClient,
    tokens: TokenFile,
) -> Enroller {
    Enroller::new(
        client.clone(),
        tokens.scope.node_id.clone(),
        settings.name.clone(),
        Box::new(tokens),
        settings.node_token.clone(),
    )
}

pub(super) fn workspace_error(
    error: &CallError,
    url: &str,
    roots: Option<&TrustedRoots>,
) -> StartError {
    if let CallError::Refused {
        status: 401 | 403, ..
    } = error
    {
        return StartError::new(
            Sysexit::NoPermission,
            format!(
                "the engine at {url} refuses the workspace key ({error}); check --workspace-key"
            ),
        );
    }
    let text = if error.to_string().contains("CaUsedAsEndEntity") {
        format!(
            "{error}: the engine at {url} shows an authority's own certificate, as `openssl req -x509` makes it, which vouches \
             for others and not for a server; have one signed by it for the engine (CA:FALSE, with the engine's name as \
             subjectAltName), or make a self-signed one with CA:FALSE"
        )
    } else if error.to_string().contains("invalid peer certificate") {
        match roots {
            Some(roots) => format!(
                "{error}; {} does not vouch for it: name there the PEM file of the authority that has signed the certificate of \
                 the engine, or of a proxy that looks inside",
                roots.from()
            ),
            None => format!(
                "{error}; if an authority of your own vouches for the engine, or for a proxy that looks inside, name its PEM \
                 file with --ca-file or in SSL_CERT_FILE"
            ),
        }
    } else {
        format!(
            "{error}; check --engine (without it the broker brings an engine of its own, which needs free descriptors and memory)"
        )
    };
    StartError::new(Sysexit::Unavailable, text)
}

impl Identity {
    /// Where our token is kept.
    pub fn tokens(&self) -> TokenFile {
        TokenFile {
            dir: self.dir.clone(),
            scope: TokenScope {
                node_id: self.node_id.clone(),
                workspace_id: self.workspace_id.clone(),
                base_url: self.client.base().to_owned(),
            },
        }
    }
}

/// The token of this node, in a file.
pub(super) struct TokenFile {
    dir: PathBuf,
    scope: TokenScope,
}

impl Tokens for TokenFile {
    fn kept(&self) -> Kept {
        store::kept(&self.dir, &self.scope)
    }

    fn keep(&self, kept: &Kept) {
        if let Err(e) = store::keep(&self.dir, &self.scope, kept) {
            log::warn!("{e}; the next start will enrol again");
        }
    }
}

/// The operator's token, else what the uplink keeps in the cache, read when asked because it may have been minted anew.
pub(super) fn node_token(
    settings: &NodeSettings,
    identity: &Identity,
) -> Box<dyn Fn() -> Option<Secret> + Send + Sync> {
    let pinned = settings.node_token.clone();
    let file = identity.tokens();
    Box::new(move || {
        let kept = || file.kept().enrolment.map(|enrolment| enrolment.token);
        pinned.clone().or_else(kept)
    })
}
