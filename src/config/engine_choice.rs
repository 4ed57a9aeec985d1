//! Which engine the broker speaks to, as flags and variables say.

use std::net::SocketAddr;

use tungstenite::http::Uri;

use super::env::{Env, read_secret};
use super::error::ConfigError;
use super::flags::Flags;
use crate::msg::Secret;
use crate::net::http::endpoint;

/// Where a workspace key leads when no engine is named.
pub const HOSTED_ENGINE: &str = "https://cast.agentrelay.com";

/// Which engine the broker will speak to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineChoice {
    /// One that runs elsewhere.
    Remote {
        /// Its base URL, no trailing slash.
        url: String,
        /// Opens the workspace.
        key: Secret,
    },
    /// One that runs elsewhere, and makes a workspace for this node.
    Keyless {
        /// Its base URL, no trailing slash.
        url: String,
    },
    /// One of our own, inside this process.
    Embedded {
        /// Where it must listen; free to choose when absent.
        listen: Option<SocketAddr>,
    },
}

/// The workspace key and where it came from.
fn workspace_key(flags: &Flags, env: &Env) -> Result<Option<Secret>, ConfigError> {
    let (origin, key) = if let Some(key) = &flags.workspace_key {
        ("--workspace-key", key.clone())
    } else if let Some(path) = &flags.workspace_key_file {
        let origin = "--workspace-key-file";
        (origin, read_secret(path, origin)?)
    } else if let Some(found) = env.workspace_key()? {
        found
    } else {
        return Ok(None);
    };
    check_key(origin, &key)?;
    Ok(Some(Secret::new(key)))
}

/// Whether a text can be a workspace key.
///
/// # Errors
/// Names where the text came from, and never shows the text itself.
pub fn check_key(origin: &str, key: &str) -> Result<(), ConfigError> {
    let fine = key.starts_with("rk_") && key.bytes().all(|b| b.is_ascii_graphic());
    if fine {
        return Ok(());
    }
    Err(ConfigError::of(
        origin,
        format!(
            "{origin} is not a workspace key: one starts with rk_ and has no blanks; copy it again"
        ),
    ))
}

/// Whether an engine without encryption may listen there.
///
/// # Errors
/// Beyond loopback, unless the risk was taken by name.
pub fn check_listen(origin: &str, address: SocketAddr, allowed: bool) -> Result<(), ConfigError> {
    if address.ip().is_loopback() || allowed {
        return Ok(());
    }
    Err(ConfigError::of(
        origin,
        format!(
            "{origin} {address} is beyond this machine, and the engine has no encryption of its own: tokens and messages \
         would cross the network in plain text; listen on 127.0.0.1:{} behind a TLS proxy, or, on a trusted network, \
         add --allow-plain-http",
            address.port()
        ),
    ))
}

/// Where the engine is and which key opens it are judged each by itself, so that both are named when both are wrong.
pub(super) fn engine_choice(flags: &Flags, env: &Env) -> Result<EngineChoice, Vec<ConfigError>> {
    let said = match &flags.engine {
        Some(url) => Ok(Some(("--engine", url.clone()))),
        None if flags.engine_listen.is_some() => Ok(None),
        None => env.first(&["RELAYCAST_BASE_URL", "RELAY_BASE_URL"]),
    };
    let (said, unread) = match said {
        Ok(said) => (said, None),
        Err(e) => (None, Some(e)),
    };
    let key = workspace_key(flags, env);
    // An agent has the URL from its own broker, without a key: nobody said it of another one.
    let inherited = flags.engine.is_none() && env.own_token().is_some();
    let said = said.filter(|_| !(inherited && matches!(key, Ok(None))));
    let url = said.as_ref().map(|(origin, url)| check_url(origin, url));
    let keyless = match (&said, &key) {
        (Some((origin, _)), Ok(None)) if flags.init.is_none() => Some(no_key(origin)),
        _ => None,
    };
    match (url.transpose(), key, keyless, unread) {
        (Ok(url), Ok(key), None, None) => choice(url, key, flags).map_err(|e| vec![e]),
        (url, key, keyless, unread) => {
            let all = [unread, url.err(), key.err(), keyless];
            Err(all.into_iter().flatten().collect())
        }
    }
}

fn no_key(origin: &str) -> ConfigError {
    ConfigError::of(
        origin,
        format!(
            "{origin} names an engine but no workspace key is given; \
             set RELAY_WORKSPACE_KEY (or RELAY_WORKSPACE_KEY_FILE), or pass --workspace-key-file"
        ),
    )
}

fn choice(
    url: Option<String>,
    key: Option<Secret>,
    flags: &Flags,
) -> Result<EngineChoice, ConfigError> {
    match (url, key) {
        (_, Some(_)) if flags.engine_listen.is_some() => Err(ConfigError::of(
            "--engine-listen",
            "--engine-listen is for the engine inside this process, but a workspace key is given; \
             drop one of the two",
        )),
        (url, Some(key)) => Ok(EngineChoice::Remote {
            url: url.unwrap_or_else(|| HOSTED_ENGINE.to_owned()),
            key,
        }),
        (Some(url), None) => Ok(EngineChoice::Keyless { url }),
        (None, None) => {
            if let Some(address) = flags.engine_listen {
                check_listen("--engine-listen", address, flags.allow_plain_http)?;
            }
            Ok(EngineChoice::Embedded {
                listen: flags.engine_listen,
            })
        }
    }
}

fn check_url(origin: &str, url: &str) -> Result<String, ConfigError> {
    let url = url.trim().trim_end_matches('/');
    if url.contains('@') {
        // What stands before it may be a password, so the value is not shown.
        return Err(ConfigError::of(
            origin,
            format!(
                "{origin} must be a URL without a name or password in it; the key goes into --workspace-key"
            ),
        ));
    }
    if !is_base_url(url) {
        return Err(ConfigError::of(
            origin,
            format!(
                "{origin} must be a URL such as https://cast.agentrelay.com or http://127.0.0.1:8787, not {url:?}; correct it"
            ),
        ));
    }
    Ok(url.to_owned())
}

/// Whether paths can be put behind it, and it leads where it says.
fn is_base_url(url: &str) -> bool {
    url.parse::<Uri>().is_ok_and(|parsed| {
        matches!(parsed.scheme_str(), Some("http" | "https"))
            && parsed.query().is_none()
            && endpoint(&parsed).is_some()
    })
}
