//! Whatever a parent leaves to the program: signals it had blocked or ignored, streams that nobody reads or that are
//! non-blocking, variables, limits, descriptors, and folders or files that are gone.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use relay_broker::sys::session::alive;
use serde_json::json;

use crate::support::{Node, Process, Scratch, command, script, signal, try_http, until};

const UP: [&str; 5] = ["up", "--engine-listen", "127.0.0.1:0", "--grace", "2s"];

/// `up`, started by way of a shell that first does as it is told.
fn up_after(folder: &Scratch, shell: &str) -> Node {
    let up = by_way_of(folder.path(), shell, &UP);
    node(folder, Process::launch(folder.path(), up))
}

/// A command, started by way of a shell that first does as it is told.
fn by_way_of(folder: &Path, shell: &str, args: &[&str]) -> Command {
    let program = command(folder, args);
    let mut by_way = Command::new("/bin/sh");
    by_way.arg("-c").arg(format!("{shell}; exec \"$0\" \"$@\""));
    by_way.arg(program.get_program()).args(program.get_args());
    by_way.env_clear();
    for (name, value) in program.get_envs() {
        by_way.env(name, value.unwrap_or_default());
    }
    by_way.current_dir(folder).stdin(Stdio::null());
    by_way
}

fn node(folder: &Scratch, process: Result<Process, (Option<i32>, String)>) -> Node {
    let process = process.unwrap_or_else(|(code, text)| panic!("ended with {code:?}: {text}"));
    Node::of(folder.path(), process)
}

/// A pipe that takes nothing more until it is read.
fn full_pipe() -> (OwnedFd, OwnedFd) {
    let (from, to) = rustix::pipe::pipe().expect("a pipe");
    for end in [&from, &to] {
        rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC).expect("ours");
    }
    set_nonblocking(&to, true);
    while rustix::io::write(&to, &[b'\n'; 4096]).is_ok() {}
    set_nonblocking(&to, false);
    (from, to)
}

fn set_nonblocking(stream: impl AsFd, yes: bool) {
    rustix::io::ioctl_fionbio(stream, yes).expect("ours");
}

#[test]
fn a_broker_whose_standard_error_nobody_reads_answers_and_stops() {
    let folder = Scratch::new();
    let (from, to) = full_pipe();
    let mut up = command(folder.path(), &UP);
    up.env("RUST_LOG", "trace").stderr(to);
    let node = node(&folder, Process::launch_as_is(folder.path(), up));
    node.spawn("ada", &["cat"]);
    let (status, body) = node.call(
        "POST",
        "/api/send",
        Some(json!({"to": "ada", "text": "hello"})),
    );
    assert_eq!(status, 200, "{body}");
    until("the message typed", || node.events("delivery_ack").pop());
    assert_eq!(node.process.stop(), Some(0));
    drop(from);
}

#[test]
fn signals_that_a_parent_had_blocked_are_heard() {
    let folder = Scratch::new();
    let mut up = command(folder.path(), &UP);
    let block = || {
        // SAFETY: both calls may be made between fork and exec, and the set outlives them.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
        }
        Ok(())
    };
    // SAFETY: see above; the closure does nothing else.
    unsafe { up.pre_exec(block) };
    let node = node(&folder, Process::launch(folder.path(), up));
    node.spawn(
        "ada",
        &[
            "sh",
            "-c",
            "grep SigBlk /proc/self/status > blocked; read x",
        ],
    );
    let (status, body) = node.call(
        "POST",
        "/api/send",
        Some(json!({"to": "ada", "text": "go"})),
    );
    assert_eq!(status, 200, "{body}");
    until("the end of an agent", || node.events("agent_exited").pop());
    if cfg!(target_os = "linux") {
        let blocked = std::fs::read_to_string(folder.path().join("blocked")).expect("written");
        assert_eq!(blocked.trim(), "SigBlk:\t0000000000000000");
    }
    assert_eq!(node.process.stop(), Some(0));
}

