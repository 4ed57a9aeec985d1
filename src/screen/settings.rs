//! What a program has switched in its terminal and the picture does not show: modes, keyboard protocols, character sets,
//! margins, colours, the shape of the cursor. From this a late viewer's terminal is brought to the state of one that was
//! there from the beginning, and a terminal that is left gets back exactly what was changed in it. Pure; the screen feeds it.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::scanner::Sequence;

/// How many modes, colours and saved flags of a kind are remembered; the oldest are forgotten.
const KEPT: usize = 300;
/// How many levels of keyboard flags are remembered.
const LEVELS: usize = 32;
/// Private modes that are on in a terminal nobody has touched: wrapping, repeating keys, the cursor, and what xterm does
/// with Num Lock and Meta.
const ON: [u16; 6] = [7, 8, 25, 1034, 1035, 1036];
/// The second page, in its three spellings.
pub(super) const PAGES: [u16; 3] = [47, 1047, 1049];
/// Modes whose switching does more than to switch: 132 columns, and saving the cursor.
const ACTS: [u16; 2] = [3, 1048];
/// What a soft reset (DECSTR) switches back, of private modes and others.
const SOFT: ([u16; 6], [u16; 2]) = ([1, 6, 7, 25, 66, 69], [2, 4]);

/// Flags of the kitty keyboard protocol on one page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct KittyFlags {
    base: u16,
    pushed: Vec<u16>,
}

/// Switches in the order in which each was last touched.
type Switches<K, V> = Vec<(K, V)>;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TerminalSettings {
    private: Switches<u16, bool>,
    ansi: Switches<u16, bool>,
    /// XTSAVE: values to come back to.
    saved: Switches<u16, bool>,
    keypad: bool,
    charsets: Charsets,
    /// `CSI > p ; v` with its final letter: modifyOtherKeys and its kin.
    keys: Switches<(u8, u16), Vec<u8>>,
    flags: [KittyFlags; 2],
    cursor: Option<u16>,
    margins: Option<(u16, u16)>,
    sides: Option<(u16, u16)>,
    /// OSC 4 and 5, by number and index.
    palette: Switches<(u16, u16), Vec<u8>>,
    /// OSC 10 to 19.
    colours: BTreeMap<u16, Vec<u8>>,
    /// OSC 9;4, 22 and 8, as they were said.
    progress: Option<Vec<u8>>,
    pointer: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

/// Which letters the bytes mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Charsets {
    /// Each of G0 to G3 as it was designated: `(0`.
    named: BTreeMap<u8, Vec<u8>>,
    /// What is invoked on the left side, if it is not G0.
    left: u8,
    /// The coding of the whole, `ESC % …`.
    coding: Option<u8>,
}

impl TerminalSettings {
    /// Hears of a sequence.
    pub(super) fn note(&mut self, found: &Sequence) {
        match found {
            Sequence::Csi(body, last) => self.control(body, *last),
            Sequence::Osc(body) => self.osc(body),
            Sequence::Escape(body) => self.escape(body),
            Sequence::Control(0x0e) => self.charsets.left = 1,
            Sequence::Control(0x0f) => self.charsets.left = 0,
            Sequence::Control(_) | Sequence::Device(..) => {}
        }
    }

    /// The terminal has another size; that frees the margins.
    pub(super) fn resized(&mut self) {
        (self.margins, self.sides) = (None, None);
    }

    /// Whether a private mode is on.
    pub fn is_on(&self, mode: u16) -> bool {
        let said = self.private.iter().find(|(m, _)| *m == mode);
        said.map_or(ON.contains(&mode), |(_, on)| *on)
    }

    /// The mode by which the second page was shown, while it is.
    pub(super) fn page(&self) -> Option<u16> {
        let shown = |(mode, on): &&(u16, bool)| PAGES.contains(mode) && *on;
        self.private.iter().rev().find(shown).map(|(mode, _)| *mode)
    }

    pub(super) fn charsets(&self) -> &Charsets {
        &self.charsets
    }

    /// Top and bottom row, if they are not the screen's.
    pub(super) fn margins(&self) -> Option<(u16, u16)> {
        self.margins
    }

    /// Left and right column, if they are not the screen's.
    pub(super) fn sides(&self) -> Option<(u16, u16)> {
        self.sides.filter(|_| self.is_on(69))
    }

    fn escape(&mut self, body: &[u8]) {
        match body {
            b"c" => *self = Self::default(),
            b"=" => self.keypad = true,
            b">" => self.keypad = false,
            _ => self.charsets.escape(body),
        }
    }

