use super::*;
use crate::sys::disk::tests::Scratch;
use std::os::unix::fs::PermissionsExt;

fn scope() -> TokenScope {
    TokenScope {
        node_id: NodeId::new("node/../x"),
        workspace_id: WorkspaceId::new("1901"),
        base_url: "http://127.0.0.1:1".into(),
    }
}

fn enrolled(token: &str) -> Kept {
    Kept {
        enrolment: Some(Enrolment {
            node_id: NodeId::new("node_given"),
            node_name: "box-1".into(),
            token: Secret::new(token),
        }),
        mint_key: None,
    }
}

#[test]
fn a_machine_has_one_seed_for_good() {
    let dir = Scratch::new();
    let seed = super::seed(dir.path()).expect("room");
    assert!(seed.starts_with("node_") && seed.len() == 37, "{seed}");
    assert_eq!(super::seed(dir.path()).expect("readable"), seed);
    let files = std::fs::read_dir(dir.path()).expect("readable").count();
    assert_eq!(files, 1, "no draft is left");
}

#[test]
fn a_seed_that_somebody_else_made_meanwhile_is_everybodys_and_an_empty_one_is_nobodys() {
    let dir = Scratch::new();
    let path = dir.path().join("machine-id");
    let first = format!("node_{}", "1f".repeat(16));
    std::fs::write(&path, format!("{first}\n")).expect("room");
    place_once(&path, b"node_second\n").expect("room");
    assert_eq!(super::seed(dir.path()).expect("readable"), first);
    std::fs::write(&path, "\n").expect("room");
    let err = read_seed(&path).expect("readable");
    assert_eq!(err, None);
    std::fs::write(&path, "").expect("room");
    assert!(super::seed(dir.path()).expect("room").starts_with("node_"));
}

/// N7: a broken seed is an error that names the file, which stays untouched.
#[test]
fn a_seed_that_cannot_be_read_is_an_error_that_names_the_file_and_never_a_new_seed() {
    let dir = Scratch::new();
    let path = dir.path().join("machine-id");
    std::fs::write(&path, b"node_\xff\xfe").expect("room");
    let error = super::seed(dir.path()).expect_err("no text").to_string();
    assert!(
        error.contains("machine-id") && error.contains("UTF-8"),
        "{error}"
    );
    assert_eq!(std::fs::read(&path).expect("kept"), b"node_\xff\xfe");
    for damaged in [
        "node_",
        "node_1f",
        "garbage",
        &format!("node_{}", "x".repeat(32)),
    ] {
        std::fs::write(&path, damaged).expect("room");
        let error = super::seed(dir.path()).expect_err(damaged).to_string();
        assert!(error.contains("machine-id: it is damaged"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).expect("kept"), damaged);
    }
    // A folder in its place stands for every other way of not being readable.
    std::fs::remove_file(&path).expect("ours");
    std::fs::create_dir(&path).expect("room");
    let error = super::seed(dir.path()).expect_err("a folder").to_string();
    assert!(error.contains("machine-id"), "{error}");
    assert!(path.is_dir(), "left as it was");
}

#[test]
fn the_state_folder_serves_where_the_data_folder_cannot_be_used_and_then_for_good() {
    let dir = Scratch::new();
    let (file, state) = (dir.path().join("file"), dir.path().join("state"));
    create_private_dir(&state).expect("room");
    std::fs::write(&file, "").expect("room");
    // As on a full disk: the folder is there, and no file can be made in it.
    let full = dir.path().join("full");
    let draft = full.join(format!("{SEED}.{}.new", std::process::id()));
    create_private_dir(&draft).expect("room");
    let fresh = dir.path().join("fresh");
    create_private_dir(&fresh).expect("room");
    assert_eq!(folder(&full, &fresh).expect("known"), fresh);
    for none in [file.join("data"), "/proc/data".into()] {
        assert_eq!(
            folder(&none, &state).expect("known"),
            state,
            "{}",
            none.display()
        );
    }
    let seed = super::seed(&state).expect("room");
    let data = dir.path().join("data");
    assert_eq!(
        folder(&data, &state).expect("known"),
        state,
        "it is known here by now"
    );
    assert_eq!(super::seed(&state).expect("readable"), seed);
}

