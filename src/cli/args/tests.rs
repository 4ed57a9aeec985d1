use super::*;
use crate::sys::sysexit::Sysexit;

fn words(text: &str) -> Result<Cli, Failure> {
    let words = shell_words::split(text).expect("quotes");
    let args: Vec<OsString> = std::iter::once("relay-broker".to_owned())
        .chain(words)
        .map(Into::into)
        .collect();
    parse(&args)
}

#[test]
fn the_definitions_agree_with_themselves() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
}

#[test]
fn every_command_explains_itself_with_an_example() {
    use clap::CommandFactory;
    let program = Cli::command();
    let commands = program
        .get_subcommands()
        .flat_map(|c| std::iter::once(c).chain(c.get_subcommands()));
    for command in commands.filter(|c| !c.is_hide_set()) {
        let help = command.get_after_help().map(ToString::to_string);
        assert!(
            help.is_some_and(|text| text.contains("Example: ")),
            "{} has no example",
            command.get_name()
        );
    }
}

#[test]
fn a_command_after_two_dashes_is_left_alone() {
    let cli = words("spawn ada --task 'be quick' -- sh -c 'echo $1' --json").expect("fine");
    let Command::Spawn(spawn) = cli.command else {
        panic!("another command");
    };
    assert_eq!(spawn.command, ["sh", "-c", "echo $1", "--json"]);
    assert!(!cli.json);
}

#[test]
fn the_state_folder_is_understood_on_either_side_of_the_command() {
    for line in ["--state-dir /s up", "up --state-dir /s"] {
        let cli = words(line).expect("fine");
        let Command::Up(flags) = cli.command else {
            panic!("another command");
        };
        assert_eq!(flags.state_dir, Some("/s".into()), "{line}");
    }
}

#[test]
fn the_command_line_of_existing_clients_starts_a_broker() {
    let cli = words(
        "init --instance-name shop --channels general,dev --persist --api-port 3889 \
         --api-bind 127.0.0.1 --state-dir /s",
    );
    let help = words("init --help").expect_err("shown").text;
    assert!(help.contains("kill of an agent [default: 2s]"), "{help}");
    let Ok(Cli {
        command: Command::Init(init),
        ..
    }) = cli
    else {
        panic!("not understood: {cli:?}");
    };
    assert_eq!(init.instance_name.as_deref(), Some("shop"));
    assert_eq!(
        (init.persist, init.channels.as_str()),
        (true, "general,dev")
    );
    assert_eq!(
        (init.up.api_port, init.up.state_dir),
        (Some(3889), Some("/s".into()))
    );
}

#[test]
fn under_upstreams_name_the_program_says_that_name() {
    let args = ["/usr/bin/agent-relay-broker", "--version"].map(OsString::from);
    let shown = parse(&args).expect_err("shown");
    let version = format!("agent-relay-broker {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((shown.code, shown.text), (Sysexit::Success, version));
}

#[test]
fn a_usage_error_is_one_line_with_a_way_out() {
    for (line, word) in [
        ("", "no command given"),
        (
            "config",
            "write `relay-broker config show`; see `relay-broker config --help`",
        ),
        ("actions", "write `relay-broker actions run`; see"),
        (
            "sned ada hi",
            "similar subcommand exists: 'send'; see `relay-broker --help`",
        ),
        ("relese ada", "exists: 'release'"),
        ("stpo", "exists: 'stop'"),
        ("send ada", "see `relay-broker send --help`"),
        ("journal look", "see `relay-broker journal --help`"),
        (
            "journal show --limit x",
            "see `relay-broker journal show --help`",
        ),
        (
            "spawn ada --taks x -- cat",
            "see `relay-broker spawn --help`",
        ),
        ("send ada", "<TEXT>"),
        ("up --api-port x", "--api-port"),
        ("send ada hi --timeout soon", "--timeout"),
        (
            "up --workspace-key rk_1 --workspace-key-file f",
            "--workspace-key-file",
        ),
    ] {
        let failure = words(line).expect_err("refused");
        assert_eq!(failure.code, Sysexit::Usage, "{line}");
        assert!(failure.text.contains(word), "{line}: {}", failure.text);
        assert!(!failure.text.contains('\n'), "{line}: {}", failure.text);
    }
}

/// Behind two dashes stands a command for `spawn`, and words of any kind only for `send`.
#[test]
fn an_option_that_does_not_exist_is_passed_on_only_where_that_has_a_meaning() {
    for (line, hint) in [
        ("spawn ada -x", Some("write the command as `-- CMD`")),
        ("spawn ada -x -- cat", None),
        ("spawn ada cat", Some("write the command as `-- CMD`")),
        ("send ada -x", Some("use '-- -x'")),
        ("wait ada -x", None),
        ("attach ada -x", None),
        ("up -x", None),
    ] {
        let text = words(line).expect_err("refused").text;
        for any in ["use '-- -x'", "write the command as"] {
            let expected = hint.is_some_and(|hint| hint.starts_with(any));
            assert_eq!(text.contains(any), expected, "{line}: {text}");
        }
    }
}

#[test]
fn nobody_is_led_from_one_word_to_another_that_stops_something() {
    for line in [
        "reload ada",
        "relocate ada",
        "replace ada",
        "reset ada",
        "start ada",
        "validate ada",
        "up --daemon",
        "--daemon",
        "status-quo",
    ] {
        let failure = words(line).expect_err("refused");
        for stops in ["release", "restart", " stop", "'stop'"] {
            assert!(!failure.text.contains(stops), "{line}: {}", failure.text);
        }
    }
}

#[test]
fn words_of_other_tools_lead_to_what_is_meant_and_flags_only_to_their_like() {
    for (line, tip) in [
        ("start", Some("tip: here that is `relay-broker up`")),
        ("--daemon", Some("here that is `relay-broker up --detach`")),
        (
            "up --daemon",
            Some("here that is `relay-broker up --detach`"),
        ),
        ("up --detahc", Some("a similar argument exists: '--detach'")),
        ("up --daemons", None),
        ("kill ada", None),
    ] {
        let text = words(line).expect_err("refused").text;
        match tip {
            Some(tip) => assert!(text.contains(tip), "{line}: {text}"),
            None => assert!(!text.contains("tip:"), "{line}: {text}"),
        }
        assert!(!text.contains("--drain"), "{line}: {text}");
    }
}

#[test]
fn asking_for_help_is_no_failure() {
    assert_eq!(
        words("up --help").expect_err("shown").code,
        Sysexit::Success
    );
    assert_eq!(
        words("--version").expect_err("shown").code,
        Sysexit::Success
    );
}