/// As under `nohup`, and as a job that a script puts into the background.
#[test]
fn signals_that_a_parent_had_ignored_and_stray_ones_end_nothing() {
    let folder = Scratch::new();
    let node = up_after(&folder, "trap '' HUP INT QUIT CHLD TSTP USR1");
    for name in [
        "HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "IO", "XFSZ", "XCPU",
    ] {
        signal(node.process.pid(), name);
    }
    if cfg!(target_os = "linux") {
        // The first and the last of real time.
        signal(node.process.pid(), "34");
        signal(node.process.pid(), "64");
    }
    let report = script(
        folder.path(),
        "report",
        "grep SigIgn /proc/self/status > ignored; exec cat",
    );
    node.spawn("ada", &[&report]);
    // What was ignored for the broker is not for its agents: a terminal that closes must end them.
    if cfg!(target_os = "linux") {
        let ignored = std::fs::read_to_string(folder.path().join("ignored")).expect("written");
        let ignored = ignored.trim().trim_start_matches("SigIgn:\t");
        // Those above 31 are the business of the C library.
        let usual = u64::from_str_radix(ignored, 16).map(|set| set & 0x7fff_ffff);
        assert_eq!(usual, Ok(0), "{ignored}");
    }
    assert_eq!(node.process.stop(), Some(0));
}

/// A broker that can write nothing any more, and its agent, which ignores the hang-up.
fn with_a_full_disk(folder: &Scratch) -> (Node, u32) {
    let node = up_after(folder, "ulimit -f 256");
    let stubborn = "trap '' HUP; echo $$ > pid; exec sleep 300";
    node.spawn("ada", &[&script(folder.path(), "stubborn", stubborn)]);
    let mode = Some(json!({"mode": "manual_flush"}));
    let (status, body) = node.call("PUT", "/api/spawned/ada/delivery-mode", mode);
    assert_eq!(status, 200, "{body}");
    let (url, key) = (format!("{}/api/send", node.api), node.key.clone());
    std::thread::spawn(move || {
        let body = json!({"to": "ada", "text": "x".repeat(20_000)});
        // More than there is room for, and whoever comes then is told no.
        (0..20).all(|_| try_http("POST", &url, &key, Some(body.clone())).is_ok())
    });
    until("a full disk", || {
        (node.get("/health")["status"] == "degraded").then_some(())
    });
    let pid = std::fs::read_to_string(folder.path().join("pid")).expect("written");
    let pid = pid.trim().parse().expect("a number");
    assert!(alive(pid));
    (node, pid)
}

#[test]
fn a_limit_on_the_size_of_files_is_a_full_disk_and_not_the_end() {
    let folder = Scratch::new();
    let (node, pid) = with_a_full_disk(&folder);
    // Nothing can be done in order any more, but no agent may be left behind.
    assert_eq!(node.process.stop(), Some(0));
    assert!(!alive(pid));
}

#[test]
fn who_stops_a_broker_twice_leaves_no_agent_behind_even_where_nothing_can_be_written() {
    let folder = Scratch::new();
    let (node, pid) = with_a_full_disk(&folder);
    // "Now" leaves an agent none of the time in which it is to end by itself.
    signal(node.process.pid(), "TERM");
    assert_eq!(node.process.stop(), Some(0));
    assert!(!alive(pid));
}

/// Waits until a child of ours sleeps, or has ended.
fn asleep(pid: u32) {
    until("a process that waits", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        // Elsewhere than on Linux it is a matter of luck whether the test could fail.
        let state = stat.map_or(Some('S'), |stat| {
            stat.rsplit(')').next()?.trim().chars().next()
        });
        state.filter(|state| ['S', 'Z'].contains(state))
    });
}

#[test]
fn a_command_waits_for_a_standard_input_that_its_parent_made_non_blocking() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &["--agent", "ada=cat"]);
    node.ready("ada");
    let (input, typing) = rustix::pipe::pipe().expect("a pipe");
    rustix::io::fcntl_setfd(&typing, rustix::io::FdFlags::CLOEXEC).expect("ours");
    set_nonblocking(&input, true);
    let mut send = command(folder.path(), &["send", "ada", "-"]);
    let child = send.stdin(input).stdout(Stdio::null()).spawn();
    drop(send);
    let mut child = child.expect("the program starts");
    asleep(child.id());
    let _ = File::from(typing).write_all(b"from a pipe");
    assert!(child.wait().expect("ours").success());
}

