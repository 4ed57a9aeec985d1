use super::*;
use crate::agent::profile;
use crate::msg::Size;

/// What a recorded terminal shows (fixtures/screens).
fn recorded(name: &str) -> Screen {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/screens");
    let size = std::fs::read_to_string(folder.join(name).join("size")).expect("a file");
    let (rows, cols) = size.trim().split_once(' ').expect("rows and columns");
    let size = Size {
        rows: rows.parse().expect("rows"),
        cols: cols.parse().expect("columns"),
    };
    let mut screen = Screen::new(size);
    screen.feed(&std::fs::read(folder.join(name).join("bytes")).expect("a file"));
    screen
}

fn drawn(text: &str) -> Screen {
    let mut screen = Screen::new(Size { rows: 40, cols: 90 });
    let text = text.replace('\n', "\r\n");
    screen.feed(format!("\x1b[?2004h{text}").as_bytes());
    screen
}

fn look(cli: &str, screen: &Screen) -> Option<SeenDialog> {
    let row = profile::known(cli).expect("a row");
    seen(screen, &row, prompt::focus(screen, row.prompt), true)
}

fn name(cli: &str, screen: &Screen) -> Option<Dialog> {
    look(cli, screen).map(|seen| seen.dialog)
}

#[test]
fn the_dialogs_of_real_clis_are_called_by_their_names_and_nothing_else_is() {
    for cli in ["claude", "codex", "gemini", "opencode"] {
        for state in ["idle", "draft", "busy"] {
            let screen = recorded(&format!("{cli}-{state}"));
            assert_eq!(name(cli, &screen), None, "{cli} {state}");
        }
        let asked = recorded(&format!("{cli}-dialog"));
        assert_eq!(name(cli, &asked), Some(Dialog::Permission), "{cli}");
    }
    for cli in ["claude", "gemini"] {
        let asked = recorded(&format!("{cli}-trust"));
        assert_eq!(name(cli, &asked), Some(Dialog::TrustFolder), "{cli}");
    }
}

/// opencode shows nothing at all while it changes its view.
#[test]
fn an_empty_screen_is_no_dialog() {
    assert_eq!(name("opencode", &recorded("opencode-blank")), None);
    assert_eq!(
        name("opencode", &drawn("which one?")),
        Some(Dialog::Unknown)
    );
}

#[test]
fn a_dialog_is_answered_by_the_keys_of_its_cli_and_only_as_its_policy_says() {
    let keys = |cli, recording: &str, policy| {
        let screen = recorded(recording);
        look(cli, &screen).expect("a dialog").keys(&screen, policy)
    };
    for cli in ["claude", "gemini"] {
        let trust = format!("{cli}-trust");
        assert_eq!(keys(cli, &trust, Policy::Accept), Some(b"\r".to_vec()));
        assert_eq!(keys(cli, &trust, Policy::Hold), None);
        assert_eq!(keys(cli, &trust, Policy::Deny), None);
    }
    for cli in ["claude", "codex", "gemini", "opencode"] {
        let asks = format!("{cli}-dialog");
        assert_eq!(keys(cli, &asks, Policy::Deny), Some(b"\x1b".to_vec()));
        assert_eq!(keys(cli, &asks, Policy::Hold), None);
        assert_eq!(keys(cli, &asks, Policy::Accept), None, "never");
    }
}

const TRUST: &str = "Quick safety check: Is this yours?\n\n ❯ 1. Yes, I trust this folder\n   2. No, exit\n\n Enter to confirm";

#[test]
fn an_option_that_is_not_marked_is_chosen_by_its_number() {
    let moved = TRUST.replace("❯ 1.", "  1.").replace("  2.", "❯ 2.");
    let screen = drawn(&moved);
    let seen = look("claude", &screen).expect("a dialog");
    assert_eq!(seen.keys(&screen, Policy::Accept), Some(b"1".to_vec()));
    assert_eq!(look("claude", &drawn(TRUST)), Some(seen), "the same dialog");
}