    fn control(&mut self, body: &[u8], last: u8) {
        match (body, last) {
            ([b'?', modes @ ..], b'h' | b'l') => {
                for mode in numbers(modes) {
                    self.private(mode, last == b'h');
                }
            }
            ([b'?', modes @ ..], b's') => {
                for mode in numbers(modes) {
                    let on = self.is_on(mode);
                    set(&mut self.saved, mode, on);
                }
            }
            ([b'?', modes @ ..], b'r') => {
                for mode in numbers(modes) {
                    let saved = self.saved.iter().find(|(m, _)| *m == mode);
                    if let Some((_, on)) = saved.copied() {
                        self.private(mode, on);
                    }
                }
            }
            ([b'0'..=b'9', ..], b'h' | b'l') => {
                for mode in numbers(body) {
                    set(&mut self.ansi, mode, last == b'h');
                }
            }
            (b"!", b'p') => self.soft_reset(),
            ([rest @ .., b' '], b'q') => self.cursor = numbers(rest).first().copied().or(Some(0)),
            ([] | [b'0'..=b';', ..], b'r') => self.margins = pair(body),
            ([] | [b'0'..=b';', ..], b's') if self.is_on(69) => self.sides = pair(body),
            ([b'>', rest @ ..], b'm' | b'n' | b'f') => self.other_keys(rest, last),
            ([mark @ (b'>' | b'<' | b'='), rest @ ..], b'u') => self.flags(*mark, &numbers(rest)),
            _ => {}
        }
    }

    fn private(&mut self, mode: u16, on: bool) {
        if ACTS.contains(&mode) {
            return;
        }
        if mode == 69 && !on {
            self.sides = None;
        }
        if PAGES.contains(&mode) {
            // There is one second page, whatever it is called; what showed it first has saved the cursor, or not.
            if on && self.page().is_some() {
                return;
            }
            self.private.retain(|(m, _)| !PAGES.contains(m));
        }
        if on && [7, 25].contains(&mode) {
            return self.private.retain(|(m, _)| *m != mode);
        }
        set(&mut self.private, mode, on);
    }

    fn soft_reset(&mut self) {
        self.private.retain(|(mode, _)| !SOFT.0.contains(mode));
        self.ansi.retain(|(mode, _)| !SOFT.1.contains(mode));
        self.keypad = false;
        self.charsets = Charsets::default();
        (self.margins, self.sides) = (None, None);
    }

    /// XTMODKEYS and XTFMTKEYS, and switching the former off.
    fn other_keys(&mut self, rest: &[u8], last: u8) {
        let resource = numbers(rest).first().copied();
        // Switching off and giving a value are one switch.
        let family = if last == b'f' { b'f' } else { b'm' };
        match (resource, rest.contains(&b';')) {
            (None, _) => self.keys.retain(|((f, _), _)| *f != family),
            (Some(p), false) if last != b'n' => self.keys.retain(|(key, _)| *key != (family, p)),
            (Some(p), _) => {
                let mut said = b"\x1b[>".to_vec();
                said.extend_from_slice(rest);
                said.push(last);
                set(&mut self.keys, (family, p), said);
            }
        }
    }

    /// The kitty protocol: push, pop, or change.
    fn flags(&mut self, mark: u8, numbers: &[u16]) {
        let flags = &mut self.flags[usize::from(self.page().is_some())];
        let first = numbers.first().copied();
        match mark {
            b'>' => {
                if flags.pushed.len() >= LEVELS {
                    flags.pushed.remove(0);
                }
                flags.pushed.push(first.unwrap_or(0));
            }
            b'<' => {
                let left = flags
                    .pushed
                    .len()
                    .saturating_sub(first.unwrap_or(1).max(1).into());
                flags.pushed.truncate(left);
            }
            _ => {
                let top = flags.pushed.last_mut().unwrap_or(&mut flags.base);
                let given = first.unwrap_or(0);
                match numbers.get(1) {
                    Some(2) => *top |= given,
                    Some(3) => *top &= !given,
                    _ => *top = given,
                }
            }
        }
    }