#[test]
fn a_command_waits_for_a_standard_output_that_its_parent_made_non_blocking() {
    let folder = Scratch::new();
    let (from, to) = full_pipe();
    set_nonblocking(&to, true);
    let mut help = command(folder.path(), &["--help"]);
    let child = help.stdout(to).spawn();
    drop(help);
    let mut child = child.expect("the program starts");
    asleep(child.id());
    let mut said = String::new();
    File::from(from).read_to_string(&mut said).expect("text");
    assert!(child.wait().expect("ours").success());
    assert!(said.contains("Usage"), "{}", said.trim());
}

#[test]
fn agents_start_when_the_program_was_replaced_or_removed_meanwhile() {
    let folder = Scratch::new();
    let original = command(folder.path(), &UP);
    let program = folder.path().join("program");
    if std::fs::hard_link(original.get_program(), &program).is_err() {
        std::fs::copy(original.get_program(), &program).expect("room");
    }
    let mut up = Command::new(&program);
    up.args(original.get_args()).current_dir(folder.path());
    up.env("HOME", folder.path()).stdin(Stdio::null());
    let node = node(&folder, Process::launch(folder.path(), up));
    std::fs::remove_file(&program).expect("ours");
    node.spawn("ada", &["cat"]);
    std::fs::write(&program, "another program").expect("room");
    node.spawn("bob", &["cat"]);
    assert_eq!(node.process.stop(), Some(0));
}

#[test]
fn commands_and_a_broker_work_in_a_folder_that_was_removed() {
    let folder = Scratch::new();
    let gone = "mkdir gone; cd gone; rmdir ../gone";
    let state = folder.path().join(".relay-broker");
    let state = state.to_str().expect("text");
    let node = {
        let args = [&["--state-dir", state][..], &UP].concat();
        let up = by_way_of(folder.path(), gone, &args);
        node(&folder, Process::launch(folder.path(), up))
    };
    node.spawn("ada", &["cat"]);
    let said = |args: &[&str]| {
        let out = by_way_of(folder.path(), gone, args).output();
        let out = out.expect("the program starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (out.status.success(), text(&out.stdout) + &text(&out.stderr))
    };
    let (good, text) = said(&["--state-dir", state, "agents"]);
    assert!(good && text.contains("ada"), "{text}");
    let (good, text) = said(&[
        "--state-dir",
        state,
        "spawn",
        "bob",
        "--cwd",
        "/",
        "--",
        "cat",
    ]);
    assert!(good, "{text}");
    let (good, text) = said(&["agents"]);
    assert!(!good && text.contains("--state-dir"), "{text}");
    assert_eq!(node.process.stop(), Some(0));
    // N7: with no folder to be the node of, nothing is started.
    let up = by_way_of(folder.path(), gone, &UP);
    let (code, text) = Process::launch(folder.path(), up).err().expect("refused");
    assert!(code.is_some_and(|code| code != 0), "{code:?}");
    assert!(text.contains("the working directory is gone"), "{text}");
}

/// N8: also where the first home is gone in the end.
#[test]
fn the_node_of_a_state_folder_is_the_same_and_has_its_token_whatever_home_is() {
    let folder = Scratch::new();
    let homes = ["a", "b"].map(|name| folder.path().join(name));
    let session = |home: &Path| {
        std::fs::create_dir_all(home).expect("room");
        let home = home.to_str().expect("text");
        let node = Node::up_in(folder.path(), &[], &[("HOME", home)]);
        let session = node.get("/api/session");
        assert_eq!(node.process.stop(), Some(0));
        (session["node_id"].clone(), session["node_token"].clone())
    };
    let first = session(&homes[0]);
    assert!(first.0.is_string() && first.1.is_string(), "{first:?}");
    assert_eq!(session(&homes[1]), first);
    assert_eq!(session(&homes[0]), first);
    std::fs::remove_dir_all(&homes[0]).expect("ours");
    let id = session(&homes[1]).0;
    assert_eq!(id, first.0);
    assert_eq!(session(&homes[0]).0, first.0);
}

/// N8: without a home to use, and with one from then on, the node of a state folder stays the same.
#[test]
fn a_home_that_cannot_be_used_keeps_nobody_from_starting_and_the_node_stays_who_it_is() {
    let folder = Scratch::new();
    let id = |home: &str| {
        let mut up = command(folder.path(), &UP);
        up.env("HOME", home);
        let node = node(&folder, Process::launch(folder.path(), up));
        let id = node.get("/api/session")["node_id"].clone();
        assert_eq!(node.process.stop(), Some(0));
        id
    };
    let first = id("/dev/null");
    assert!(first.is_string(), "{first}");
    assert_eq!(id("/proc/nowhere"), first);
    assert_eq!(id(folder.path().to_str().expect("text")), first);
    let log = std::fs::read_to_string(folder.path().join("stderr.log")).expect("a log");
    assert!(log.contains("XDG_DATA_HOME"), "{log}");
}

/// N8: and leaves nothing in one.
#[test]
fn a_named_state_folder_is_a_node_without_any_home_to_use() {
    let folder = Scratch::new();
    let readable = folder.path().join("readable");
    std::fs::create_dir(&readable).expect("room");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o500);
    std::fs::set_permissions(&readable, mode).expect("ours");
    let named = ("RELAY_BROKER_STATE_DIR", ".relay-broker");
    let identity = |home: &str| {
        let node = Node::up_in(folder.path(), &[], &[named, ("HOME", home)]);
        node.spawn("ada", &["cat"]);
        let session = node.get("/api/session");
        assert_eq!(node.process.stop(), Some(0));
        (session["node_id"].clone(), session["node_token"].clone())
    };
    let first = identity("");
    assert!(first.0.is_string() && first.1.is_string(), "{first:?}");
    let readable = readable.to_str().expect("text");
    for home in ["/dev/null", "/proc/nowhere", readable] {
        assert_eq!(identity(home), first, "{home}");
    }
    assert_eq!(std::fs::read_dir(readable).expect("ours").count(), 0);
    let log = std::fs::read_to_string(folder.path().join("stderr.log")).expect("a log");
    assert!(!log.contains("XDG_DATA_HOME"), "{log}");
}

