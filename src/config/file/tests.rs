use super::*;
use crate::config::keys::TABLES;
use crate::wire::local::RestartWhen;

fn parsed(text: &str) -> Result<Configured, String> {
    let (configured, errors) = parse(text, Path::new("/p/relay-broker.toml"));
    match errors.into_iter().next() {
        None => Ok(Configured {
            path: None,
            said: Vec::new(),
            profiles: 0,
            ..configured
        }),
        Some(e) => Err(e.text),
    }
}

#[test]
fn harnesses_and_actions_are_read_with_their_defaults() {
    let all = parsed(
        "[harness.claude]\ncommand = \"claude\"\nargs = [\"--model\", \"opus\"]\n\
         [action.deploy]\ncommand = [\"./deploy.sh\"]\ntimeout = \"5s\"\nconcurrency = 1\n",
    )
    .expect("fine");
    assert_eq!(all.harnesses["claude"].args, ["--model", "opus"]);
    let deploy = &all.actions["deploy"];
    assert_eq!(
        (deploy.timeout, deploy.concurrency),
        (Duration::from_secs(5), 1)
    );
    assert_eq!(deploy.cwd.as_deref(), Some("/p/"), "beside the file");
    assert_eq!(parsed(""), Ok(Configured::default()));
    let all = parsed(
        "[harness.mine]\ncommand = \"my-claude\"\nprofile = \"slow\"\n\
         [harness.env]\ncommand = \"env\"\nargs = [\"A=1\", \"claude\"]\ntrust_folder = \"accept\"\n\
         [profile.slow]\nlike = \"claude\"\nready_within = \"2m\"\n",
    )
    .expect("fine");
    assert_eq!(
        all.harnesses["mine"].treatment.profile.as_deref(),
        Some("slow")
    );
    let env = &all.harnesses["env"].treatment;
    assert_eq!(
        (env.trust_folder, env.permission),
        (Some(Policy::Accept), None)
    );
    assert!(all.rows.get("slow").is_some_and(|row| row.composer));
}

#[test]
fn a_declared_agent_is_the_wish_that_a_person_would_have_typed() {
    let all = parsed(
        "[harness.\"my claude\"]\ncommand = \"claude\"\n\
         [agent.ada]\ncommand = \"sh -c 'exit 1'\"\nargs = [\"x\"]\ncwd = \"work\"\nenv = { A = \"1\" }\n\
         restart = \"always\"\nmax_restarts = 3\nmax_failures = 2\ncooldown = \"90s\"\ntask = \"begin\"\nprofile = \"claude\"\n\
         [agent.bob]\nharness = \"my claude\"\nenv = \"clean\"\nenv_allow = [\"A_*\"]\n\
         [agent.eve]\ncommand = \"cat\"\nrestart = \"never\"\n",
    )
    .expect("fine");
    let [ada, bob, eve] = &all.agents[..] else {
        panic!("{:?}", all.agents);
    };
    assert_eq!(ada.cli.as_deref(), Some("sh -c 'exit 1'"));
    assert_eq!(ada.args, ["x"]);
    assert_eq!(ada.cwd.as_deref(), Some("/p/work"), "beside the file");
    assert_eq!((&ada.env["A"], &ada.env_allow), (&"1".to_owned(), &None));
    assert_eq!(
        (ada.task.as_deref(), ada.profile.as_deref()),
        (Some("begin"), Some("claude"))
    );
    let policy = ada.restart_policy.clone().expect("a policy");
    assert_eq!((policy.when, policy.max_restarts), (RestartWhen::Always, 3));
    assert_eq!(policy.max_consecutive_failures, 2);
    assert_eq!(
        (policy.cooldown_ms, policy.max_cooldown_ms),
        (90_000, Some(90_000))
    );
    assert_eq!(bob.cli.as_deref(), Some("'my claude'"));
    assert_eq!(bob.env_allow, Some(vec!["A_*".to_owned()]));
    let policy = bob.restart_policy.clone().expect("a policy");
    assert_eq!(
        (policy.when, policy.max_restarts),
        (RestartWhen::OnFailure, 0)
    );
    assert_eq!(
        (policy.cooldown_ms, policy.max_cooldown_ms),
        (2000, Some(60_000))
    );
    assert_eq!(eve.restart_policy, None);
}

