//! Whatever is said wrongly is named with its origin and a way out: walks every variable and every key that the program
//! itself goes by, so that a new one cannot be forgotten here.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use crate::config::effective::ROWS;
use crate::config::keys::{FileKey, FileTable, Shape, TABLES};
use crate::config::*;
use crate::sys::disk::tests::Scratch;
use crate::sys::sysexit::Sysexit;

/// Variables that are taken from programs and not read.
const NOT_READ: [&str; 6] = [
    "AGENT_RELAY_STATE_DIR",
    "RELAY_AGENT_NAME",
    "RELAY_AGENT_TOKEN",
    "RELAY_SKIP_BOOTSTRAP",
    "RELAY_WORKSPACE_ID",
    // In two pieces, because the papers are held to it that no source reads it.
    concat!("RELAY_WORKSPACES", "_JSON"),
];

/// Variables that only a broker reads which a client has started by `init`.
const OF_INIT: [&str; 1] = ["RELAY_DEFAULT_CHANNELS"];

/// Variables that name a file or folder, and no value of their own; of these there is no `NAME_FILE`.
const PATHS: [&str; 5] = [
    "RELAY_BROKER_CA_FILE",
    "RELAY_BROKER_CONFIG",
    "RELAY_BROKER_STATE_DIR",
    "SSL_CERT_FILE",
    "RUST_LOG",
];

/// A value of that variable that cannot be meant.
fn wrong_value(name: &str) -> OsString {
    match name {
        "RELAYCAST_BASE_URL" | "RELAY_BASE_URL" => "ftp://engine.example".into(),
        "AGENT_RELAY_WORKSPACE_KEY" | "RELAY_WORKSPACE_KEY" | "RELAY_API_KEY" => "sk_secret".into(),
        "RELAY_BROKER_API_KEY" | "RELAY_NODE_TOKEN" => "se cret".into(),
        "AGENT_RELAY_BROKER_NAME" | "RELAY_NODE_ID" => "  ".into(),
        "RELAY_BROKER_CA_FILE" | "RELAY_BROKER_CONFIG" | "SSL_CERT_FILE" => "/no/such/file".into(),
        "RELAY_BROKER_STATE_DIR" => "/dev/null".into(),
        "RUST_LOG" => "relay_broker=loud".into(),
        name if name.to_lowercase().ends_with("_proxy") => "socks5://secret@proxy.example".into(),
        "AGENT_RELAY_NODE_HARNESSES" => OsString::from_vec(vec![0xff]),
        name => panic!("{name} needs a wrong value here"),
    }
}

fn findings(pairs: &[(String, OsString)]) -> Vec<ConfigError> {
    findings_of(&Flags::default(), pairs)
}

fn findings_of(flags: &Flags, pairs: &[(String, OsString)]) -> Vec<ConfigError> {
    let pairs = pairs.to_vec();
    let env = Env::new(move |name| {
        let found = pairs.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone())
    });
    let place = Surroundings {
        cwd: Some("/".into()),
        exe: "/bin/relay-broker".into(),
    };
    let examination = examine(flags, &env, &place);
    let missing = missing(flags, &env, &place, &examination);
    let missing = missing.into_iter().filter(|finding| finding.is_error);
    examination
        .errors
        .into_iter()
        .chain(missing.map(|finding| finding.error))
        .collect()
}

fn named(errors: &[ConfigError], name: &str) {
    let of_it = |e: &&ConfigError| e.origin == SettingOrigin::Variable(name.to_owned());
    let error = errors
        .iter()
        .find(of_it)
        .unwrap_or_else(|| panic!("{name}: {errors:?}"));
    assert_eq!(error.exit, Sysexit::Config, "{name}: {error}");
    assert!(error.text.contains(name), "{name}: {error}");
    assert!(error.text.contains("; "), "{name} has no way out: {error}");
    assert!(
        !error.text.contains("secret") && !error.text.contains("se cret"),
        "{error}"
    );
}

#[test]
fn every_variable_that_cannot_be_meant_is_named_with_the_way_out() {
    for name in ROWS.iter().flat_map(|row| row.variables).copied() {
        let engine = match name.to_lowercase().starts_with("http_") {
            true => "http://engine.example",
            false => "https://engine.example",
        };
        let mut around = vec![(name.to_owned(), wrong_value(name))];
        if !name.ends_with("_KEY") && name != "RELAYCAST_BASE_URL" {
            around.push(("RELAY_BASE_URL".into(), engine.into()));
            around.push(("RELAY_WORKSPACE_KEY".into(), "rk_1".into()));
        } else if name == "RELAYCAST_BASE_URL" {
            around.push(("RELAY_WORKSPACE_KEY".into(), "rk_1".into()));
        }
        named(&findings(&around), name);
        if PATHS.contains(&name) {
            continue;
        }
        let by_file = format!("{name}_FILE");
        around[0] = (by_file.clone(), "/no/such/file".into());
        named(&findings(&around), &by_file);
    }
}

#[test]
fn every_variable_is_one_that_is_read_or_one_that_is_only_taken_away() {
    let read: Vec<&str> = ROWS.iter().flat_map(|row| row.variables).copied().collect();
    for name in VARIABLES {
        let lists = [&read[..], &NOT_READ, &OF_INIT];
        let count = lists.iter().filter(|list| list.contains(&name)).count();
        assert_eq!(count, 1, "{name}");
    }
    for name in OF_INIT {
        let flags = Flags {
            init: Some(InitTerms {
                persist: true,
                home: StateHome::Named,
            }),
            ..Flags::default()
        };
        let wrong = (name.to_owned(), OsString::from_vec(vec![0xff]));
        named(&findings_of(&flags, &[wrong]), name);
    }
}

