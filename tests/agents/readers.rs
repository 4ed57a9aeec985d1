//! Programs that read in their own ways: launchers, password prompts, pagers.

use super::*;

#[test]
fn a_message_for_a_launcher_waits_until_it_has_become_its_program() {
    let folder = Folder::new();
    let (got, go) = (folder.file("got"), folder.file("go"));
    let mut agent = Agent::sh(&format!(
        "while ! [ -e {go} ]; do sleep 0.02; done; {SET_UP}; exec tee {got}"
    ));
    agent.inject("d1", "hello there");
    // Longer than any silence that would count as readiness.
    let early = agent.reports.recv_timeout(Duration::from_millis(1500));
    assert!(
        matches!(early, Ok(AgentReport::Started { .. })),
        "{early:?}"
    );
    let early = agent.reports.recv_timeout(Duration::from_millis(1500));
    assert!(early.is_err(), "{early:?}");
    std::fs::write(&go, "").expect("file");
    assert_eq!(agent.landed("d1"), Proof::Echo);
    agent.stop();
    assert_eq!(
        std::fs::read_to_string(&got).expect("file"),
        "hello there\r"
    );
}

#[test]
fn what_a_program_throws_away_when_it_comes_up_is_typed_again() {
    let folder = Folder::new();
    let (got, go) = (folder.file("got"), folder.file("go"));
    let mut agent = Agent::sh(&format!(
        "echo '->pty:ready'; while ! [ -e {go} ]; do sleep 0.02; done; {SET_UP}; exec tee {got}"
    ));
    agent.ready();
    agent.inject("d1", "hello there");
    agent.until(|r| matches!(r, AgentReport::Typed(_)).then_some(()));
    std::fs::write(&go, "").expect("file");
    let why = agent.held_back();
    assert!(why.contains("typed again"), "{why}");
    assert_eq!(agent.landed("d1"), Proof::Echo);
    agent.stop();
    assert_eq!(
        std::fs::read_to_string(&got).expect("file"),
        "hello there\r"
    );
}

#[test]
fn a_program_that_waits_for_a_line_in_whatever_way_is_ready() {
    // Each waits for a second line: how a program ends is for other tests.
    let select = "import select,sys\nselect.select([0],[],[])\nprint(sys.stdin.readline())\nsys.stdin.readline()";
    let poll = "import select,sys\np=select.poll()\np.register(0,select.POLLIN)\np.poll()\nprint(sys.stdin.readline())\n\
                sys.stdin.readline()";
    let epoll = "import select,sys\np=select.epoll()\np.register(0,select.EPOLLIN)\np.poll()\nprint(sys.stdin.readline())\n\
                 sys.stdin.readline()";
    let thread =
        "import threading\nthreading.Thread(target=lambda: (print(input()), input())).start()";
    let other = "tty=open('/dev/tty')\nprint(tty.readline())\ntty.readline()";
    let all: [&[&str]; 8] = [
        &["cat"],
        &["sh", "-c", "sleep 0.7; cat"],
        &["sh", "-c", "while read line; do echo \"$line\"; done"],
        &["python3", "-c", select],
        &["python3", "-c", poll],
        &["python3", "-c", epoll],
        &["python3", "-c", thread],
        &["python3", "-c", other],
    ];
    for argv in all {
        let mut agent = Agent::start(spec(argv));
        let evidence = agent.ready();
        assert!(!evidence.contains("passed"), "{argv:?}: {evidence}");
        agent.inject("d1", "hello there");
        assert_eq!(agent.landed("d1"), Proof::Echo, "{argv:?}");
    }
}

#[test]
fn a_password_prompt_gets_a_persons_keys_and_no_message() {
    let folder = Folder::new();
    let (got, word) = (folder.file("got"), folder.file("word"));
    let mut agent = Agent::sh(&format!(
        "stty -echo; printf '\\033[s->pty:ready\\033[2K\\rPassword: '; read word; echo \"$word\" > {word}; \
         stty echo; echo; echo welcome; exec cat > {got}"
    ));
    agent.ready();
    agent.inject("d1", "hello there");
    let why = agent.held_back();
    assert!(why.contains("password"), "{why}");
    agent.press(b"secret\r").expect("typed");
    agent.landed("d1");
    agent.press(b"\x04").expect("typed");
    agent.exited();
    assert_eq!(std::fs::read_to_string(&word).expect("file"), "secret\n");
    assert_eq!(
        std::fs::read_to_string(&got).expect("file"),
        "hello there\n"
    );
}

#[test]
fn a_pager_in_front_of_a_shell_gets_no_message_and_the_shell_gets_it_afterwards() {
    let folder = Folder::new();
    let key = folder.file("key");
    let pager = script(
        &folder.0,
        "pager",
        &format!(
            "stty raw -echo; printf '\\033[?1049h'; touch up; dd bs=1 count=1 of={key} 2>/dev/null; stty sane; printf '\\033[?1049l'"
        ),
    );
    let mut shell = spec(&["bash", "--norc", "-i"]);
    shell.cwd = Some(folder.0.to_str().expect("text").to_owned());
    let mut agent = Agent::start(shell);
    agent.ready();
    agent.press(format!("{pager}\r").as_bytes()).expect("typed");
    until("the pager", || folder.0.join("up").exists().then_some(()));
    agent.inject("d1", "echo hello > heard");
    let why = agent.held_back();
    assert!(why.contains("reads each key"), "{why}");
    agent.press(b"q").expect("typed");
    assert_ne!(agent.landed("d1"), Proof::None);
    until("the shell", || {
        folder.0.join("heard").exists().then_some(())
    });
    assert_eq!(std::fs::read_to_string(&key).expect("file"), "q");
    agent.stop();
}