/// The example that is shipped, with all that is set in it in force: a mark directly before a word or a bracket.
fn example() -> String {
    let text = include_str!("../../../packaging/relay-broker.toml");
    let set = |line: &str| {
        let words = line.strip_prefix('#')?;
        let first = words.chars().next()?;
        (first == '[' || first.is_ascii_lowercase()).then(|| words.to_owned())
    };
    let lines = text
        .lines()
        .map(|line| set(line).unwrap_or(line.to_owned()));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_shipped_example_sets_every_key_and_all_of_it_is_accepted() {
    let all = parsed(&example()).expect("accepted");
    assert!(all.harnesses.contains_key("reviewer") && all.actions.contains_key("deploy"));
    assert_eq!(
        parsed(include_str!("../../../packaging/relay-broker.toml")),
        Ok(Configured::default()),
        "and as it is shipped nothing is in force"
    );
    let example: toml::Table = example().parse().expect("TOML");
    for kind in &TABLES {
        let tables = example[kind.name].as_table().expect("a table");
        for key in kind.keys {
            if !kind.named {
                assert!(
                    tables.get(key.name).is_some(),
                    "[{}] {}",
                    kind.name,
                    key.name
                );
                continue;
            }
            // Some keys of agents exclude each other, so there are two of them.
            let shown = |table: &toml::Value| table.get(key.name).is_some();
            let by_each = tables.values().all(shown);
            let by_one = kind.name == "agent" && tables.values().any(shown);
            assert!(by_each || by_one, "[{}.…] {}", kind.name, key.name);
        }
    }
}

#[test]
fn what_cannot_be_meant_is_named_with_file_and_line() {
    for (text, says) in [
        (
            "[harness.x]\ncomand = \"x\"",
            ":2: [harness.x] comand is not a key; did you mean command?",
        ),
        (
            "[action.x]\n",
            ":1: [action.x] has no command; write command = [",
        ),
        ("[action.x]\ncommand = []", "[action.x] has no command"),
        ("[action.spawn]\ncommand = [\"x\"]", "serves itself"),
        (
            "[action.x]\ncommand = [\"x\"]\ntimeout = \"soon\"",
            ":3: [action.x] timeout is \"soon\"; a time, which is a text with a number and a unit is expected",
        ),
        (
            "[action.x]\ncommand = [\"x\"]\nconcurrency = 0",
            ":3: [action.x] concurrency is 0; a whole number from 1 to 10000 is expected, such as concurrency = 4",
        ),
        (
            "[harness.x]\ncommand = \"x\"\nprofile = \"y\"",
            "profile = \"y\" names none of claude, codex",
        ),
        (
            "[harness.x]\ncommand = \"x\"\ntrust_folder = \"accept\"",
            "[harness.x] trust_folder = \"accept\" has no effect",
        ),
        (
            "[harness.x]\ncommand = \"claude\"\npermission = \"accept\"",
            ":3: [harness.x] permission is \"accept\"; one of \"hold\", \"deny\" is expected",
        ),
        (
            "[profile.x]\nstach = \"y\"",
            ":2: [profile.x] stach is not a key; did you mean stash?",
        ),
        (
            "[profile.x]\nenter_after = \"soon\"",
            ":2: [profile.x] enter_after is \"soon\"",
        ),
        (
            "harness = 1",
            ":1: harness is a table; write [harness.NAME] and its keys below",
        ),
        ("[", ":1: "),
    ] {
        refused(text, says);
    }
}

#[test]
fn what_cannot_be_meant_of_a_declared_agent_is_named_with_file_and_line() {
    for (text, says) in [
        (
            "[agent.x]\ncomand = \"x\"",
            ":2: [agent.x] comand is not a key; did you mean command?",
        ),
        (
            "\n[agent.x]\nargs = []",
            ":2: [agent.x] names no program; write command",
        ),
        (
            "[agent.\"a/b\"]\ncommand = \"x\"",
            ":1: [agent.a/b] is no name: ",
        ),
        (
            "[agent.x]\ncommand = \"x\"\nharness = \"y\"",
            ":3: [agent.x] has both command and harness",
        ),
        (
            "[agent.x]\ncommand = \" \"",
            ":2: [agent.x] has an empty command",
        ),
        (
            "[agent.x]\ncommand = \"sh 'x\"",
            ":2: [agent.x] command = \"sh 'x\" has an open quote; close it",
        ),
        (
            "[agent.x]\nharness = \"y\"\n[harness.z]\ncommand = \"z\"",
            ":2: [agent.x] harness = \"y\" names no harness (there is z); a program goes into command",
        ),
        (
            "[agent.x]\ncommand = \"x\"\nenv = { RELAY_AGENT_NAME = \"y\" }",
            ":3: [agent.x] env has RELAY_AGENT_NAME, which has no effect",
        ),
        (
            "[agent.x]\ncommand = \"x\"\nenv = \"bare\"",
            ":3: [agent.x] env is \"bare\"; a table of texts, or \"clean\" is expected, such as env = { STAGE = \"test\" }",
        ),
        (
            "[agent.x]\ncommand = \"x\"\nenv_allow = [\"A\"]",
            ":3: [agent.x] env_allow has no effect",
        ),
        (
            "[agent.x]\ncommand = \"x\"\nenv = \"clean\"\nenv_allow = [\"A\",\n\"A=1\"]",
            ":5: [agent.x] env_allow has \"A=1\", which is no variable",
        ),
        (
            "[agent.x]\ncommand = \"x\"\nrestart = \"never\"\ncooldown = \"1s\"",
            ":4: [agent.x] max_restarts, max_failures and cooldown say how it is started again",
        ),
        (
            "[agent.x]\ncommand = \"x\"\nrestart = \"sometimes\"",
            ":3: [agent.x] restart is \"sometimes\"; one of \"never\", \"on-failure\", \"always\" is expected",
        ),
        (
            "[agent.x]\ncommand = \"x\"\ncooldown = \"soon\"",
            ":3: [agent.x] cooldown is \"soon\"; a time",
        ),
        (
            "[agent.x]\ncommand = \"x\"\ntask = \"\"",
            ":3: [agent.x] task has no words",
        ),
        (
            "[agent.x]\ncommand = \"x\"\nprofile = \"y\"",
            ":3: [agent.x] profile = \"y\" names none of claude, codex",
        ),
        (
            "[agent.Ada]\ncommand = \"x\"\n[agent.ada]\ncommand = \"x\"",
            ":3: [agent.ada] and [agent.Ada] are one address",
        ),
    ] {
        refused(text, says);
    }
}

fn refused(text: &str, says: &str) {
    let why = parsed(text).expect_err("refused");
    assert!(why.starts_with("/p/relay-broker.toml:"), "{why}");
    assert!(why.contains(says) && !why.contains('\n'), "{text:?}: {why}");
}

#[test]
fn everything_that_is_wrong_in_a_file_is_found_in_one_reading() {
    let text = "[log]\nlevel = \"loud\"\n\
                [harness.x]\nargs = \"y\"\n\
                [agent.ada]\ncommand = \"sh 'x\"\ncooldown = 3\nprofile = \"y\"\nenv = { \"A=1\" = \"x\", B = 2 }\n\
                [agents.bob]\ncommand = \"x\"\n\
                [profile.slow]\nlike = \"vim\"\n\
                [agent.eve]\ncommand = \"x\"\nprofile = \"slow\"\ntask = \"a\\u0000b\"";
    let (_, errors) = parse(text, Path::new("/p/relay-broker.toml"));
    let found: Vec<String> = errors.into_iter().map(|e| e.text).collect();
    let expected = [
        ":2: [log] level = \"loud\" is none of",
        ":3: [harness.x] has no command; write command = \"claude\"",
        ":4: [harness.x] args is \"y\"; a list of texts is expected, such as args = [",
        ":6: [agent.ada] command = \"sh 'x\" has an open quote",
        ":7: [agent.ada] cooldown is 3; a time, which is a text",
        ":8: [agent.ada] profile = \"y\" names none of slow, claude",
        ":9: [agent.ada] env sets B to something that is no text",
        ":10: \"agents\" is not known here; did you mean [agent.NAME]?",
        ":13: [profile.slow] like = \"vim\": only claude",
        ":17: [agent.eve] task holds a NUL byte",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn a_table_that_needs_a_name_says_so() {
    for (text, says) in [
        (
            "[agent]\ncommand = \"x\"",
            ":2: [agent] holds \"command\", but each has a name of its own; write [agent.NAME] above it",
        ),
        (
            "[[agent]]\ncommand = \"x\"",
            ":1: agent is a table; write [agent.NAME]",
        ),
        (
            "[agent.x]\ncommand = \"x\"\nx = 1",
            ":3: [agent.x] x is not a key; the keys of [agent.NAME] are command, harness",
        ),
        (
            "[agent.x]\ncommand = \"x\"\nenv = { \"A=1\" = \"x\" }",
            ":3: [agent.x] env has \"A=1\"",
        ),
        ("[agent.x]\ncommand = \"x\"\ncommand = \"y\"", ":3: "),
    ] {
        refused(text, says);
    }
}

#[test]
fn what_agents_may_send_each_other_is_read_and_a_window_of_nothing_is_refused() {
    let text = "[loops]\npair_limit = 3\npair_window = \"1h\"\nchain_limit = 0\nchain_pause = \"2m\"\nsteer_from = \"people\"\n";
    let talk = parsed(text).expect("accepted").talk;
    let wanted = TalkLimits {
        pair: 3,
        window: Duration::from_secs(3600),
        chain: 0,
        pause: Duration::from_secs(120),
        steer_from: SteerFrom::People,
    };
    assert_eq!(talk, wanted);
    let nothing = parsed("[loops]\npair_window = \"0s\"\n").expect_err("counts nothing");
    assert!(nothing.contains("pair_limit = 0 for no limit"), "{nothing}");
    let nothing = parsed("[loops]\nchain_pause = \"0s\"\n").expect_err("no chain");
    assert!(
        nothing.contains("chain_limit = 0 for no limit"),
        "{nothing}"
    );
}
