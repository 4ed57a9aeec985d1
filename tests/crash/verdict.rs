//! What may be said about a run, from what was sent, what was read, and what each death left behind. Pure: it can be shown
//! to notice each thing that must not happen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use relay_broker::sys::failpoint;

use crate::burst::{Sent, Source};
use crate::life::{Autopsy, Typed};

/// A message as a reader's file shows it, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub source: Source,
    pub number: usize,
    /// From the line's header.
    pub id: String,
}

/// All whole messages in a reader's file, in order. A piece that a death cut off has no marker at its end, and is none; nor
/// is a draft whose Enter never came, as a program in a raw terminal may see it.
pub fn reading(text: &str) -> Vec<Read> {
    let mut found = Vec::new();
    let mut begin = 0;
    let mut from = 0;
    while let Some(at) = text[from..].find("@@").map(|at| at + from) {
        let Some((marker, source, number)) = marker(&text[at..]) else {
            from = at + 1;
            continue;
        };
        if !text[at + marker..].starts_with(['\r', '\n']) {
            from = at + marker;
            continue;
        }
        let before = &text[begin..at];
        let header = before.rfind('[').map_or("", |open| &before[open + 1..]);
        let id = header.split(']').next().unwrap_or_default();
        let id = id.rsplit(" / ").next().unwrap_or_default().to_owned();
        found.push(Read { source, number, id });
        from = at + marker;
        begin = from;
    }
    found
}

/// The marker a text begins with: its length and what it says.
fn marker(text: &str) -> Option<(usize, Source, usize)> {
    let inner = text.strip_prefix("@@")?;
    let inner = &inner[..inner.find("@@")?];
    let (source, number) = inner.split_once('-')?;
    let source = match source {
        "e" => Source::Engine,
        "l" => Source::Local,
        _ => return None,
    };
    Some((inner.len() + 4, source, number.parse().ok()?))
}

/// Everything known about a run.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    pub sent: Vec<Sent>,
    /// By agent.
    pub read: BTreeMap<String, Vec<Read>>,
    /// Ids of dead letters.
    pub dead: BTreeSet<String>,
    /// One for each life but the last.
    pub deaths: Vec<Autopsy>,
    /// Where it died by its own hand.
    pub points: BTreeSet<&'static str>,
    pub typed: Vec<Typed>,
}

/// Figures of one run, or of many.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub runs: u64,
    pub kills: u64,
    /// Where some of them were.
    pub points: BTreeSet<&'static str>,
    pub messages: u64,
    /// Cut off before they were answered, and so allowed to be missing.
    pub unanswered: u64,
    pub dead: u64,
    pub lost: u64,
    pub reordered: u64,
    /// Read again.
    pub doubled: u64,
    /// Of those: in doubt at a death, and marked as redelivered.
    pub marked: u64,
    /// Of those: in doubt at a death, and typed again by a life that was killed before it could tell.
    pub untold: u64,
    pub violations: Vec<String>,
}

impl Tally {
    /// A run that came to no verdict.
    pub fn broken(why: String) -> Self {
        Self {
            runs: 1,
            violations: vec![why],
            ..Self::default()
        }
    }

    pub fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.kills += other.kills;
        self.points.extend(other.points);
        self.messages += other.messages;
        self.unanswered += other.unanswered;
        self.dead += other.dead;
        self.lost += other.lost;
        self.reordered += other.reordered;
        self.doubled += other.doubled;
        self.marked += other.marked;
        self.untold += other.untold;
        self.violations.extend(other.violations);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} runs, {} kills (at any moment, and at {} of {} points), {} messages ({} cut off before they were answered, {} in the dead letters): \
             {} lost, {} reordered, {} doubled (in doubt at a kill: {} marked redelivered, {} typed again by a life \
             that was killed before it told), {} violations",
            self.runs,
            self.kills,
            self.points.len(),
            failpoint::POINTS.len(),
            self.messages,
            self.unanswered,
            self.dead,
            self.lost,
            self.reordered,
            self.doubled,
            self.marked,
            self.untold,
            self.violations.len()
        )
    }
}

