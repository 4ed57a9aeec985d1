//! What flags and variables come to, with a made-up environment.

mod wrong;

use std::ffi::OsString;
use std::path::Path;

use super::plan::harnesses;
use super::*;
use crate::msg::Secret;

fn env(pairs: &[(&'static str, &str)]) -> Env {
    let pairs: Vec<(&str, OsString)> = pairs.iter().map(|(k, v)| (*k, v.into())).collect();
    Env::new(move |name| {
        pairs
            .iter()
            .find(|(k, _)| *k == name)
            .map(|(_, v)| v.clone())
    })
}

fn place() -> Surroundings {
    Surroundings {
        cwd: Some("/home/ann/shop".into()),
        exe: "/bin/relay-broker".into(),
    }
}

fn remote(url: &str, key: &str) -> EngineChoice {
    EngineChoice::Remote {
        url: url.into(),
        key: Secret::new(key),
    }
}

#[test]
fn without_url_and_key_the_engine_is_our_own() {
    let plan = plan(&Flags::default(), &env(&[]), &place()).expect("plan");
    assert_eq!(plan.engine, EngineChoice::Embedded { listen: None });
    assert_eq!(plan.name(), "shop");
    assert_eq!(plan.state_dir(), Path::new("/home/ann/shop/.relay-broker"));
}

#[test]
fn a_key_alone_leads_to_the_hosted_engine() {
    let plan = plan(
        &Flags::default(),
        &env(&[("RELAY_API_KEY", "rk_live_1")]),
        &place(),
    );
    assert_eq!(
        plan.expect("plan").engine,
        remote(HOSTED_ENGINE, "rk_live_1")
    );
}

#[test]
fn a_url_alone_is_refused_and_the_variable_to_set_is_named() {
    let flags = Flags {
        engine: Some("http://127.0.0.1:8787".into()),
        ..Flags::default()
    };
    let error = plan(&flags, &env(&[]), &place()).expect_err("no key");
    assert!(error.text.contains("--engine") && error.text.contains("RELAY_WORKSPACE_KEY"));
}

#[test]
fn an_address_that_leads_elsewhere_than_it_says_is_refused_and_a_password_in_it_is_not_shown() {
    let chosen = |url: &str| {
        let flags = Flags {
            engine: Some(url.into()),
            ..Flags::default()
        };
        plan(&flags, &env(&[("RELAY_API_KEY", "rk_live_1")]), &place())
    };
    for url in [
        "http://127.0.0.1:8787/",
        "https://engine.example",
        "http://[::1]:8787",
        "https://engine.example/base",
    ] {
        let whole = url.trim_end_matches('/');
        assert_eq!(chosen(url).expect(url).engine, remote(whole, "rk_live_1"));
    }
    for url in [
        "http://127.0.0.1:99999",
        "http://engine.example:port",
        "http://engine.example:0",
        "https://engine.example/x?y=1",
        "ftp://engine.example",
        "http://",
        "engine.example",
    ] {
        let error = chosen(url).expect_err(url);
        assert!(
            error.text.contains("--engine must be a URL"),
            "{}",
            error.text
        );
    }
    let error = chosen("http://ann:secret@engine.example").expect_err("a login");
    assert!(!error.text.contains("secret"), "{}", error.text);
}

#[test]
fn variables_win_in_the_order_existing_clients_rely_on() {
    let vars = env(&[
        ("RELAY_BASE_URL", "http://b:1"),
        ("RELAYCAST_BASE_URL", "http://a:1/"),
        ("RELAY_API_KEY", "rk_3"),
        ("RELAY_WORKSPACE_KEY", "rk_2"),
        ("AGENT_RELAY_WORKSPACE_KEY", "rk_1"),
    ]);
    let by_env = plan(&Flags::default(), &vars, &place()).expect("plan");
    assert_eq!(by_env.engine, remote("http://a:1", "rk_1"));
    let flags = Flags {
        engine: Some("https://c".into()),
        workspace_key: Some("rk_0".into()),
        ..Flags::default()
    };
    let by_flag = plan(&flags, &vars, &place()).expect("plan");
    assert_eq!(by_flag.engine, remote("https://c", "rk_0"));
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let vars = env(&[("RELAY_API_KEY", ""), ("RELAY_BASE_URL", "")]);
    let plan = plan(&Flags::default(), &vars, &place()).expect("plan");
    assert_eq!(plan.engine, EngineChoice::Embedded { listen: None });
}

#[test]
fn a_file_wins_over_the_value_and_loses_its_newline() {
    let file = std::env::temp_dir().join(format!("relay-config-{}", std::process::id()));
    std::fs::write(&file, "rk_from_file\n").expect("temp file");
    let path = file.to_str().expect("utf-8").to_owned();
    let vars = env(&[
        ("RELAY_WORKSPACE_KEY", "rk_from_value"),
        ("RELAY_WORKSPACE_KEY_FILE", &path),
    ]);
    let found = vars.workspace_key();
    std::fs::remove_file(&file).expect("still there");
    assert_eq!(
        found,
        Ok(Some(("RELAY_WORKSPACE_KEY", "rk_from_file".to_owned())))
    );
    let gone = vars.workspace_key().expect_err("no such file");
    assert!(gone.text.starts_with("RELAY_WORKSPACE_KEY_FILE names "));
}

#[test]
fn a_wrong_key_is_refused_without_being_shown() {
    let vars = env(&[("RELAY_API_KEY", "sk_secret")]);
    let error = plan(&Flags::default(), &vars, &place()).expect_err("not rk_");
    assert!(
        error
            .text
            .starts_with("RELAY_API_KEY is not a workspace key")
    );
    assert!(!error.text.contains("sk_secret"));
}

#[test]
fn a_node_id_is_taken_word_for_word_unless_no_line_could_hold_it() {
    for wrong in [" ", "a\nb", "a\u{1b}[2J", &"x".repeat(129)] {
        let flags = Flags {
            node_id: Some(wrong.to_owned()),
            ..Flags::default()
        };
        let by_flag = plan(&flags, &env(&[]), &place()).expect_err(wrong).text;
        assert!(by_flag.starts_with("--node-id is "), "{by_flag}");
        let vars = env(&[("RELAY_NODE_ID", wrong)]);
        let error = plan(&Flags::default(), &vars, &place())
            .expect_err(wrong)
            .text;
        assert!(error.starts_with("RELAY_NODE_ID is "), "{error}");
        assert!(error.contains("a node id has 1 to 128 bytes"), "{error}");
    }
    for right in [
        "node_0a1b2c",
        "box-1.example.com:2",
        "7",
        "../x y",
        "The 3rd box/of Zo\u{eb}",
    ] {
        let vars = env(&[("RELAY_NODE_ID", right)]);
        let plan = plan(&Flags::default(), &vars, &place()).expect(right);
        let settings = plan.settings("http://localhost", &Secret::new("rk_x"));
        assert_eq!(settings.node.node_id.as_deref(), Some(right));
    }
    let flags = Flags {
        node_id: Some("a b c".to_owned()),
        ..Flags::default()
    };
    let slip = plan(&flags, &env(&[]), &place()).expect_err("blanks");
    assert!(slip.text.contains("--node-id is \"a b c\"") && slip.text.contains("RELAY_NODE_ID"));
}

#[test]
fn names_come_from_flag_then_variable_then_folder_then_project() {
    let vars = env(&[("AGENT_RELAY_BROKER_NAME", "by-env")]);
    let flags = Flags {
        name: Some("by-flag".into()),
        ..Flags::default()
    };
    let name = |flags: &Flags, env: &Env, place: &Surroundings| {
        plan(flags, env, place).expect("plan").name().to_owned()
    };
    assert_eq!(name(&flags, &vars, &place()), "by-flag");
    assert_eq!(name(&Flags::default(), &vars, &place()), "by-env");
    let root = Surroundings {
        cwd: Some("/".into()),
        ..place()
    };
    assert_eq!(name(&Flags::default(), &env(&[]), &root), "project");
}

#[test]
fn without_a_working_directory_full_paths_serve_and_others_are_refused_with_the_way_out() {
    let nowhere = Surroundings {
        cwd: None,
        ..place()
    };
    let flags = Flags {
        state_dir: Some("/s".into()),
        ..Flags::default()
    };
    let found = plan(&flags, &env(&[]), &nowhere).expect("plan");
    assert_eq!(
        (found.state_dir(), found.name()),
        (Path::new("/s"), "project")
    );
    let error = plan(&Flags::default(), &env(&[]), &nowhere).expect_err("no place");
    assert!(error.text.contains("--state-dir"), "{error}");
    let flags = Flags {
        config: Some("mine.toml".into()),
        ..flags
    };
    let error = plan(&flags, &env(&[]), &nowhere).expect_err("no place");
    assert!(error.text.contains("mine.toml"), "{error}");
}

#[test]
fn the_data_folder_follows_xdg_then_home_then_the_state_folder() {
    let state = Path::new("/s");
    let dir = |pairs: &[(&'static str, &str)]| env(pairs).data_dir(state);
    assert_eq!(
        dir(&[("XDG_DATA_HOME", "/x"), ("HOME", "/h")]),
        Path::new("/x/agent-relay")
    );
    assert_eq!(
        dir(&[("XDG_DATA_HOME", "rel"), ("HOME", "/h")]),
        Path::new("/h/.local/share/agent-relay")
    );
    assert_eq!(dir(&[]), state);
}

#[test]
fn agents_on_the_command_line_are_checked_before_anything_starts() {
    let with = |agents: &[&str]| {
        let flags = Flags {
            agents: agents.iter().map(|a| (*a).to_owned()).collect(),
            ..Flags::default()
        };
        plan(&flags, &env(&[]), &place())
            .map(|plan| plan.settings("http://e/", &Secret::new("rk_1")).node.agents)
    };
    let agents = with(&["ada=claude --model 'x y'", "bob=sh -c 'A=1 cat'"]).expect("fine");
    assert_eq!(agents[0].cli.as_deref(), Some("claude --model 'x y'"));
    assert_eq!(agents[1].cli.as_deref(), Some("sh -c 'A=1 cat'"));
    for (bad, word) in [
        (&["ada"][..], "NAME=CMD"),
        (&["=cat"], "empty"),
        (&["ada="], "no command"),
        (&["ada='cat"], "open quote"),
        (&["ada=cat", "ada=cat"], "twice"),
    ] {
        let error = with(bad).expect_err("refused");
        assert!(error.text.contains(word), "{bad:?}: {error}");
    }
}

#[test]
fn the_node_offers_what_it_is_told_and_else_what_is_installed() {
    let offered = |flags: &Flags, pairs: &[(&'static str, &str)]| {
        harnesses(flags, &env(pairs)).expect("plain text")
    };
    let told = Flags {
        harnesses: vec!["mine".into()],
        ..Flags::default()
    };
    let listed = [("AGENT_RELAY_NODE_HARNESSES", "claude, codex,")];
    assert_eq!(offered(&told, &listed), ["mine"]);
    assert_eq!(offered(&Flags::default(), &listed), ["claude", "codex"]);
    let nowhere = [("PATH", "/nonexistent")];
    assert!(offered(&Flags::default(), &nowhere).is_empty());
}

#[test]
fn colours_are_off_when_the_user_says_so() {
    assert!(env(&[("NO_COLOR", "1")]).no_color());
    assert!(env(&[("TERM", "dumb")]).no_color());
    assert!(!env(&[("NO_COLOR", "")]).no_color());
}

#[test]
fn an_engine_without_encryption_stays_on_this_machine_unless_the_risk_is_named() {
    let listening = |address: &str, allow_plain_http| Flags {
        engine_listen: Some(address.parse().expect("an address")),
        allow_plain_http,
        ..Flags::default()
    };
    for (address, allowed, fine) in [
        ("127.0.0.1:8787", false, true),
        ("[::1]:8787", false, true),
        ("0.0.0.0:8787", false, false),
        ("192.0.2.10:8787", false, false),
        ("[::]:8787", false, false),
        ("192.0.2.10:8787", true, true),
    ] {
        let flags = listening(address, allowed);
        match plan(&flags, &env(&[]), &place()) {
            Ok(plan) => assert!(fine && plan.allow_plain_http == allowed, "{address}"),
            Err(ConfigError { text: words, .. }) => {
                assert!(!fine, "{address}: {words}");
                assert!(words.contains("--allow-plain-http") && words.contains("127.0.0.1:8787"));
            }
        }
    }
}

#[test]
fn the_local_api_stays_on_this_machine_unless_the_risk_is_named() {
    for (address, allowed, fine) in [
        ("127.0.0.1", false, true),
        ("127.8.8.8", false, true),
        ("::1", false, true),
        ("0.0.0.0", false, false),
        ("::", false, false),
        ("192.0.2.10", false, false),
        ("0.0.0.0", true, true),
    ] {
        let flags = Flags {
            api_bind: Some(address.parse().expect("an address")),
            allow_plain_http: allowed,
            ..Flags::default()
        };
        match plan(&flags, &env(&[]), &place()) {
            Ok(_) => assert!(fine, "{address}"),
            Err(ConfigError { text: words, .. }) => {
                assert!(!fine, "{address}: {words}");
                assert!(words.contains("--api-bind") && words.contains("--allow-plain-http"));
            }
        }
    }
}