/// Values that no such key takes, as the file spells them.
fn wrong_values(shape: Shape) -> Vec<&'static str> {
    let mut values = vec!["1979-05-27", "1.5"];
    values.extend(match shape {
        Shape::Text => vec!["1", "[]", "true"],
        Shape::Switch => vec!["\"yes\"", "1"],
        Shape::Count(..) => vec!["-1", "\"1\"", "99999999999999"],
        Shape::Words => vec!["\"a b\"", "[1]", "{}"],
        Shape::Variables => vec!["\"A=1\"", "{ A = 1 }", "{ \"A=1\" = \"x\" }"],
        Shape::Environment => vec!["\"bare\"", "{ A = 1 }", "{ \"A=1\" = \"x\" }"],
        Shape::Span => vec!["5", "\"soon\"", "\"5\""],
        Shape::OneOf(_) => vec!["\"nonsense\"", "true"],
        Shape::Prompt => vec!["\">\"", "{ mark = \">\" }", "{ mark = 1, gap = 2 }"],
    });
    values
}

/// A table with that key on line 2 and, if need be, others that must be there behind it.
fn with(table: &FileTable, key: &FileKey, value: &str) -> String {
    let head = match table.named {
        true => format!("[{}.x]", table.name),
        false => format!("[{}]", table.name),
    };
    let mut text = format!("{head}\n{} = {value}\n", key.name);
    for other in table
        .keys
        .iter()
        .filter(|other| other.required && other.name != key.name)
    {
        text += &format!("{} = {}\n", other.name, other.example);
    }
    text
}

#[test]
fn every_key_of_the_file_that_cannot_be_meant_is_named_with_its_line_and_the_way_out() {
    let scratch = Scratch::new();
    let path = scratch.path().join("file.toml");
    let around = [(
        "RELAY_BROKER_CONFIG".to_owned(),
        path.clone().into_os_string(),
    )];
    let told = |text: &str| {
        std::fs::write(&path, text).expect("room");
        findings(&around)
    };
    for (table, key) in TABLES
        .iter()
        .flat_map(|t| t.keys.iter().map(move |key| (t, key)))
    {
        for value in wrong_values(key.shape) {
            let text = with(table, key, value);
            let errors = told(&text);
            let of_it = |e: &&ConfigError| e.origin == SettingOrigin::File(path.clone(), Some(2));
            let error = errors
                .iter()
                .find(of_it)
                .unwrap_or_else(|| panic!("{text}: {errors:?}"));
            assert_eq!(error.exit, Sysexit::Config);
            let begins = format!("{}:2: [{}", path.display(), table.name);
            assert!(
                error.text.starts_with(&begins) && error.text.contains(key.name),
                "{text}: {error}"
            );
            assert!(error.text.contains("; "), "{text} has no way out: {error}");
        }
        // And one letter too many is a slip of the fingers.
        let slip = with(table, key, key.example).replace(key.name, &format!("{}x", key.name));
        let meant = format!("did you mean {}?", key.name);
        assert!(
            told(&slip).iter().any(|e| e.text.contains(&meant)),
            "{slip}"
        );
    }
}

#[test]
fn every_example_of_a_key_is_one_that_can_be_meant() {
    let scratch = Scratch::new();
    let path = scratch.path().join("file.toml");
    for (table, key) in TABLES
        .iter()
        .flat_map(|t| t.keys.iter().map(move |key| (t, key)))
    {
        let mut text = with(table, key, key.example);
        // What some keys of agents and profiles have an effect with.
        text += match (table.name, key.name) {
            ("agent", "command" | "harness") => "",
            ("agent", "env_allow") => "command = \"cat\"\nenv = \"clean\"",
            ("agent", _) => "command = \"cat\"",
            ("notify", "on" | "timeout") => "command = [\"cat\"]",
            ("profile", "like" | "composer") => "",
            ("profile", "prompt") => "composer = true",
            ("profile", _) => "like = \"claude\"",
            _ => "",
        };
        if key.name == "harness" {
            text += "\n[harness.reviewer]\ncommand = \"claude\"\n";
        }
        std::fs::write(&path, &text).expect("room");
        let (_, errors) = file::read(
            Some(Path::new(&path)),
            &Env::new(|_| None),
            &Surroundings {
                cwd: Some("/".into()),
                exe: "/bin/relay-broker".into(),
            },
        );
        assert!(errors.is_empty(), "{text}: {errors:?}");
    }
}

#[test]
fn a_channel_for_all_agents_that_no_engine_takes_is_named() {
    let flags = Flags {
        init: Some(InitTerms {
            persist: true,
            home: StateHome::Project,
        }),
        ..Flags::default()
    };
    let name = OF_INIT[0];
    let errors = |value: &str| findings_of(&flags, &[(name.to_owned(), value.into())]);
    let wrong = errors("general,Ops Team");
    named(&wrong, name);
    assert!(wrong.iter().any(|e| e.text.contains("Ops Team")));
    let well = errors("general, #dev,");
    assert!(well.iter().all(|e| !e.text.contains(name)), "{well:?}");
}