/// The verdict.
pub fn judge(evidence: &Evidence) -> Tally {
    let mut tally = Tally {
        runs: 1,
        kills: evidence.deaths.len() as u64,
        points: evidence.points.clone(),
        messages: evidence.sent.len() as u64,
        dead: evidence.dead.len() as u64,
        ..Tally::default()
    };
    for (life, death) in evidence.deaths.iter().enumerate() {
        if let Some(damage) = &death.damage {
            let text = format!("the kill of life {life} damaged the journal: {damage}");
            tally.violations.push(text);
        }
    }
    for sent in &evidence.sent {
        presence(evidence, sent, &mut tally);
    }
    for (agent, read) in &evidence.read {
        order(agent, read, &mut tally);
    }
    marks(evidence, &mut tally);
    tally
}

/// Whether one message is where it must be, and how often.
fn presence(evidence: &Evidence, sent: &Sent, tally: &mut Tally) {
    let name = &sent.name;
    let read = evidence
        .read
        .get(&name.agent)
        .map_or(&[][..], Vec::as_slice);
    let mine = |read: &&Read| read.source == name.source && read.number == name.number;
    let copies: Vec<&Read> = read.iter().filter(mine).collect();
    let Some(first) = copies.first() else {
        match &sent.id {
            None => tally.unanswered += 1,
            Some(id) if evidence.dead.contains(id) => {}
            Some(id) => {
                tally.lost += 1;
                tally.violations.push(format!("lost: {name:?} ({id})"));
            }
        }
        return;
    };
    tally.unanswered += u64::from(sent.id.is_none());
    if let Some(id) = sent.id.as_ref().filter(|id| **id != first.id) {
        let text = format!("{name:?} was read as {} and answered as {id}", first.id);
        tally.violations.push(text);
    }
    let more = copies.len() as u64 - 1;
    if more > 0 {
        tally.doubled += more;
        match doubled(evidence, &first.id, copies.len()) {
            Ok(Told::Marked) => tally.marked += more,
            Ok(Told::Untold) => tally.untold += more,
            Err(why) => tally
                .violations
                .push(format!("doubled: {name:?} ({}) {why}", first.id)),
        }
    }
}

enum Told {
    Marked,
    Untold,
}

/// A message was read more than once: each copy too many must come from a death that left it in doubt, and be marked.
fn doubled(evidence: &Evidence, id: &str, copies: usize) -> Result<Told, String> {
    let doubtful = |(life, death): (usize, &Autopsy)| death.doubtful.contains(id).then_some(life);
    let doubts: Vec<usize> = evidence
        .deaths
        .iter()
        .enumerate()
        .filter_map(doubtful)
        .collect();
    if doubts.len() + 1 < copies {
        return Err(format!(
            "was read {copies} times and was in doubt at {} deaths",
            doubts.len()
        ));
    }
    let again = |typed: &&Typed| typed.id == id && doubts.iter().any(|life| typed.life > *life);
    if let Some(typed) = evidence.typed.iter().find(again) {
        return match typed.redelivered {
            true => Ok(Told::Marked),
            false => Err("was typed again and not marked".into()),
        };
    }
    // Who typed it again told so, unless it died first: only the last life surely lived to tell.
    match doubts.first() {
        Some(life) if life + 1 < evidence.deaths.len() => Ok(Told::Untold),
        _ => Err("was typed again, and no event says so".into()),
    }
}

/// A message is marked as redelivered if and only if an earlier death had left it in doubt.
fn marks(evidence: &Evidence, tally: &mut Tally) {
    for typed in &evidence.typed {
        let doubtful = evidence.deaths[..typed.life.min(evidence.deaths.len())]
            .iter()
            .any(|death| death.doubtful.contains(&typed.id));
        if doubtful != typed.redelivered {
            let (in_doubt, marked) = if doubtful {
                ("was in doubt", "not marked")
            } else {
                ("was never in doubt", "marked")
            };
            tally.violations.push(format!(
                "{} {in_doubt} and was {marked} as redelivered in life {}",
                typed.id, typed.life
            ));
        }
    }
}

