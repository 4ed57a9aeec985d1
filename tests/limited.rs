//! Machines with little of everything: memory, processor time, descriptors, processes, places to write, streams. Wherever
//! there is enough for the main job it is done: a message reaches an agent's program letter by letter, and is acknowledged.
//! Where there is not, the first line names the limit and its value, and a broker that runs answers and goes on.

use std::io::{Error, Read};
use std::net::TcpStream;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Node, Process, Scratch, command, run, script, signal, until};

const UP: [&str; 5] = ["up", "--engine-listen", "127.0.0.1:0", "--grace", "2s"];
/// What is sent, in letters that take one to four bytes.
const TEXT: &str = "grüße \u{2713} \u{1f680} 'and' \"quotes\" \\ $HOME";

/// A message from an engine reaches a program as it is, and is acknowledged. Gives the token of its sender.
fn main_job(node: &Node, folder: &Path) -> String {
    let keeper = script(
        folder,
        "keeper",
        &format!("exec cat >> {}/kept", folder.display()),
    );
    node.spawn("ada", &[&keeper]);
    let boss = node.engine.register("boss");
    delivered(node, &boss, folder, TEXT);
    boss
}

fn delivered(node: &Node, boss: &str, folder: &Path, text: &str) {
    let id = node.engine.dm(boss, "ada", text);
    let about = |kind| {
        let mut all = node.events(kind).into_iter();
        all.find(|event| event["event_id"] == id.as_str())
    };
    until("an acknowledgement", || about("delivery_ack"));
    let kept = until("the text in the program", || {
        let kept = std::fs::read_to_string(folder.join("kept")).ok()?;
        kept.contains(text).then_some(kept)
    });
    assert_eq!(kept.matches(text).count(), 1, "{kept}");
}

fn started(folder: &Path, up: Command) -> Node {
    let process = Process::launch(folder, up);
    let process = process.unwrap_or_else(|(code, text)| panic!("ended with {code:?}: {text}"));
    Node::of(folder, process)
}

/// Has a command run below a limit, which it cannot raise.
fn limit(command: &mut Command, which: Resource, most: u64) {
    let set = move || {
        let limit = libc::rlimit {
            rlim_cur: most,
            rlim_max: most,
        };
        // SAFETY: the structure outlives the call, which keeps nothing of it.
        match unsafe { libc::setrlimit(which, &raw const limit) } {
            0 => Ok(()),
            _ => Err(Error::last_os_error()),
        }
    };
    // SAFETY: one system call, which may be made between fork and exec.
    unsafe { command.pre_exec(set) };
}

/// The C library's word for which limit is meant.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
type Resource = libc::c_int;

/// `up` for a user of its own in a folder of that user's, which the limit of processes binds: root is exempt from it.
/// `None` where it is not permitted to become somebody else.
fn up_as_somebody(folder: &Path, uid: u32) -> Option<Command> {
    let here = command(folder, &UP);
    let program = folder.join("program");
    if !program.exists() && std::fs::hard_link(here.get_program(), &program).is_err() {
        std::fs::copy(here.get_program(), &program).expect("room");
    }
    if chown(folder, Some(uid), Some(uid)).is_err() {
        eprintln!(
            "not permitted to become another user, and root is exempt from this limit: nothing is shown here"
        );
        return None;
    }
    let mut up = Command::new(&program);
    up.args(here.get_args()).current_dir(folder).env_clear();
    for (name, value) in here.get_envs() {
        up.env(name, value.unwrap_or_default());
    }
    up.stdin(Stdio::null()).uid(uid).gid(uid);
    Some(up)
}

/// A user that nobody else is.
fn somebody(nth: u32) -> u32 {
    1_000_000 + std::process::id() * 16 % 1_000_000_000 + nth
}

fn spawn(node: &Node, name: &str) -> (u16, Value) {
    let body = json!({"name": name, "harness_config": {"command": "cat"}});
    node.call("POST", "/api/spawn", Some(body))
}

