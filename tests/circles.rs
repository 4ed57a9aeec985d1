//! Finds files of a room that import each other in a circle: such files can be read in no order.

use std::collections::{BTreeMap, BTreeSet};

use crate::sources::{imports, module_of_file, paths, program, top, without_tests};

/// The files of each room that import each other in a circle, a circle a line. A room is a folder of `src`; that a file says
/// `mod` of another is no import, nor is `pub(in …)`, but `pub use` is.
fn circles(files: &[(String, String)]) -> Vec<(String, String)> {
    let modules: BTreeMap<String, &str> = files
        .iter()
        .map(|(file, text)| (module_of_file(file), text.as_str()))
        .collect();
    let home = |path: &str| {
        let mut path = path;
        while !modules.contains_key(path) {
            path = path.rsplit_once("::")?.0;
        }
        Some(path.to_owned())
    };
    let mut reach: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, text) in files {
        let module = module_of_file(file);
        let code = without_visibility(&without_tests(file, text).0);
        let mut found: Vec<String> = imports(&module, &code).into_iter().map(|i| i.1).collect();
        let prefix = format!("{module}::");
        let below = modules.keys().filter_map(|m| m.strip_prefix(&prefix));
        for child in below.filter(|name| !name.contains("::")) {
            let named = paths(&code, &format!("{child}::"));
            found.extend(
                named
                    .into_iter()
                    .map(|(_, rest)| format!("{prefix}{child}::{rest}")),
            );
        }
        let own = paths(&code, "self::").into_iter();
        found.extend(own.map(|(_, rest)| format!("{prefix}{rest}")));
        let to = found.iter().filter_map(|path| home(path));
        let to = to.filter(|to| *to != module && top(to) == top(&module));
        reach.insert(module.clone(), to.collect());
    }
    // Until nobody reaches more: rooms are small.
    loop {
        let further: Vec<(String, String)> = reach
            .iter()
            .flat_map(|(from, to)| to.iter().map(move |t| (from, t)))
            .flat_map(|(from, t)| {
                reach
                    .get(t)
                    .into_iter()
                    .flatten()
                    .map(move |f| (from.clone(), f.clone()))
            })
            .filter(|(from, far)| !reach[from].contains(far))
            .collect();
        if further.is_empty() {
            break;
        }
        for (from, far) in further {
            reach.entry(from).or_default().insert(far);
        }
    }
    let both = |a: &str, b: &str| reach[a].contains(b) && reach[b].contains(a);
    let mut found = BTreeSet::new();
    for module in reach.keys().filter(|m| both(m, m)) {
        let circle: Vec<&str> = reach
            .keys()
            .map(String::as_str)
            .filter(|m| both(module, m))
            .collect();
        found.insert((top(module).to_owned(), circle.join(" ")));
    }
    found.into_iter().collect()
}

/// The code without the modules that may see its items.
fn without_visibility(code: &str) -> String {
    let mut parts = code.split("pub(in ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |code, part| {
        code + "pub" + part.split_once(')').map_or("", |(_, rest)| rest)
    })
}

#[test]
fn no_files_of_a_room_import_each_other_in_a_circle() {
    let found = circles(&program());
    assert!(found.is_empty(), "in a circle: {found:#?}");
}

#[test]
fn a_circle_is_found_whichever_way_it_is_written() {
    let room = |files: &[(&str, &str)]| {
        let files: Vec<_> = files
            .iter()
            .map(|(f, t)| ((*f).to_owned(), (*t).to_owned()))
            .collect();
        circles(&files)
    };
    let circle = |of: &str| vec![("net".to_owned(), of.to_owned())];
    let straight = room(&[
        (
            "net/mod.rs",
            "mod a;\nmod b;\npub use b::B;\n#[cfg(test)]\nmod tests {\n    use super::a;\n}",
        ),
        (
            "net/a.rs",
            "// use super::b::B;\npub struct A;\npub(in crate::net::b) fn f() {}",
        ),
        ("net/b.rs", "use super::a::A;\nuse crate::time::Now;"),
        ("time.rs", "use crate::net::b::B;"),
    ]);
    assert_eq!(straight, []);
    let two = [
        ("net/a.rs", "use crate::net::b::B;"),
        ("net/b.rs", "fn f(a: super::a::A) {}"),
    ];
    assert_eq!(room(&two), circle("net::a net::b"));
    let three = [
        ("net/a.rs", "use super::{b::B, x::{self, Y}};"),
        ("net/b.rs", "use super::c;"),
        ("net/c.rs", "use super::a;"),
        ("net/x.rs", ""),
    ];
    assert_eq!(room(&three), circle("net::a net::b net::c"));
    let face = [
        ("net/mod.rs", "mod a;\npub use a::A;\npub const X: u8 = 1;"),
        ("net/a.rs", "use super::X;"),
    ];
    assert_eq!(room(&face), circle("net net::a"));
    let parent = [
        ("net/a.rs", "mod deep;\nuse self::deep::D;"),
        ("net/a/deep.rs", "use super::Up;"),
    ];
    assert_eq!(room(&parent), circle("net::a net::a::deep"));
}