/// The limit is low by custom, and one agent needs several descriptors.
#[test]
fn a_low_soft_limit_of_descriptors_is_raised_for_the_broker_and_kept_for_agents() {
    let folder = Scratch::new();
    let node = up_after(&folder, "ulimit -S -n 64");
    let report = script(folder.path(), "report", "ulimit -S -n > limit; exec cat");
    for n in 0..12 {
        node.spawn(&format!("w{n}"), &[&report]);
    }
    let limit = std::fs::read_to_string(folder.path().join("limit")).expect("written");
    assert_eq!(limit.trim(), "64");
}

#[test]
fn a_hard_limit_of_descriptors_is_named_and_told_with_503() {
    let folder = Scratch::new();
    let node = up_after(&folder, "ulimit -n 64");
    let refused = (0..20).find_map(|n| {
        let body = json!({"name": format!("w{n}"), "harness_config": {"command": "cat"}});
        let (status, body) = node.call("POST", "/api/spawn", Some(body));
        (status != 200).then_some((status, body))
    });
    let (status, body) = refused.expect("64 are not enough for 20 agents");
    assert_eq!(status, 503, "{body}");
    let text = body.to_string();
    assert!(text.contains("64") && text.contains("ulimit -n"), "{text}");
}

/// A connection takes two descriptors, so one of these limits leaves a single one when the next comes, and the other none.
#[test]
fn a_request_for_which_no_descriptor_is_left_is_answered_and_not_cut_off() {
    for limit in [48, 49] {
        let folder = Scratch::new();
        let node = up_after(&folder, &format!("ulimit -n {limit}"));
        let address = node.api.trim_start_matches("http://");
        let idle: Vec<TcpStream> = (0..40)
            .map(|_| TcpStream::connect(address).expect("a listener"))
            .collect();
        // Whoever comes late is told, whether or not room is made for it meanwhile.
        let mut told = 0;
        for _ in 0..40 {
            let (status, body) = node.call("GET", "/api/status", None);
            assert!(status == 200 || status == 503, "{status}: {body}");
            told += usize::from(body.to_string().contains("ulimit -n"));
        }
        assert!(told > 0, "{limit} are not enough for 40 who wait");
        drop(idle);
        until("room again", || {
            (node.call("GET", "/api/status", None).0 == 200).then_some(())
        });
    }
}