/// Starts agents until there is no room for another: what is said then. As many run as were started.
fn until_full(node: &Node) -> String {
    for n in 0..500 {
        let (status, body) = spawn(node, &format!("a{n}"));
        if status == 200 {
            continue;
        }
        assert_eq!((status, &body["retryable"]), (503, &json!(true)), "{body}");
        let running = node.get("/api/spawned")["agents"].as_array().map(Vec::len);
        assert_eq!(running, Some(n + 1), "with ada");
        return body["error"].as_str().expect("a reason").to_owned();
    }
    panic!("five hundred agents found room");
}

/// Connections that ask for nothing, until one is told that there is no room: what it is told.
fn crowd(node: &Node) -> (Vec<TcpStream>, String) {
    let at = node.api.trim_start_matches("http://");
    let mut held = Vec::new();
    for _ in 0..500 {
        let mut stream = TcpStream::connect(at).expect("a place before the door");
        stream.set_nonblocking(true).expect("ours");
        let told = until("a thread or an answer", || {
            let mut answer = String::new();
            // An answer ends with the connection; one that waits for a request is silent.
            match stream.read_to_string(&mut answer) {
                Ok(_) => Some(answer),
                Err(_) if answer.is_empty() => served(node, held.len() + 1).then_some(answer),
                Err(_) => None,
            }
        });
        if !told.is_empty() {
            return (held, told);
        }
        held.push(stream);
    }
    panic!("five hundred connections found room");
}

/// Waits until callers are answered as before.
fn room_again(node: &Node) {
    until("room again", || {
        let (status, body) = node.call("DELETE", "/api/spawned/a0", None);
        assert!(status == 200 || body["code"] == "no_room", "{body}");
        (status == 200).then_some(())
    });
}

/// Whether so many connections have a thread of the local API.
fn served(node: &Node, count: usize) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", node.process.pid()));
    let names = tasks.into_iter().flatten().flatten();
    let names = names.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with("api:")).count() >= count
}

#[test]
fn sixty_four_mebibytes_of_address_space_are_enough() {
    let folder = Scratch::new();
    let mut up = command(folder.path(), &UP);
    limit(&mut up, libc::RLIMIT_AS, 64 << 20);
    let node = started(folder.path(), up);
    main_job(&node, folder.path());
    assert_eq!(node.process.stop(), Some(0));
}

/// Whoever comes then is told, and those who are there go on.
#[test]
fn memory_that_is_used_up_is_named_and_ends_nothing() {
    let folder = Scratch::new();
    let mut up = command(folder.path(), &UP);
    limit(&mut up, libc::RLIMIT_AS, 64 << 20);
    let node = started(folder.path(), up);
    let boss = main_job(&node, folder.path());
    let why = until_full(&node);
    assert!(why.contains("65536 KiB of address space"), "{why}");
    delivered(&node, &boss, folder.path(), "and another");
    assert_eq!(node.process.stop(), Some(0));
}