/// N8: whatever HOME is, as long as the state folder is the same; who removes the seed of today's home starts anew.
#[test]
fn the_identity_of_a_state_folder_is_found_under_every_home() {
    let dir = Scratch::new();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let state = dir.path().join("state");
    create_private_dir(&state).expect("room");
    let start = |data: &Path, state: &Path| {
        let folder = folder(data, state).expect("known");
        let seed = super::seed(&folder).expect("room");
        remember(state, &folder, &seed);
        (folder, seed)
    };
    let (at, seed) = start(&one, &state);
    assert_eq!(at, one);
    assert_eq!(start(&two, &state), (one.clone(), seed.clone()));
    assert_eq!(
        start(&state, &state),
        (one.clone(), seed.clone()),
        "no home"
    );
    let fresh = dir.path().join("fresh");
    create_private_dir(&fresh).expect("room");
    assert_ne!(start(&two, &fresh).1, seed, "another state folder");

    std::fs::remove_file(one.join(SEED)).expect("ours");
    let (at, other) = start(&one, &state);
    assert!(at == one && other != seed);
    std::fs::remove_dir_all(&one).expect("ours");
    assert_eq!(start(&two, &state), (state.clone(), other.clone()));
    assert_eq!(start(&one, &state), (state.clone(), other));
}

/// N8: also on engines that give a new token for the old one only.
#[test]
fn a_named_state_folder_takes_over_once_what_was_kept_under_a_home() {
    let dir = Scratch::new();
    let (home, state) = (dir.path().join("home"), dir.path().join("state"));
    create_private_dir(&state).expect("room");
    let seed = super::seed(&folder(&home, &state).expect("known")).expect("room");
    remember(&state, &home, &seed);
    keep(&home, &scope(), &enrolled("nt_live_1")).expect("room");
    let other = TokenScope {
        node_id: NodeId::new("node_of_another_folder"),
        ..scope()
    };
    keep(&home, &other, &enrolled("nt_live_2")).expect("room");

    assert_eq!(own_folder(&home, &state, false).expect("known"), state);
    assert_eq!(super::seed(&state).expect("readable"), seed);
    take_over_token(&state, &state, &home, &scope());
    assert_eq!(kept(&state, &scope()), enrolled("nt_live_1"));
    assert_eq!(kept(&state, &other), Kept::default(), "another node's");
    assert_eq!(super::seed(&home).expect("kept"), seed);
    assert_eq!(kept(&home, &scope()), enrolled("nt_live_1"));

    keep(&state, &scope(), &Kept::default()).expect("room");
    take_over_token(&state, &state, &home, &scope());
    assert_eq!(kept(&state, &scope()), Kept::default(), "it was refused");
    std::fs::remove_dir_all(&home).expect("ours");
    for home in [&home, &dir.path().join("other"), &state] {
        assert_eq!(own_folder(home, &state, false).expect("known"), state);
        assert_eq!(folder(home, &state).expect("known"), state, "unnamed, too");
    }
    assert_eq!(super::seed(&state).expect("readable"), seed);
}

/// N6: as in containers of one image, or on machines that share a home.
#[test]
fn a_new_named_state_folder_has_nothing_of_a_home_and_leaves_nothing_there() {
    let dir = Scratch::new();
    let (home, none) = (dir.path().join("home"), dir.path().join("none"));
    let theirs = super::seed(&home).expect("room");
    keep(&home, &scope(), &enrolled("nt_live_1")).expect("room");
    let mut seeds = vec![theirs.clone()];
    for (name, home) in [("a", &home), ("b", &home), ("c", &none)] {
        let state = dir.path().join(name);
        create_private_dir(&state).expect("room");
        assert_eq!(own_folder(home, &state, false).expect("known"), state);
        seeds.push(super::seed(&state).expect("room"));
    }
    seeds.sort();
    seeds.dedup();
    assert_eq!(seeds.len(), 4);
    assert!(!none.exists(), "nothing was begun");
    // The operator's token without an id is the user's seed's.
    let state = dir.path().join("d");
    create_private_dir(&state).expect("room");
    assert_eq!(own_folder(&home, &state, true).expect("known"), state);
    assert_eq!(super::seed(&state).expect("readable"), theirs);
    assert_eq!(own_folder(&none, &state, true).expect("known"), state);
    assert_eq!(super::seed(&state).expect("readable"), theirs);
}

#[test]
fn an_identity_that_cannot_be_taken_over_now_serves_where_it_is() {
    let dir = Scratch::new();
    let (home, state) = (dir.path().join("home"), dir.path().join("state"));
    let seed = super::seed(&home).expect("room");
    create_private_dir(&state).expect("room");
    remember(&state, &home, &seed);
    // As on a full disk.
    let draft = state.join(format!("{SEED}.{}.new", std::process::id()));
    create_private_dir(&draft).expect("room");
    assert_eq!(own_folder(&home, &state, false).expect("known"), home);
    std::fs::remove_dir(&draft).expect("ours");
    assert_eq!(own_folder(&home, &state, false).expect("known"), state);
    assert_eq!(super::seed(&state).expect("readable"), seed);
}

