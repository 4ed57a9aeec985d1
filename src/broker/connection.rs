//! `connection.json`: where clients of this machine find the local API, and the key that opens it.

use std::path::Path;

use super::settings::Settings;
use super::start_error::StartError;
use crate::msg::Secret;
use crate::sys::disk::{read_small, write_private};
use crate::wire::local::ConnectionFile;

/// Writes the file.
pub(super) fn write(
    path: &Path,
    settings: &Settings,
    (url, port): (&str, u16),
    api_key: &Secret,
) -> Result<(), StartError> {
    let file = ConnectionFile {
        url: url.to_owned(),
        port,
        api_key: api_key.reveal().to_owned(),
        pid: std::process::id(),
        engine_url: settings.engine_url.clone(),
        workspace_key: settings.workspace_key.reveal().to_owned(),
    };
    let bytes = serde_json::to_vec_pretty(&file).map_err(StartError::because)?;
    write_private(path, &bytes).map_err(|e| {
        let way_out = match path.is_dir() {
            true => "it is a folder, in the place of the file by which commands find the broker; remove it",
            false => "make room for it, or pass another --state-dir",
        };
        StartError::folder(format!("{}: {e}; {way_out}", path.display()))
    })
}

/// Removes the file if it is still ours.
pub(super) fn remove(path: &Path) {
    let ours = read_small(path)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<ConnectionFile>(&bytes).ok())
        .is_some_and(|file| file.pid == std::process::id());
    if ours && let Err(e) = std::fs::remove_file(path) {
        log::warn!("{}: {e}", path.display());
    }
}
