use super::super::scanner::Scanner;
use super::*;

fn after(text: &str) -> TerminalSettings {
    let (mut settings, mut scanner) = (TerminalSettings::default(), Scanner::default());
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let (upto, found) = scanner.next(rest);
        found.iter().for_each(|found| settings.note(found));
        rest = &rest[upto..];
    }
    settings
}

/// What is said, and what takes it back.
const SWITCHED: [(&str, &str); 29] = [
    ("\x1b[?1016h", "\x1b[?1016l"),
    ("\x1b[?1007h", "\x1b[?1007l"),
    ("\x1b[?2004;2005h", "\x1b[?2004l\x1b[?2005l"),
    (
        "\x1b[?2027h\x1b[?2031h\x1b[?2048h",
        "\x1b[?2027l\x1b[?2031l\x1b[?2048l",
    ),
    ("\x1b[?9001h", "\x1b[?9001l"),
    ("\x1b[?25l", "\x1b[?25h"),
    ("\x1b[?7l", "\x1b[?7h"),
    ("\x1b[?5h", "\x1b[?5l"),
    ("\x1b[?1049h", "\x1b[?1049l"),
    ("\x1b[?47h", "\x1b[?47l"),
    ("\x1b[4h", "\x1b[4l"),
    ("\x1b[20h", "\x1b[20l"),
    ("\x1b[>1u", "\x1b[<1u"),
    ("\x1b[>1u\x1b[>5u", "\x1b[<2u"),
    ("\x1b[=3;1u", "\x1b[=0;1u"),
    ("\x1b[>1u\x1b[?1049h\x1b[>3u", "\x1b[<1u\x1b[?1049l\x1b[<1u"),
    ("\x1b[>4;2m", "\x1b[>4m"),
    ("\x1b[>4n", "\x1b[>4m"),
    ("\x1b[>4;1f", "\x1b[>4f"),
    ("\x1b(0", "\x1b(B"),
    ("\x1b)0\x0e", "\x1b)B\x0f"),
    ("\x1b%@", "\x1b%G"),
    ("\x1b=", "\x1b>"),
    ("\x1b[2;9r", "\x1b[r"),
    ("\x1b[3 q", "\x1b[0 q"),
    ("\x1b]9;4;1;50\x07", "\x1b]9;4;0\x1b\\"),
    (
        "\x1b]10;#fff;#000;red\x07",
        "\x1b]110\x1b\\\x1b]111\x1b\\\x1b]112\x1b\\",
    ),
    (
        "\x1b]4;1;red;2;blue\x07",
        "\x1b]104;1\x1b\\\x1b]104;2\x1b\\",
    ),
    ("\x1b]22;pointer\x1b\\", "\x1b]22;default\x1b\\"),
];

#[test]
fn what_a_program_switched_and_nothing_else_is_switched_back() {
    assert_eq!(TerminalSettings::default().undo(), "");
    for (said, undone) in SWITCHED {
        assert_eq!(after(said).undo(), undone, "{said:?}");
    }
}

#[test]
fn what_it_has_switched_back_itself_is_left_alone() {
    for (said, undone) in SWITCHED {
        let over = format!("{said}{undone}");
        assert_eq!(after(&over).undo(), "", "{over:?}");
        assert_eq!(after(&format!("{said}\x1bc")).undo(), "", "{said:?}");
    }
    for only in [
        "\x1b[?1006l",
        "\x1b[?25h",
        "\x1b[4l",
        "\x1b[<u",
        "\x1b[>4m",
        "\x1b(B",
        "\x0f",
        "\x1b[r",
        "\x1b]112\x07",
        "\x1b[0 q",
    ] {
        assert_eq!(after(only).undo(), "", "{only:?}");
    }
}

#[test]
fn a_soft_reset_and_saved_modes_are_followed() {
    assert_eq!(
        after("\x1b[?1h\x1b[4h\x1b=\x1b(0\x1b[?1000h\x1b[!p").undo(),
        "\x1b[?1000l"
    );
    assert_eq!(after("\x1b[?1000s\x1b[?1000h\x1b[?1000r").undo(), "");
    assert_eq!(
        after("\x1b[?1000h\x1b[?1000s\x1b[?1000l\x1b[?1000r").undo(),
        "\x1b[?1000l"
    );
}

#[test]
fn colours_that_are_asked_for_are_not_set() {
    assert_eq!(
        after("\x1b]11;?\x07\x1b]4;1;?\x07\x1b]10;?;#fff\x07").undo(),
        "\x1b]111\x1b\\"
    );
}

#[test]
fn what_is_replayed_gives_the_same_settings() {
    for (said, _) in SWITCHED {
        let settings = after(said);
        let mut again = settings.replay();
        again.extend(settings.charsets().replay());
        let again = String::from_utf8(again).expect("text");
        let apart = TerminalSettings {
            margins: settings.margins,
            flags: settings.flags.clone(),
            private: settings.private.clone(),
            ..after(&again)
        };
        assert_eq!(apart, settings, "{said:?} as {again:?}");
    }
}

#[test]
fn a_flood_of_switches_is_bounded() {
    let mut flood = String::new();
    for n in 0..5000 {
        let _ = write!(
            flood,
            "\x1b[?{n}h\x1b[{n}h\x1b[>{n};1m\x1b[>1u\x1b]4;{n};red\x07"
        );
    }
    let settings = after(&flood);
    assert!(settings.replay().len() < 100_000);
    assert!(settings.undo().len() < 100_000);
}