#[test]
fn too_little_memory_for_a_start_is_named_with_its_size() {
    let folder = Scratch::new();
    // Room for the program itself, whatever size its build has, and for no thread.
    let out = (24..=42).step_by(2).map(|mebibytes| {
        let mut up = command(folder.path(), &UP);
        limit(&mut up, libc::RLIMIT_AS, mebibytes << 20);
        (mebibytes, up.output().expect("it starts"))
    });
    let out: Vec<_> = out.collect();
    let ours = out.iter().filter(|(_, out)| out.status.code() == Some(71));
    let named = ours.map(|(mebibytes, out)| {
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        let first = said.lines().next().unwrap_or_default().to_owned();
        let limit = format!("{} KiB of address space", mebibytes * 1024);
        assert!(first.contains(&limit) && out.stdout.is_empty(), "{said}");
    });
    assert!(named.count() > 0, "{out:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn one_processor_core_is_enough() {
    let folder = Scratch::new();
    let mut up = command(folder.path(), &UP);
    let one = || {
        // SAFETY: zeroes are a set, which outlives the calls.
        unsafe {
            let mut mine: libc::cpu_set_t = std::mem::zeroed();
            let mut first: libc::cpu_set_t = std::mem::zeroed();
            let size = size_of::<libc::cpu_set_t>();
            libc::sched_getaffinity(0, size, &raw mut mine);
            let core = (0..1024).find(|core| libc::CPU_ISSET(*core, &mine));
            libc::CPU_SET(core.unwrap_or(0), &mut first);
            match libc::sched_setaffinity(0, size, &raw const first) {
                0 => Ok(()),
                _ => Err(Error::last_os_error()),
            }
        }
    };
    // SAFETY: system calls that may be made between fork and exec.
    unsafe { up.pre_exec(one) };
    let node = started(folder.path(), up);
    main_job(&node, folder.path());
    assert_eq!(node.process.stop(), Some(0));
}

#[test]
fn two_hundred_fifty_six_descriptors_are_enough_and_one_too_few_is_named() {
    let folder = Scratch::new();
    let mut up = command(folder.path(), &UP);
    limit(&mut up, libc::RLIMIT_NOFILE, 256);
    let node = started(folder.path(), up);
    let boss = main_job(&node, folder.path());
    let why = until_full(&node);
    assert!(
        why.contains("256 descriptors") && why.contains("ulimit -n"),
        "{why}"
    );
    delivered(&node, &boss, folder.path(), "and another");
    let (held, told) = crowd(&node);
    assert!(
        told.starts_with("HTTP/1.1 503 ") && told.contains("256 descriptors"),
        "{told}"
    );
    drop(held);
    room_again(&node);
    assert_eq!(node.process.stop(), Some(0));
}

#[test]
fn sixty_four_processes_are_enough_and_one_too_few_is_named() {
    let folder = Scratch::new();
    let Some(mut up) = up_as_somebody(folder.path(), somebody(0)) else {
        return;
    };
    limit(&mut up, libc::RLIMIT_NPROC, 64);
    let node = started(folder.path(), up);
    let boss = main_job(&node, folder.path());
    let why = until_full(&node);
    assert!(
        why.contains("may have 64") && why.contains("ulimit -u"),
        "{why}"
    );
    delivered(&node, &boss, folder.path(), "and another");
    let (held, told) = crowd(&node);
    assert!(
        told.starts_with("HTTP/1.1 503 ") && told.contains("may have 64"),
        "{told}"
    );
    drop(held);
    room_again(&node);
    let log = std::fs::read_to_string(folder.path().join("stderr.log")).expect("a log");
    assert!(!log.contains("panic"), "{log}");
    assert_eq!(node.process.stop(), Some(0));
}

/// From none at all to as many as it takes, wherever the one is missing.
#[test]
fn too_few_processes_for_a_start_are_named_with_their_number_and_nothing_panics() {
    let folder = Scratch::new();
    let mut refused = 0;
    for most in 1..40 {
        let Some(mut up) = up_as_somebody(folder.path(), somebody(1)) else {
            return;
        };
        limit(&mut up, libc::RLIMIT_NPROC, most);
        let log = folder.path().join("stderr.log");
        let _ = std::fs::remove_file(&log);
        match Process::launch(folder.path(), up) {
            Ok(process) => {
                assert!(refused > 5, "{refused} were too few");
                let node = Node::of(folder.path(), process);
                assert_eq!(node.get("/livez"), json!("ok\n"));
                assert_eq!(node.process.stop(), Some(0));
                return;
            }
            Err((code, text)) => {
                // The engine inside may be the one that has no room for the broker's first question.
                assert!(matches!(code, Some(69 | 71)), "{most}: {code:?} {text}");
                let limit = format!("may have {most};");
                let last = text.lines().last().unwrap_or_default();
                assert!(last.contains(&limit) && !text.contains("panic"), "{text}");
                refused += 1;
            }
        }
    }
    panic!("forty are enough elsewhere");
}

/// Runs a shell in a namespace of its own, in which it does as told and then becomes the program; `None` where that is not
/// permitted.
fn namespace(folder: &Path, shell: &str, args: &[&str]) -> Option<Command> {
    let tried = Command::new("unshare").args(["--mount", "true"]).output();
    if !tried.is_ok_and(|out| out.status.success()) {
        eprintln!("not permitted to mount anything: nothing is shown here");
        return None;
    }
    let program = command(folder, args);
    let mut inside = Command::new("unshare");
    inside.args(["--mount", "sh", "-ec"]);
    inside.arg(format!("{shell}; exec \"$0\" \"$@\""));
    inside.arg(program.get_program()).args(program.get_args());
    inside.current_dir(folder).stdin(Stdio::null()).env_clear();
    for (name, value) in program.get_envs() {
        inside.env(name, value.unwrap_or_default());
    }
    Some(inside)
}

#[test]
fn a_root_that_can_only_be_read_is_enough_with_a_state_folder_elsewhere() {
    let folder = Scratch::new();
    let here = folder.path().to_str().expect("text");
    let only_here = format!(
        "mount --bind {here} {here}; mount -o remount,bind,ro /; cd {here}; ! touch /x 2>/dev/null"
    );
    let Some(mut up) = namespace(folder.path(), &only_here, &UP) else {
        return;
    };
    up.env("HOME", "/").env("TMPDIR", "/proc/nowhere");
    let node = started(folder.path(), up);
    main_job(&node, folder.path());
    assert_eq!(node.process.stop(), Some(0));
    // And without one the first line says so.
    let nowhere = "mount -o remount,bind,ro /; cd /";
    let up = namespace(folder.path(), nowhere, &UP).expect("as before");
    let (code, said) = Process::launch(folder.path(), up).err().expect("no room");
    assert_eq!(code, Some(73), "{said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(
        last.contains("Read-only file system") && last.contains("--state-dir"),
        "{said}"
    );
}

#[test]
fn a_home_that_cannot_be_written_or_that_is_missing_is_enough() {
    for home in ["/proc", "/dev/null", "/proc/nowhere", ""] {
        let folder = Scratch::new();
        let mut up = command(folder.path(), &UP);
        up.env("HOME", home).env_remove("TERM");
        let node = started(folder.path(), up);
        main_job(&node, folder.path());
        assert_eq!(node.process.stop(), Some(0), "{home}");
    }
}

#[test]
fn without_a_kind_of_terminal_and_in_the_plainest_language_every_letter_arrives() {
    let folder = Scratch::new();
    let mut up = command(folder.path(), &UP);
    up.env_remove("TERM").env("LANG", "C").env("LC_ALL", "C");
    let node = started(folder.path(), up);
    main_job(&node, folder.path());
    assert_eq!(node.process.stop(), Some(0));
}

#[test]
fn standard_streams_that_are_closed_are_enough() {
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let folder = Scratch::new();
        let program = command(folder.path(), &UP);
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(format!("exec \"$0\" \"$@\" {closed}"));
        shell.arg(program.get_program()).args(program.get_args());
        shell.current_dir(folder.path()).env_clear();
        for (name, value) in program.get_envs() {
            shell.env(name, value.unwrap_or_default());
        }
        let streams = [Stdio::null(), Stdio::null()];
        let [out, err] = streams;
        let child = shell.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let process = Process::of(child.expect("it starts"));
        let connection = folder.path().join(".relay-broker/connection.json");
        until("a broker", || connection.exists().then_some(()));
        let node = Node::of(folder.path(), process);
        main_job(&node, folder.path());
        assert_eq!(node.process.stop(), Some(0), "{closed}");
    }
}

#[test]
fn without_proc_a_start_says_what_it_is_needed_for_and_commands_do_without() {
    let folder = Scratch::new();
    // One may be mounted over another.
    let away = "while umount -l /proc 2>/dev/null; do :; done";
    let Some(up) = namespace(folder.path(), away, &UP) else {
        return;
    };
    let (code, said) = Process::launch(folder.path(), up).err().expect("refused");
    assert_eq!(code, Some(71), "{said}");
    assert!(
        said.contains("/proc is not mounted") && said.contains("mount -t proc"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    let node = Node::up(folder.path(), &["--agent", "ada=cat"]);
    node.ready("ada");
    for args in [
        &["agents"][..],
        &["status"],
        &["send", "ada", "hello", "--wait"],
    ] {
        let mut asked = namespace(folder.path(), away, args).expect("as before");
        let out = asked.output().expect("it starts");
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{args:?}: {said}");
    }
    assert_eq!(run(folder.path(), &["agents"]).0, Some(0));
    signal(node.process.pid(), "TERM");
}