    fn osc(&mut self, body: &[u8]) {
        let mut parts = body.splitn(2, |byte| *byte == b';');
        let number = parts.next().and_then(decimal);
        let rest = parts.next().unwrap_or_default();
        match number {
            Some(n @ (4 | 5)) => self.palette(n, rest),
            Some(n @ (104 | 105)) => {
                let gone = numbers(rest);
                let all = gone.is_empty();
                self.palette.retain(|((kind, index), _)| {
                    *kind != n - 100 || !(all || gone.contains(index))
                });
            }
            Some(n @ 10..=19) => {
                for (colour, at) in rest.split(|byte| *byte == b';').zip(n..=19) {
                    if colour != b"?" && !colour.is_empty() {
                        self.colours.insert(at, colour.to_vec());
                    }
                }
            }
            Some(n @ 110..=119) => {
                self.colours.remove(&(n - 100));
            }
            Some(9) if rest.starts_with(b"4;") => {
                self.progress = (!rest.starts_with(b"4;0")).then(|| body.to_vec());
            }
            Some(22) if rest != b"?" => {
                self.pointer = (!matches!(rest, b"" | b"default")).then(|| body.to_vec());
            }
            Some(8) => self.link = (!rest.ends_with(b";")).then(|| body.to_vec()),
            _ => {}
        }
    }

    fn palette(&mut self, kind: u16, rest: &[u8]) {
        let mut parts = rest.split(|byte| *byte == b';');
        while let (Some(index), Some(colour)) = (parts.next(), parts.next()) {
            if let Some(index) = decimal(index).filter(|_| colour != b"?") {
                set(&mut self.palette, (kind, index), colour.to_vec());
            }
        }
    }

    /// What brings a terminal that nobody has touched here, but for page, margins and cursor, which belong to the picture.
    pub(super) fn replay(&self) -> Vec<u8> {
        let mut text = String::new();
        for (mode, on) in &self.saved {
            let _ = write!(text, "\x1b[?{mode}{}\x1b[?{mode}s", switch(*on));
            if !self.private.iter().any(|(m, _)| m == mode) {
                let _ = write!(text, "\x1b[?{mode}{}", switch(ON.contains(mode)));
            }
        }
        let apart = [6, 47, 69, 1047, 1049];
        for (mode, on) in self
            .private
            .iter()
            .filter(|(mode, _)| !apart.contains(mode))
        {
            let _ = write!(text, "\x1b[?{mode}{}", switch(*on));
        }
        for (mode, on) in &self.ansi {
            let _ = write!(text, "\x1b[{mode}{}", switch(*on));
        }
        if self.keypad {
            text.push_str("\x1b=");
        }
        if let Some(style) = self.cursor {
            let _ = write!(text, "\x1b[{style} q");
        }
        let mut bytes = text.into_bytes();
        for (_, said) in &self.keys {
            bytes.extend_from_slice(said);
        }
        for ((kind, index), colour) in &self.palette {
            osc(&mut bytes, format!("{kind};{index};").as_bytes(), colour);
        }
        for (number, colour) in &self.colours {
            osc(&mut bytes, format!("{number};").as_bytes(), colour);
        }
        for said in [&self.progress, &self.pointer, &self.link]
            .into_iter()
            .flatten()
        {
            osc(&mut bytes, said, b"");
        }
        bytes
    }

    /// The flags of the keyboard on a page; they belong to whichever page is shown when they are said.
    pub(super) fn replay_flags(&self, page: usize) -> String {
        let KittyFlags { base, pushed } = &self.flags[page];
        let mut text = String::new();
        if *base != 0 {
            let _ = write!(text, "\x1b[={base};1u");
        }
        for flags in pushed {
            let _ = write!(text, "\x1b[>{flags}u");
        }
        text
    }

    /// What brings a terminal from here to where it was before the program, the page it shows last: exactly what was
    /// switched is switched back.
    pub fn undo(&self) -> String {
        let mut text = String::new();
        let page = self.page();
        self.undo_strings(&mut text);
        self.undo_flags(usize::from(page.is_some()), &mut text);
        for ((family, resource), _) in &self.keys {
            let _ = write!(text, "\x1b[>{resource}{}", char::from(*family));
        }
        let changed = |(mode, on): &&(u16, bool)| *on != ON.contains(mode) && !PAGES.contains(mode);
        for (mode, on) in self.private.iter().filter(changed) {
            let _ = write!(text, "\x1b[?{mode}{}", switch(!*on));
        }
        for (mode, _) in self.ansi.iter().filter(|(_, on)| *on) {
            let _ = write!(text, "\x1b[{mode}l");
        }
        if self.margins.is_some() || self.sides.is_some() {
            text.push_str("\x1b[r");
        }
        if self.keypad {
            text.push_str("\x1b>");
        }
        if self.cursor.is_some_and(|style| style != 0) {
            text.push_str("\x1b[0 q");
        }
        self.charsets.undo(&mut text);
        if let Some(page) = page {
            let _ = write!(text, "\x1b[?{page}l");
            self.undo_flags(0, &mut text);
        }
        text
    }