#[test]
fn a_command_that_imitates_a_dialog_does_not_pass_for_it() {
    let asked = format!(
        " Bash command\n\n{TRUST}\n\n Do you want to proceed?\n ❯ 1. Yes\n   2. No\n\n Esc to cancel"
    );
    let screen = drawn(&asked);
    let seen = look("claude", &screen).expect("a dialog");
    assert_eq!(seen.dialog, Dialog::Permission);
    assert_eq!(seen.keys(&screen, Policy::Accept), None);
    assert_eq!(name("claude", &drawn(&format!("{TRUST}\n────\n❯ "))), None);
    let early = drawn(&format!("{TRUST}\x1b[?2004l"));
    assert_eq!(name("claude", &early), Some(Dialog::Unknown));
    let below = drawn(&format!("{TRUST}\n ❯ 1. Sure\n   2. Never"));
    assert_eq!(name("claude", &below), Some(Dialog::Unknown));
    assert_eq!(
        look("claude", &below).and_then(|seen| seen.keys(&below, Policy::Accept)),
        None
    );
}

fn at(ms: u64) -> Mono {
    Mono(1) + Duration::from_millis(ms)
}

/// Looks whenever it is due until then: when what stood was told, and when an answer was possible first.
fn stands(watch: &mut DialogWatch, screen: &Screen, until: u64) -> (Option<u64>, Option<u64>) {
    let (mut told, mut settled) = (None, None);
    while let Some(due) = watch.due.filter(|due| *due <= at(until)) {
        let news = watch.look(due, look("claude", screen), Some(at(0)));
        let ms = u64::try_from(due.since(at(0)).as_millis()).expect("short");
        told = told.or(news.stands.map(|_| ms));
        settled = settled.or(news.settled.map(|_| ms));
    }
    (told, settled)
}

#[test]
fn a_dialog_is_told_when_it_stands_and_when_it_is_gone() {
    let mut watch = DialogWatch::default();
    watch.changed(at(0));
    assert_eq!(
        stands(&mut watch, &drawn(TRUST), 9000),
        (Some(2300), Some(600))
    );
    assert_eq!(watch.due, None, "nothing wakes while nothing happens");
    watch.changed(at(9000));
    watch.changed(at(9200));
    assert_eq!(watch.due, Some(at(9300)), "soon, however much is drawn");
    let news = watch.look(at(9300), None, Some(at(9200)));
    assert_eq!(news.gone, Some(Dialog::TrustFolder));
    let news = watch.look(at(9600), None, Some(at(9200)));
    assert_eq!(news, DialogNews::default(), "once");
}

#[test]
fn a_dialog_is_answered_once_and_another_one_again() {
    let mut watch = DialogWatch::default();
    let dialog = look("claude", &drawn(TRUST)).expect("a dialog");
    watch.look(at(0), Some(dialog.clone()), None);
    assert_eq!(
        watch.look(at(200), Some(dialog.clone()), None).settled,
        None
    );
    let settled = watch.look(at(300), Some(dialog.clone()), None).settled;
    watch.answered(settled.expect("settled"));
    watch.changed(at(400));
    assert_eq!(watch.due, Some(at(700)), "it may go soon");
    assert_eq!(
        watch.look(at(5000), Some(dialog.clone()), None).settled,
        None
    );
    watch.look(at(5300), None, None);
    watch.look(at(5600), Some(dialog.clone()), None);
    assert!(watch.look(at(5900), Some(dialog), None).settled.is_some());
}

#[test]
fn a_program_that_goes_on_drawing_has_no_dialog_without_a_name() {
    let viewer = drawn("some text that fills the screen\n(END)");
    let mut watch = DialogWatch::default();
    for ms in (0..10_000).step_by(500) {
        let news = watch.look(at(ms), look("claude", &viewer), Some(at(ms)));
        assert_eq!(news.stands, None);
    }
    let due = watch.due.expect("to look again");
    assert_eq!(due, at(9500 + 1000));
    let news = watch.look(due, look("claude", &viewer), Some(at(9500)));
    assert_eq!(news.stands, Some(Dialog::Unknown));
}
