//! Every flag of `up`, as the parser itself lists them, with what cannot be meant.

use std::ffi::OsString;

use clap::CommandFactory;

use crate::cli::args::{self, Cli, Command};
use crate::config::{self, Env, Surroundings};
use crate::sys::sysexit::Sysexit;

/// What each flag may be given that cannot be meant, as the rest of a command line; nothing for those that cannot be wrong.
fn wrong(flag: &str) -> &'static [&'static str] {
    match flag {
        "config" => &["--config /no/such/file", "--config /dev/zero", "--config /"],
        "name" => &["--name ''", "--name ' '"],
        "api-port" => &["--api-port x", "--api-port 70000"],
        "api-bind" => &["--api-bind nowhere", "--api-bind 0.0.0.0"],
        "engine" => &[
            "--engine ftp://x --workspace-key rk_1",
            "--engine http://engine.example",
        ],
        "workspace-key" => &[
            "--workspace-key sk_1",
            "--workspace-key rk_1 --workspace-key-file x",
        ],
        "workspace-key-file" => &["--workspace-key-file /no/such/file"],
        "engine-listen" => &[
            "--engine-listen x",
            "--engine-listen 0.0.0.0:1",
            "--engine-listen 127.0.0.1:1 --workspace-key rk_1",
        ],
        "agent" => &[
            "--agent ada",
            "--agent ada=",
            "--agent =cat",
            "--agent 'a/b=cat'",
            "--agent ada=cat --agent ada=cat",
        ],
        "exit-with-agents" => &["--exit-with-agents", "--exit-with-agents=some"],
        "harness" => &["--harness ''"],
        "max-agents" => &[
            "--max-agents x",
            "--max-agents 1 --agent a=cat --agent b=cat",
        ],
        "node-id" => &["--node-id ''", "--node-id 'a b c'"],
        "grace" => &["--grace soon", "--grace 5", "--grace 1000days"],
        "drain" => &["--drain soon", "--drain 1000days"],
        "ready-grace" => &["--ready-grace soon", "--ready-grace 1000days"],
        "stuck-after" => &["--if-not-running --stuck-after 1000days"],
        "message-ttl" => &["--message-ttl soon", "--message-ttl 1000000days"],
        "blocked-limit" => &["--blocked-limit soon", "--blocked-limit 1000000days"],
        "ca-file" => &[
            "--engine https://engine.example --workspace-key rk_1 --ca-file /no/such/file",
            "--engine https://engine.example --workspace-key rk_1 --ca-file /dev/null",
            "--engine http://localhost:1 --workspace-key rk_1 --ca-file ca.pem",
        ],
        "metrics-key-file" => &[
            "--metrics-key-file /no/such/file",
            "--metrics-key-file /dev/null",
        ],
        "max-pending" => &["--max-pending 0", "--max-pending many"],
        "max-pending-local" => &["--max-pending-local 0"],
        "max-pending-bytes" => &["--max-pending-bytes 0"],
        "log-format" => &["--log-format xml"],
        "log-level" => &["--log-level loud"],
        "log-file" => &["--log-file /no/such/folder/x", "--log-file /"],
        "state-dir" => &["--state-dir /dev/null"],
        "require-state-dir" => &["--require-state-dir --state-dir /no/such/folder"],
        "allow-plain-http" | "strict-journal" | "trust-state-dir" | "if-not-running" | "detach" => {
            &[]
        }
        // For clients that pass them, and for the program itself.
        "channels" | "persist" | "detached" => &[],
        // Of every command.
        "json" | "help" => &[],
        flag => panic!("--{flag} needs a wrong value here, or to be one that cannot be wrong"),
    }
}

/// The exit code and what is said of a command line of `check`, which takes what `up` takes.
fn judged(rest: &str) -> Vec<(Sysexit, String)> {
    let words = shell_words::split(&format!("relay-broker check {rest}")).expect("words");
    let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
    let cli = match args::parse(&words) {
        Ok(cli) => cli,
        Err(failure) => return vec![(failure.code, failure.text)],
    };
    let Command::Check(args) = cli.command else {
        panic!("another command");
    };
    let place = Surroundings {
        cwd: Some("/".into()),
        exe: "/bin/relay-broker".into(),
    };
    let env = Env::new(|name| (name == "PATH").then(|| "/usr/bin:/bin".into()));
    let mut flags = args.flags.clone();
    flags.state_dir = cli.state_dir;
    let examination = config::examine(&flags, &env, &place);
    let missing = config::missing(&flags, &env, &place, &examination);
    let missing = missing.into_iter().map(|finding| finding.error);
    let all = args.wrong.into_iter().chain(examination.errors);
    let all = all.chain(missing);
    all.map(|e| (e.exit, e.text)).collect()
}

#[test]
fn every_flag_that_cannot_be_meant_is_named_with_the_way_out() {
    let mut program = Cli::command();
    program.build();
    let up = program.find_subcommand("up").expect("a command");
    let flags: Vec<&str> = up.get_arguments().filter_map(clap::Arg::get_long).collect();
    assert!(flags.len() > 30, "{flags:?}");
    for flag in flags {
        for line in wrong(flag) {
            let found = judged(line);
            let of_it = |(_, text): &&(Sysexit, String)| text.contains(&format!("--{flag}"));
            let (code, text) = found
                .iter()
                .find(of_it)
                .unwrap_or_else(|| panic!("{line}: {found:?}"));
            assert!(
                matches!(code, Sysexit::Usage | Sysexit::Config),
                "{line}: {text}"
            );
            assert!(text.contains("; "), "{line} has no way out: {text}");
            assert!(!text.contains('\n'), "{line}: {text}");
        }
    }
}

#[test]
fn all_flags_that_cannot_be_meant_are_named_in_one_run_and_what_is_right_stays() {
    let line = "--grace soon --api-port=x --drain 1000days --name '' --log-format xml --bogus --engine-listen x \
                --max-pending 0 --stuck-after 1s --grace 2s --workspace-key rk_1 --workspace-key-file /no/such/file";
    let found = judged(line);
    for flag in [
        "'--grace <TIME>'",
        "'--api-port <PORT>'",
        "'--drain <TIME>'",
        "--name is",
        "'--log-format <FORMAT>'",
        "'--bogus'",
        "'--engine-listen <ADDR>'",
        "'--max-pending <N>'",
        "--if-not-running",
        "--workspace-key",
    ] {
        let named = found.iter().filter(|(_, text)| text.contains(flag));
        assert!(named.count() > 0, "{flag}: {found:#?}");
    }
    assert!(found.len() >= 10, "{found:#?}");
    assert!(
        found.iter().all(|(_, text)| text.contains("; ")),
        "{found:#?}"
    );
}

#[test]
fn every_flag_that_can_be_wrong_has_a_row_in_what_is_shown() {
    let mut program = Cli::command();
    program.build();
    let up = program.find_subcommand("up").expect("a command");
    let shown = config::flags_shown();
    for flag in up
        .get_arguments()
        .filter(|arg| !arg.is_hide_set())
        .filter_map(clap::Arg::get_long)
    {
        assert!(
            shown.contains(&flag) || ["json", "help"].contains(&flag),
            "--{flag}"
        );
    }
}