/// Opens the stream of events; `None` when there is no room for it. Fails when nobody says so within the time.
fn stream_of_events(node: &Node, address: &str) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).expect("a listener");
    let patience = Some(std::time::Duration::from_secs(20));
    stream.set_read_timeout(patience).expect("a socket");
    let asked = format!(
        "GET /ws HTTP/1.1\r\nHost: {address}\r\nX-API-Key: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        node.key
    );
    stream.write_all(asked.as_bytes()).expect("a socket");
    let mut head = [0; 12];
    stream.read_exact(&mut head).expect("an answer in time");
    let head = String::from_utf8_lossy(&head).into_owned();
    assert!(head.ends_with("101") || head.ends_with("503"), "{head}");
    head.ends_with("101").then_some(stream)
}

/// Streams stay, and nobody makes room for another: where not even one descriptor is left to accept with, only the one that
/// is kept for that serves to say so. A stream takes two descriptors, so with one of these limits none is left.
#[test]
fn a_request_beside_those_who_keep_all_descriptors_is_told_so_at_once() {
    for limit in [56, 57] {
        let folder = Scratch::new();
        let node = up_after(&folder, &format!("ulimit -n {limit}"));
        let address = node.api.trim_start_matches("http://").to_owned();
        let mut streams = Vec::new();
        let mut refused_in_a_row = 0;
        // The broker itself opens a file now and then: what it closes leaves room for one stream more.
        while refused_in_a_row < 3 {
            match stream_of_events(&node, &address) {
                Some(stream) => {
                    streams.push(stream);
                    refused_in_a_row = 0;
                }
                None => refused_in_a_row += 1,
            }
            assert!(streams.len() < 40, "{limit} are not enough for these");
        }
        drop(streams);
        until("room again", || {
            (node.call("GET", "/api/status", None).0 == 200).then_some(())
        });
    }
}

#[test]
fn agents_inherit_nothing_that_describes_what_the_broker_was_started_in() {
    let foreign = [
        "TMUX",
        "STY",
        "TERM_PROGRAM",
        "COLUMNS",
        "CLAUDECODE",
        "CLAUDE_CODE_ENTRYPOINT",
        "NOTIFY_SOCKET",
        "LISTEN_FDS",
        "WATCHDOG_USEC",
        "NODE_CHANNEL_FD",
        "GPG_TTY",
        "RELAY_AGENT_TOKEN",
    ];
    // What users configure their programs with is theirs.
    let own = ["CLAUDE_CODE_USE_BEDROCK", "COLORTERM", "EDITOR"];
    let variables: Vec<(&str, &str)> = foreign.iter().chain(&own).map(|n| (*n, "7")).collect();
    let folder = Scratch::new();
    let node = Node::up_in(folder.path(), &[], &variables);
    let report = script(folder.path(), "report", "env > environment; exec cat");
    node.spawn("ada", &[&report]);
    let text = std::fs::read_to_string(folder.path().join("environment")).expect("written");
    let has = |name: &&&str| text.lines().any(|line| line == format!("{name}=7"));
    assert_eq!(foreign.iter().filter(has).collect::<Vec<_>>(), [&""; 0]);
    assert_eq!(own.iter().filter(has).count(), own.len(), "{text}");
}

/// Descriptors with numbers beyond those that programs usually have; the parent left them open without closing on exec.
#[cfg(target_os = "linux")]
#[test]
fn no_descriptor_of_whatever_number_reaches_an_agents_program() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    let name = format!("surroundings-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("an address");
    let listener = UnixListener::bind_addr(&address).expect("free");
    let folder = Scratch::new();
    let list = "for fd in /proc/self/fd/*; do readlink $fd; done";
    let args = [
        "__exec",
        "--status",
        &format!("@{name}"),
        "--",
        "sh",
        "-c",
        list,
    ];
    let mut exec = command(folder.path(), &args);
    let secret = File::create(folder.path().join("secret")).expect("room");
    let leak = move || {
        let now = getrlimit(Resource::Nofile);
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: now.maximum,
                maximum: now.maximum,
            },
        )?;
        for number in [900, 1023, 1500] {
            // SAFETY: the new number is in use by nobody in the new process; both calls may be made before exec.
            if unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&secret), number) } < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: see above.
    unsafe { exec.pre_exec(leak) };
    let child = exec.stdout(Stdio::piped()).spawn().expect("it starts");
    let (mut status, _) = listener.accept().expect("it connects");
    let _ = status.write_all(relay_broker::agent::exec::GO);
    let out = child.wait_with_output().expect("ours");
    let open = String::from_utf8_lossy(&out.stdout);
    assert!(!open.is_empty() && !open.contains("secret"), "{open}");
}
