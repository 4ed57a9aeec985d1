//! What of a journal's bytes can be believed: a table over four questions, and the walk through a file that asks them.
//! Pure; touches no file. It never fails on any bytes: it refuses what is not ours and sorts the rest.

use std::ops::Range;

use super::frame::{self, FramePosition, Header, VERSION};

/// The four questions about the bytes where a frame should begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameEvidence {
    /// A header line stands there.
    pub header_whole: bool,
    /// As many bytes follow as it says.
    pub length_fits: bool,
    /// They are the ones it was written for, and it was written for this place.
    pub chain_right: bool,
    /// From there on, some frame that is none of the earlier ones verifies by itself.
    pub good_follows: bool,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameJudgement {
    /// Believe the frame and go on behind it.
    Accept,
    /// Nothing committed can come after: a torn last write.
    Cut,
    /// Committed frames come after, so this is damage and not a torn write.
    SetAside,
}

/// The table.
pub(super) fn judge(seen: FrameEvidence) -> FrameJudgement {
    match (
        seen.header_whole,
        seen.length_fits,
        seen.chain_right,
        seen.good_follows,
    ) {
        (true, true, true, _) => FrameJudgement::Accept,
        (_, _, _, true) => FrameJudgement::SetAside,
        (_, _, _, false) => FrameJudgement::Cut,
    }
}

/// Why a file is not read at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Its first line is not a journal's.
    NotAJournal,
    /// It is of a version this program does not know.
    Version(u64),
    /// It holds another program's records.
    Kind(String),
}

/// A frame that verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Good {
    /// Its number.
    pub number: u64,
    /// Where it begins.
    pub start: usize,
    /// Where its records' lines are.
    pub lines: Range<usize>,
}

/// A stretch that does not verify, with frames that do behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnverifiedStretch {
    /// Where it begins, in bytes from the start of the file.
    pub offset: u64,
    /// How many frames are missing.
    pub frames: u64,
}

/// A whole file, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Examined {
    /// All frames that verify, in order.
    pub good: Vec<Good>,
    /// Damage between them.
    pub gaps: Vec<UnverifiedStretch>,
    /// Bytes at the end that are no frame.
    pub cut: u64,
}

/// Sorts the bytes of one file.
///
/// # Errors
/// [`Unreadable`] when the first line says that it is not a journal of this kind and version.
pub(super) fn examine(bytes: &[u8], kind: &str) -> Result<Examined, Unreadable> {
    let mut found = Examined::default();
    let Some(mut at) = check_first_line(bytes, kind)? else {
        found.cut = bytes.len() as u64;
        return Ok(found);
    };
    let mut place = None;
    while at < bytes.len() {
        let (seen, frame) = look(bytes, at, place);
        let (header, lines) = match (judge(seen), frame) {
            (FrameJudgement::Accept | FrameJudgement::SetAside, Some(frame)) => frame,
            (FrameJudgement::Cut, _) | (_, None) => {
                found.cut = (bytes.len() - at) as u64;
                break;
            }
        };
        if !seen.chain_right {
            found.gaps.push(UnverifiedStretch {
                offset: at as u64,
                frames: header.number - place.map_or(0, |p: FramePosition| p.number),
            });
        }
        at = lines.end;
        place = Some(header.next());
        found.good.push(Good {
            number: header.number,
            start: lines.start - header.size(),
            lines,
        });
    }
    Ok(found)
}

/// Answers the four questions at one position, and gives the next frame that verifies by itself from there on. No
/// `place` means the first frame of a file whose number is not known yet: it goes by what the frame says, since people
/// may restore a file under another name.
fn look(
    bytes: &[u8],
    at: usize,
    place: Option<FramePosition>,
) -> (FrameEvidence, Option<(Header, Range<usize>)>) {
    let header = Header::parse(&bytes[at..]);
    let here = whole(bytes, at);
    let chain_right = here.as_ref().is_some_and(|(h, _)| {
        let place = place.unwrap_or(FramePosition::start(h.file));
        (h.file, h.number, h.previous) == (place.file, place.number, place.previous)
    });
    let next = if chain_right {
        here
    } else {
        next_whole(bytes, at, place)
    };
    let seen = FrameEvidence {
        header_whole: header.is_some(),
        length_fits: header.is_some_and(|(h, start)| lines(bytes, at + start, h.length).is_some()),
        chain_right,
        good_follows: next.is_some(),
    };
    (seen, next)
}