    fn undo_strings(&self, text: &mut String) {
        for ((kind, index), _) in &self.palette {
            let _ = write!(text, "\x1b]{};{index}\x1b\\", kind + 100);
        }
        for number in self.colours.keys() {
            let _ = write!(text, "\x1b]{}\x1b\\", number + 100);
        }
        for (said, undone) in [
            (&self.progress, "9;4;0"),
            (&self.pointer, "22;default"),
            (&self.link, "8;;"),
        ] {
            if said.is_some() {
                let _ = write!(text, "\x1b]{undone}\x1b\\");
            }
        }
    }

    fn undo_flags(&self, page: usize, text: &mut String) {
        let KittyFlags { base, pushed } = &self.flags[page];
        if !pushed.is_empty() {
            let _ = write!(text, "\x1b[<{}u", pushed.len());
        }
        if *base != 0 {
            text.push_str("\x1b[=0;1u");
        }
    }
}

impl Charsets {
    fn escape(&mut self, body: &[u8]) {
        match body {
            [b'%', coding] => self.coding = (*coding != b'G').then_some(*coding),
            [
                slot @ (b'(' | b')' | b'*' | b'+' | b'-' | b'.' | b'/'),
                _,
                ..,
            ] => {
                let slot = match slot {
                    b'(' => 0,
                    b')' | b'-' => 1,
                    b'*' | b'.' => 2,
                    _ => 3,
                };
                // ASCII on the left is what a terminal begins with.
                if matches!(body, [b'('..=b'+', b'B']) {
                    self.named.remove(&slot);
                } else {
                    self.named.insert(slot, body.to_vec());
                }
            }
            b"n" => self.left = 2,
            b"o" => self.left = 3,
            _ => {}
        }
    }

    /// Whether small letters are drawn as lines: DEC's special graphics are on the left side.
    pub(super) fn draw_lines(&self) -> bool {
        let left = self.named.get(&self.left);
        self.coding.is_none() && left.is_some_and(|said| matches!(said.as_slice(), [_, b'0']))
    }

    /// What brings a terminal from its first sets to these.
    pub(super) fn replay(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for said in self.named.values() {
            bytes.push(0x1b);
            bytes.extend_from_slice(said);
        }
        match self.left {
            1 => bytes.push(0x0e),
            2 => bytes.extend_from_slice(b"\x1bn"),
            3 => bytes.extend_from_slice(b"\x1bo"),
            _ => {}
        }
        if let Some(coding) = self.coding {
            bytes.extend_from_slice(&[0x1b, b'%', coding]);
        }
        bytes
    }

    pub(super) fn undo(&self, text: &mut String) {
        if self.coding.is_some() {
            text.push_str("\x1b%G");
        }
        for slot in self.named.keys() {
            let letter = char::from(b'(' + slot.min(&3));
            let _ = write!(text, "\x1b{letter}B");
        }
        if self.left != 0 {
            text.push('\x0f');
        }
    }
}

/// The newest stands last.
fn set<K: PartialEq, V>(switches: &mut Switches<K, V>, key: K, value: V) {
    switches.retain(|(known, _)| *known != key);
    if switches.len() >= KEPT {
        switches.remove(0);
    }
    switches.push((key, value));
}

fn switch(on: bool) -> char {
    if on { 'h' } else { 'l' }
}

fn osc(bytes: &mut Vec<u8>, head: &[u8], rest: &[u8]) {
    for part in [b"\x1b]", head, rest, b"\x1b\\"] {
        bytes.extend_from_slice(part);
    }
}

fn decimal(text: &[u8]) -> Option<u16> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The numbers between semicolons; what is none is passed over.
fn numbers(body: &[u8]) -> Vec<u16> {
    body.split(|byte| *byte == b';')
        .filter_map(decimal)
        .collect()
}

/// Two numbers from 1, the first below the second; anything else means all there is.
fn pair(body: &[u8]) -> Option<(u16, u16)> {
    let mut parts = body.split(|byte| *byte == b';').map(decimal);
    let first = parts.next().flatten().unwrap_or(0).max(1);
    let second = parts.next().flatten().filter(|n| *n > 0);
    match second {
        Some(second) if second > first => Some((first, second)),
        None if first > 1 => Some((first, u16::MAX)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