/// N7: where the identity is must not be guessed.
#[test]
fn a_broken_file_about_the_identity_is_an_error_that_names_it_and_stays_as_it_is() {
    let dir = Scratch::new();
    let path = dir.path().join(ORIGIN);
    std::fs::write(&path, "{\"folder\":").expect("room");
    let home = dir.path().join("home");
    for broken in [
        folder(&home, dir.path()),
        own_folder(&home, dir.path(), false),
    ] {
        let error = broken.expect_err("broken").to_string();
        assert!(
            error.contains(ORIGIN) && error.contains("remove it"),
            "{error}"
        );
    }
    assert_eq!(std::fs::read(&path).expect("kept"), b"{\"folder\":");
    assert!(!home.exists(), "nothing was begun");
}

#[test]
fn a_data_folder_that_can_be_used_is_used_and_one_that_fails_otherwise_is_an_error() {
    let dir = Scratch::new();
    let (data, state) = (dir.path().join("a/data"), dir.path().join("state"));
    create_private_dir(&state).expect("room");
    assert_eq!(folder(&data, &state).expect("known"), data);
    std::fs::remove_file(data.join(SEED)).expect("made at once");
    std::fs::create_dir(data.join(SEED)).expect("room");
    assert_eq!(
        folder(&data, &state).expect("known"),
        data,
        "it may have been somebody"
    );
    assert!(super::seed(&data).is_err());
}

/// N2: a token is kept per node id, under a name that no id can lead out of its folder.
#[test]
fn a_token_is_found_again_with_the_id_and_name_that_the_engine_gave() {
    let dir = Scratch::new();
    keep(dir.path(), &scope(), &enrolled("nt_live_1")).expect("room");
    assert_eq!(kept(dir.path(), &scope()), enrolled("nt_live_1"));
}

/// N2: a kept token is good for one node, workspace and base URL.
#[test]
fn a_token_is_good_for_its_own_node_workspace_and_engine_only() {
    let dir = Scratch::new();
    keep(dir.path(), &scope(), &enrolled("nt_live_1")).expect("room");
    let others = [
        TokenScope {
            workspace_id: WorkspaceId::new("1902"),
            ..scope()
        },
        TokenScope {
            base_url: "http://127.0.0.1:2".into(),
            ..scope()
        },
        TokenScope {
            // Another id that is written into the same file name.
            node_id: NodeId::new("node_.._x"),
            ..scope()
        },
    ];
    for other in others {
        assert_eq!(kept(dir.path(), &other), Kept::default(), "{other:?}");
    }
}

/// N2: the cache has mode 0600, also where the file was there with another.
#[test]
fn a_token_is_private_from_its_first_moment_and_tightened_when_it_is_not() {
    let dir = Scratch::new();
    keep(dir.path(), &scope(), &enrolled("nt_live_1")).expect("room");
    let path = dir.path().join("node-tokens/node____x.json");
    let mode = || {
        std::fs::metadata(&path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode(), 0o600);
    let wide = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&path, wide).expect("ours");
    assert_eq!(kept(dir.path(), &scope()), enrolled("nt_live_1"));
    assert_eq!(mode(), 0o600);
}

#[test]
fn a_request_for_a_token_is_remembered_also_before_there_is_a_token() {
    let dir = Scratch::new();
    let asked = Kept {
        enrolment: None,
        mint_key: Some("k".repeat(32)),
    };
    keep(dir.path(), &scope(), &asked).expect("room");
    assert_eq!(kept(dir.path(), &scope()), asked);
}

/// N2: caches of earlier brokers, which knew neither base URL nor name, are used.
#[test]
fn a_cache_that_says_nothing_of_its_engine_is_used() {
    let dir = Scratch::new();
    let path = token_path(dir.path(), &scope().node_id);
    create_private_dir(&dir.path().join(TOKENS)).expect("room");
    let file = r#"{"node_id":"node/../x","workspace_id":"1901","token":"nt_live_1"}"#;
    std::fs::write(&path, file).expect("room");
    let found = kept(dir.path(), &scope()).enrolment.expect("a token");
    assert_eq!(found.token, Secret::new("nt_live_1"));
    assert_eq!(found.node_id, scope().node_id);
}

#[test]
fn a_cache_that_is_no_cache_is_as_good_as_none() {
    let dir = Scratch::new();
    keep(dir.path(), &scope(), &enrolled("nt_live_1")).expect("room");
    let path = token_path(dir.path(), &scope().node_id);
    for text in ["", "{", "[]", "{\"token\":5}"] {
        std::fs::write(&path, text).expect("room");
        assert_eq!(kept(dir.path(), &scope()), Kept::default(), "{text}");
    }
}