/// The first frame from `at` on that verifies by itself and can come at `place` or later: one with a lower number is a
/// copy, one of another file a leftover, and believing them would tell the past twice.
fn next_whole(
    bytes: &[u8],
    at: usize,
    place: Option<FramePosition>,
) -> Option<(Header, Range<usize>)> {
    let possible =
        |h: &Header| place.is_none_or(|place| h.file == place.file && h.number >= place.number);
    let mut from = at;
    while let Some(start) = frame::find(bytes, from) {
        match whole(bytes, start) {
            Some((header, lines)) if possible(&header) => return Some((header, lines)),
            _ => from = start + 1,
        }
    }
    None
}

/// The frame at `at`, if it verifies by itself.
fn whole(bytes: &[u8], at: usize) -> Option<(Header, Range<usize>)> {
    let (header, start) = Header::parse(&bytes[at..])?;
    let range = lines(bytes, at + start, header.length)?;
    header
        .fits(&bytes[range.clone()])
        .then_some((header, range))
}

/// The range of `length` bytes from `start`, if there are as many.
fn lines(bytes: &[u8], start: usize, length: u64) -> Option<Range<usize>> {
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    (end <= bytes.len()).then_some(start..end)
}

/// Where the first frame begins; `None` when the file ends inside its first line.
fn check_first_line(bytes: &[u8], kind: &str) -> Result<Option<usize>, Unreadable> {
    /// Longer first lines are not ours.
    const LINE_MAX: usize = 256;
    let begins_right = {
        let magic = format!("{} ", frame::MAGIC);
        let shared = magic.len().min(bytes.len());
        magic.as_bytes()[..shared] == bytes[..shared]
    };
    if !begins_right {
        return Err(Unreadable::NotAJournal);
    }
    let window = &bytes[..bytes.len().min(LINE_MAX)];
    let Some(end) = window.iter().position(|b| *b == b'\n') else {
        return if bytes.len() < LINE_MAX {
            Ok(None)
        } else {
            Err(Unreadable::NotAJournal)
        };
    };
    let line = std::str::from_utf8(&window[..end]).map_err(|_| Unreadable::NotAJournal)?;
    let mut words = line.splitn(3, ' ').skip(1);
    let version = words.next().unwrap_or("");
    let found_kind = words.next().unwrap_or("");
    match version.parse::<u64>() {
        Ok(VERSION) => {}
        Ok(other) => return Err(Unreadable::Version(other)),
        Err(_) => return Err(Unreadable::NotAJournal),
    }
    if found_kind != kind {
        return Err(Unreadable::Kind(found_kind.to_owned()));
    }
    if format!("{line}\n") != frame::first_line(kind) {
        return Err(Unreadable::NotAJournal);
    }
    Ok(Some(end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_believes_only_whole_frames_and_never_cuts_before_a_good_one() {
        for bits in 0..16u8 {
            let on = |bit: u8| bits & (1 << bit) != 0;
            let seen = FrameEvidence {
                header_whole: on(0),
                length_fits: on(1),
                chain_right: on(2),
                good_follows: on(3),
            };
            let expected = match bits {
                0b0111 | 0b1111 => FrameJudgement::Accept,
                0b1000..=0b1110 => FrameJudgement::SetAside,
                _ => FrameJudgement::Cut,
            };
            assert_eq!(judge(seen), expected, "{seen:?}");
        }
    }

    fn journal(batches: &[&[&str]]) -> (Vec<u8>, Vec<Range<usize>>) {
        let mut bytes = frame::first_line("test").into_bytes();
        let (mut place, mut frames) = (FramePosition::start(7), Vec::new());
        for batch in batches {
            let (frame, next) = frame::encode(place, frame::undated(batch)).expect("text");
            frames.push(bytes.len()..bytes.len() + frame.len());
            bytes.extend(frame);
            place = next;
        }
        (bytes, frames)
    }

    fn numbers(found: &Examined) -> Vec<u64> {
        found.good.iter().map(|g| g.number).collect()
    }

    #[test]
    fn a_lost_frame_in_the_middle_is_counted_and_the_rest_salvaged() {
        let (mut bytes, frames) = journal(&[&[], &["a"], &["b"], &["c"]]);
        bytes.drain(frames[1].clone());
        let found = examine(&bytes, "test").expect("a journal");
        assert_eq!(numbers(&found), [0, 2, 3]);
        let gap = UnverifiedStretch {
            offset: frames[1].start as u64,
            frames: 1,
        };
        assert_eq!((found.gaps, found.cut), (vec![gap], 0));
    }

    #[test]
    fn frames_that_changed_places_or_come_twice_are_noticed_and_told_once() {
        let (bytes, frames) = journal(&[&[], &["a"], &["b"], &["c"]]);
        let part = |n: usize| bytes[frames[n].clone()].to_vec();
        let first = bytes[..frames[1].start].to_vec();
        let swapped = [first.clone(), part(2), part(1), part(3)].concat();
        let found = examine(&swapped, "test").expect("a journal");
        assert_eq!(numbers(&found), [0, 2, 3]);
        assert_eq!(found.gaps.len(), 2);
        let doubled = [first, part(1), part(1), part(2), part(3)].concat();
        let found = examine(&doubled, "test").expect("a journal");
        assert_eq!(numbers(&found), [0, 1, 2, 3]);
        assert_eq!(found.gaps.len(), 1);
    }

    #[test]
    fn a_frame_of_another_history_is_noticed_by_its_link() {
        let (ours, frames) = journal(&[&[], &["a"], &["b"]]);
        let (theirs, _) = journal(&[&[], &["x"], &["b"]]);
        let mixed = [&ours[..frames[2].start], &theirs[frames[2].clone()]].concat();
        let found = examine(&mixed, "test").expect("a journal");
        assert_eq!((found.gaps.len(), found.gaps[0].frames), (1, 0));
    }

    #[test]
    fn zeros_rubbish_or_an_old_frame_behind_the_last_one_are_cut() {
        let (bytes, frames) = journal(&[&[], &["a"], &["b"]]);
        let whole = examine(&bytes, "test").expect("a journal");
        let old_file = (0..9).fold(
            (FramePosition::start(6), Vec::new()),
            |(place, mut frames), _| {
                let (frame, next) = frame::encode(place, frame::undated(&["old"])).expect("text");
                frames.extend(frame);
                (next, frames)
            },
        );
        for tail in [
            old_file.1,
            vec![0; 700],
            b"frame frame x".to_vec(),
            bytes[frames[0].clone()].to_vec(),
        ] {
            let found =
                examine(&[bytes.clone(), tail.clone()].concat(), "test").expect("a journal");
            assert_eq!(found.good, whole.good);
            assert_eq!((found.gaps.len(), found.cut), (0, tail.len() as u64));
        }
    }

    #[test]
    fn only_journals_of_this_kind_and_version_are_read() {
        let refusal = |text: &str| examine(text.as_bytes(), "test").expect_err("refused");
        assert_eq!(refusal("relay-journal 2 test\nx"), Unreadable::Version(2));
        assert_eq!(refusal("relay-journal 2 other\n"), Unreadable::Version(2));
        assert_eq!(
            refusal("relay-journal 1 other\n"),
            Unreadable::Kind("other".into())
        );
        for text in [
            "{}",
            "relay-journal x test\n",
            "relay-journal 01 test\n",
            "\0\0\0",
        ] {
            assert_eq!(refusal(text), Unreadable::NotAJournal, "{text:?}");
        }
        assert_eq!(
            refusal(&format!("relay-journal 1 {}", "x".repeat(300))),
            Unreadable::NotAJournal
        );
    }

    #[test]
    fn any_bit_of_a_kibibyte_may_flip_and_no_record_changes() {
        flip_each_bit(1024);
    }

    #[test]
    #[ignore = "takes minutes"]
    fn any_bit_of_sixteen_kibibytes_may_flip_and_no_record_changes() {
        flip_each_bit(16 * 1024);
    }

    fn flip_each_bit(size: usize) {
        // Three sizes of frame, so that flips hit headers, short and long lines.
        let long = "x".repeat(300);
        let kinds: [&[&str]; 3] = [&["a"], &["b", "c", "d"], &[&long]];
        let mut batches: Vec<&[&str]> = vec![&[]];
        let (mut bytes, mut frames) = journal(&batches);
        while bytes.len() < size {
            batches.push(kinds[batches.len() % 3]);
            (bytes, frames) = journal(&batches);
        }
        let whole = examine(&bytes, "test").expect("a journal");
        for position in 0..bytes.len() {
            for bit in 0..8 {
                bytes[position] ^= 1 << bit;
                if let Ok(found) = examine(&bytes, "test") {
                    let lost = frames.iter().position(|f| f.contains(&position));
                    let lost = lost.expect("a flip in the first line is refused");
                    let left: Vec<Good> = (whole.good.iter().enumerate())
                        .filter(|(n, _)| *n != lost)
                        .map(|(_, good)| good.clone())
                        .collect();
                    assert_eq!(found.good, left, "byte {position} bit {bit}");
                    let last = lost + 1 == frames.len();
                    assert_eq!((found.gaps.is_empty(), found.cut > 0), (last, last));
                }
                bytes[position] ^= 1 << bit;
            }
        }
    }
}