/// Each sender's messages stand in the order in which they were sent; a copy stands right behind its original.
fn order(agent: &str, read: &[Read], tally: &mut Tally) {
    for source in [Source::Engine, Source::Local] {
        let numbers: Vec<usize> = read
            .iter()
            .filter(|read| read.source == source)
            .map(|read| read.number)
            .collect();
        if !numbers.is_sorted() {
            tally.reordered += 1;
            let text = format!("reordered: {agent} read {source:?} {numbers:?}");
            tally.violations.push(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::burst::Name;

    fn sent(number: usize) -> Sent {
        Sent {
            name: Name {
                agent: "ada".into(),
                source: Source::Engine,
                number,
            },
            id: Some(format!("m{number}")),
        }
    }

    /// Messages 0, 1 and 2 were sent, and the file shows these.
    fn evidence(read: &[usize]) -> Evidence {
        let line = |n: &usize| format!("Relay message from boss [ws / m{n}]: word @@e-{n}@@\n");
        let text: String = read.iter().map(line).collect();
        Evidence {
            sent: (0..3).map(sent).collect(),
            read: [("ada".to_owned(), reading(&text))].into(),
            ..Evidence::default()
        }
    }

    fn in_doubt(id: &str) -> Autopsy {
        Autopsy {
            doubtful: [id.to_owned()].into(),
            damage: None,
        }
    }

    fn typed(life: usize, id: &str, redelivered: bool) -> Typed {
        Typed {
            life,
            id: id.into(),
            redelivered,
        }
    }

    #[test]
    fn a_piece_that_a_death_cut_off_is_no_reading_and_neither_is_a_draft_without_enter() {
        let text = "Relay message from boss [ws / m1]: wo\
                    Relay message from boss [ws / m1]: word @@e-1@@\r\
                    Relay message from me [ws / h2]: @@l-2@@\
                    Relay message from me [ws / h2]: @@l-2@@\r\
                    Relay message from me [ws / h3]: @@l-3@@";
        let read = reading(text);
        let ids: Vec<_> = read.iter().map(|r| (r.number, r.id.as_str())).collect();
        assert_eq!(ids, [(1, "m1"), (2, "h2")]);
    }

    #[test]
    fn what_is_read_once_and_in_order_is_fine() {
        let tally = judge(&evidence(&[0, 1, 2]));
        assert_eq!(tally.violations, Vec::<String>::new());
        assert_eq!((tally.lost, tally.reordered, tally.doubled), (0, 0, 0));
    }

    #[test]
    fn a_lost_message_is_noticed_and_a_dead_letter_is_not_lost() {
        let mut evidence = evidence(&[0, 2]);
        assert_eq!(judge(&evidence).lost, 1);
        assert_eq!(judge(&evidence).violations.len(), 1);
        evidence.dead.insert("m1".into());
        assert!(judge(&evidence).violations.is_empty());
    }

    #[test]
    fn a_message_that_nobody_answered_for_may_be_missing() {
        let mut evidence = evidence(&[0, 2]);
        evidence.sent[1].id = None;
        let tally = judge(&evidence);
        assert_eq!((tally.unanswered, tally.violations.len()), (1, 0));
    }

    #[test]
    fn a_changed_order_is_noticed() {
        let tally = judge(&evidence(&[0, 2, 1]));
        assert_eq!((tally.reordered, tally.violations.len()), (1, 1));
    }

    #[test]
    fn a_double_needs_a_death_that_left_it_in_doubt() {
        let mut evidence = evidence(&[0, 1, 1, 2]);
        assert_eq!(judge(&evidence).violations.len(), 1, "no death at all");
        evidence.deaths = vec![in_doubt("m2")];
        assert_eq!(judge(&evidence).violations.len(), 1, "another was in doubt");
        evidence.deaths = vec![in_doubt("m1")];
        evidence.typed = vec![typed(0, "m1", false), typed(1, "m1", true)];
        let tally = judge(&evidence);
        assert_eq!(
            (tally.doubled, tally.marked, tally.violations),
            (1, 1, vec![])
        );
    }

    #[test]
    fn a_double_that_is_not_marked_is_noticed() {
        let mut evidence = evidence(&[0, 1, 1, 2]);
        evidence.deaths = vec![in_doubt("m1")];
        assert_eq!(judge(&evidence).violations.len(), 1, "nobody told of it");
        evidence.typed = vec![typed(1, "m1", false)];
        assert_eq!(judge(&evidence).violations.len(), 2, "told, and not marked");
    }

    #[test]
    fn a_mark_without_a_doubt_is_noticed() {
        let mut evidence = evidence(&[0, 1, 2]);
        evidence.deaths = vec![in_doubt("m1")];
        evidence.typed = vec![typed(1, "m2", true)];
        assert_eq!(judge(&evidence).violations.len(), 1);
    }

    #[test]
    fn a_damaged_journal_is_noticed() {
        let mut evidence = evidence(&[0, 1, 2]);
        evidence.deaths = vec![Autopsy {
            damage: Some("it is damaged".into()),
            ..Autopsy::default()
        }];
        assert_eq!(judge(&evidence).violations.len(), 1);
    }
}
