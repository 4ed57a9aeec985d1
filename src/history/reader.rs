//! A look at a history, with or without a broker that writes it. Changes nothing.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::files::{FILES, file_name};
use super::step::HistoryStep;
use crate::time::Wall;

/// What a history remembers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Remembered {
    /// In the order of their being written.
    pub steps: Vec<HistoryStep>,
    /// How far it goes back; `None` where nothing is remembered.
    pub since: Option<Wall>,
}

/// Reads all files of a folder, the oldest first. A folder that is not there remembers nothing, and lines that are no steps
/// are passed over.
///
/// # Errors
/// When a file cannot be read.
pub fn read(dir: &Path) -> io::Result<Remembered> {
    // The newest first: a file that moves on meanwhile is met twice and not passed over.
    let (mut texts, mut met) = (Vec::new(), Vec::new());
    for age in 0..FILES {
        let mut file = match File::open(dir.join(file_name(age))) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        let inode = file.metadata()?.ino();
        if met.contains(&inode) {
            continue;
        }
        met.push(inode);
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        texts.push(text);
    }
    let lines = texts
        .iter()
        .rev()
        .flat_map(|text| text.split(|byte| *byte == b'\n'));
    let steps: Vec<HistoryStep> = lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect();
    let since = steps.first().map(|step| step.at);
    Ok(Remembered { steps, since })
}
