//! People who type into a terminal themselves.

use super::*;

/// All at one moment, and more than the terminal takes at once.
fn lines_in_pieces() -> Vec<String> {
    let words = (0..900).map(|n| format!("word{n} "));
    let lines = words.enumerate().flat_map(|(n, word)| match n % 300 {
        299 => vec![word, "\r".to_owned()],
        _ => vec![word],
    });
    lines.collect()
}

#[test]
fn what_a_person_types_faster_than_it_is_read_arrives_whole_and_in_order() {
    for echo in [true, false] {
        let mut world = stage(Manner {
            waits_us: 300_000,
            chunk: 64,
            ..Manner::good(Kind::Raw { echo })
        });
        world.type_keys(&w0(), &lines_in_pieces());
        must(&mut world, 2 * MINUTE_MS, "the program takes it all", |w| {
            w.laws.typed_in_vain(&w0()) == (0, 0)
        });
    }
}

#[test]
fn what_a_person_types_between_messages_leaves_both_whole() {
    let mut world = stage(Manner {
        waits_us: 300_000,
        ..Manner::good(Kind::Raw { echo: true })
    });
    let first = post(&mut world);
    world.type_keys(&w0(), &["by ".into(), "hand".into(), "\r".into()]);
    let second = post(&mut world);
    rest(&mut world);
    assert_eq!(world.laws.typed_in_vain(&w0()), (0, 0));
    for tag in [first, second] {
        assert_eq!((typed(&world, tag), taken(&world, tag)), (1, 1));
    }
}
