//! What real shells, `man` and mandoc make of what the program writes for them. One that is not installed is named as NOT
//! tried.

use std::path::Path;
use std::process::Command;

use crate::support::{Scratch, run};

/// What the program prints on either stream; `None`, and a word about it, where it is not installed.
fn said(program: &str, folder: &Path, args: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command
        .args(args)
        .current_dir(folder)
        .env("LC_ALL", "C.UTF-8");
    command
        .env("HOME", folder)
        .env("MANWIDTH", "120")
        .env("MANROFFSEQ", "");
    match command.output() {
        Ok(out) => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            Some(text(&out.stdout) + &text(&out.stderr))
        }
        Err(_) => {
            eprintln!("{program} is not installed: NOT tried");
            None
        }
    }
}

/// A folder with the completions for all shells.
fn completions() -> Scratch {
    let folder = Scratch::new();
    for (shell, file) in [("bash", "b"), ("zsh", "_relay-broker"), ("fish", "f")] {
        let (code, script, err) = run(folder.path(), &["completions", shell]);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{shell}");
        std::fs::write(folder.path().join(file), script).expect("room");
    }
    folder
}

#[test]
fn bash_completes_commands_and_those_below_them() {
    let folder = completions();
    let script = "source ./b
        COMP_WORDS=(\"$@\") COMP_CWORD=$(($# - 1))
        function=$(complete -p relay-broker | grep -oE -- '-F [^ ]+')
        ${function#-F } relay-broker \"${!#}\" \"${@: -2:1}\"
        echo \"${COMPREPLY[*]}\"";
    for (words, completed) in [
        (&["relay-broker", "sen"][..], "send\n"),
        (&["relay-broker", "journal", "ch"], "check\n"),
        (&["relay-broker", "nodes", "r"], "rm\n"),
    ] {
        let args = [&["--norc", "-c", script, "bash"][..], words].concat();
        if let Some(said) = said("bash", folder.path(), &args) {
            assert_eq!(said, completed, "{words:?}");
        }
    }
}

#[test]
fn zsh_loads_its_completion() {
    let folder = completions();
    let script = "fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D
        (( $+_comps[relay-broker] )) && autoload +X _relay-broker && echo so";
    if let Some(said) = said("zsh", folder.path(), &["-f", "-c", script]) {
        assert_eq!(said, "so\n");
    }
}

#[test]
fn fish_completes_commands_and_tells_what_they_do() {
    let folder = completions();
    let script = "source ./f; complete -C 'relay-broker sen'";
    if let Some(said) = said("fish", folder.path(), &["--no-config", "-c", script]) {
        assert_eq!(said, "send\tSend a message to an agent or a #channel\n");
    }
}

#[test]
fn man_and_mandoc_take_every_page() {
    let folder = Scratch::new();
    let (code, _, err) = run(folder.path(), &["__man", "man"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let pages = std::fs::read_dir(folder.path().join("man")).expect("pages");
    let mut count = 0;
    for page in pages {
        let page = page.expect("a page").path();
        let page = page.to_str().expect("text");
        count += 1;
        let args = ["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page];
        // What it warns of comes from groff, by the page's name; the rest is the page itself.
        for line in said("man", folder.path(), &args)
            .unwrap_or_default()
            .lines()
        {
            let warned = line.contains("warning") && line.contains("troff");
            assert!(
                !warned || line.contains("can't break line"),
                "{page}: {line}"
            );
        }
        if let Some(said) = said(
            "mandoc",
            folder.path(),
            &["-T", "lint", "-W", "error", page],
        ) {
            assert_eq!(said, "", "{page}");
        }
    }
    assert!(count > relay_broker::cli::commands().len(), "{count} pages");
}
