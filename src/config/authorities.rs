//! Who vouches for an engine's certificate instead of the bundled roots: the PEM file of a flag, a variable of ours, the
//! configuration file, or `SSL_CERT_FILE`, as OpenSSL and most programs read it. The first that is set counts.

use std::path::Path;

use super::env::Env;
use super::error::ConfigError;
use super::file::Configured;
use super::reading;
use crate::uplink::roots::TrustedRoots;

/// The flag.
const FLAG: &str = "--ca-file";
/// The key of the configuration file.
const KEY: &str = "engine.ca_file";
/// The variables, ours first.
const VARIABLES: [&str; 2] = ["RELAY_BROKER_CA_FILE", "SSL_CERT_FILE"];
/// How long a bundle of certificates may be; those of operating systems have some 250 KiB.
const BUNDLE_BYTES: u64 = 8 * 1024 * 1024;

/// The authorities that count.
///
/// # Errors
/// When the file cannot be read or holds no certificate; flag or variable and the file are named.
pub(super) fn roots(
    flag: Option<&Path>,
    env: &Env,
    file: &Configured,
) -> Result<Option<TrustedRoots>, ConfigError> {
    let [ours, everybodys] = VARIABLES;
    let named = |name: &'static str| env.path(name).map(|path| (name, path));
    let closer = flag.map(|path| (FLAG, path.to_owned()));
    let of_file = || file.ca_file.clone().map(|path| (KEY, path));
    let found = closer
        .or_else(|| named(ours))
        .or_else(of_file)
        .or_else(|| named(everybodys));
    let Some((name, path)) = found else {
        return Ok(None);
    };
    read(&path, name).map(Some).map_err(|why| {
        let text = format!("{name} names {}, which {why}", path.display());
        match (name, &file.path) {
            (KEY, Some(config)) => {
                let line = file.said.iter().find(|entry| entry.key == KEY);
                ConfigError::of_file(config, line.map(|entry| entry.line), text)
            }
            _ => ConfigError::of_named_file(name, text),
        }
    })
}

/// Those of a file that `name`, a setting, names.
///
/// # Errors
/// What is wrong with it, with the way out.
fn read(path: &Path, name: &str) -> Result<TrustedRoots, String> {
    let text = reading::value(path, BUNDLE_BYTES).map_err(|e| format!("cannot be read: {e}"));
    let from = format!("{name} {}", path.display());
    let roots = text.and_then(|text| TrustedRoots::from_pem(text.as_bytes(), &from));
    roots.map_err(|why| {
        format!(
            "{why}; name a PEM file with the certificates that vouch for the engine, or leave {name} away to use the bundled \
             ones"
        )
    })
}
