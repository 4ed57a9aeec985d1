//! What is said in Markdown, in comments and in `deny.toml` is so.

use std::fs;
use std::path::{Path, PathBuf};

mod changelog; // the form of the changelog
mod citations; // comments name sections of protocols
mod coming; // what is promised to those who come from upstream
mod commands; // commands that are shown
mod links; // links, anchors and paths
mod markdown; // reading Markdown, as far as these tests need
mod packages; // what comes in from others
mod walk; // the way of a message through the code

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder` with this ending.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("an entry of it").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && !matches!(&*name, "target" | "node_modules") && !name.starts_with('.') {
            found.extend(files(&path, ending));
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// All Markdown files of the project.
fn papers() -> Vec<markdown::Paper> {
    let all = files(root(), ".md").into_iter();
    all.map(|path| {
        let text = fs::read_to_string(&path).expect("a paper");
        let short = path.strip_prefix(root()).expect("a file of the project");
        markdown::Paper::new(short, text)
    })
    .collect()
}
