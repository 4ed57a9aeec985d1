//! Loops are stopped within the limits; ordinary teams never are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;
use crate::prng::Prng;

fn name(n: u64) -> AgentName {
    AgentName::new(format!("a{n}"))
}

/// Agents of whom each answers whatever it gets, `turn` later, to whom `next` says; how many messages passed until all was
/// still, and how many were held.
fn endless(
    guard: &mut LoopGuard,
    limits: &TalkLimits,
    turn: Duration,
    first: &[(u64, u64)],
    next: impl Fn(u64, u64) -> u64,
) -> (u32, u32) {
    let mut due: BinaryHeap<Reverse<(Mono, u64, u64)>> = BinaryHeap::new();
    due.extend(
        first
            .iter()
            .map(|(from, to)| Reverse((Mono(1), *from, *to))),
    );
    let (mut passed, mut held) = (0, 0);
    while let Some(Reverse((at, from, to))) = due.pop() {
        if guard.count(limits, at, &name(from), &name(to)).is_some() {
            held += 1;
            continue;
        }
        passed += 1;
        assert!(passed < 100_000, "it never ends");
        due.push(Reverse((at + turn, to, next(from, to))));
    }
    (passed, held)
}

fn back(from: u64, _: u64) -> u64 {
    from
}

#[test]
fn two_that_thank_each_other_are_stopped_at_the_pairs_limit() {
    let (mut guard, limits) = (LoopGuard::default(), TalkLimits::default());
    let turn = Duration::from_secs(8);
    let (passed, held) = endless(&mut guard, &limits, turn, &[(0, 1)], back);
    assert_eq!((passed, held), (limits.pair, 1));
    // Nothing more passes, until somebody has a word with one of them.
    let now = Mono(1) + turn * (limits.pair + 1);
    let stopped = guard.count(&limits, now, &name(0), &name(1));
    let expected = Suspicion {
        count: limits.pair + 1,
        limit: limits.pair,
        window: Some(limits.window),
    };
    assert_eq!(stopped, Some(expected));
    guard.person_spoke(&name(1));
    assert_eq!(guard.count(&limits, now, &name(0), &name(1)), None);
}

#[test]
fn a_ring_of_three_and_a_star_of_eight_are_stopped_within_the_limits() {
    let limits = TalkLimits::default();
    let turn = Duration::from_secs(4);
    let ring = |_: u64, to: u64| (to + 1) % 3;
    let (passed, held) = endless(&mut LoopGuard::default(), &limits, turn, &[(0, 1)], ring);
    assert!(passed <= 3 * limits.pair && held == 1, "{passed}");
    let leaves: Vec<(u64, u64)> = (1..=8).map(|leaf| (0, leaf)).collect();
    let (passed, held) = endless(&mut LoopGuard::default(), &limits, turn, &leaves, back);
    assert_eq!((passed, held), (8 * limits.pair, 8));
}

#[test]
fn a_slow_loop_is_stopped_by_the_count_since_a_persons_word() {
    let limits = TalkLimits::default();
    let turn = Duration::from_secs(120);
    let ring = |_: u64, to: u64| (to + 1) % 3;
    let (passed, held) = endless(&mut LoopGuard::default(), &limits, turn, &[(0, 1)], ring);
    assert!(passed <= 3 * limits.agent && held == 1, "{passed}");
}

#[test]
fn a_limit_of_nought_is_none() {
    let off = TalkLimits {
        pair: 0,
        agent: 0,
        ..TalkLimits::default()
    };
    let mut guard = LoopGuard::default();
    for at in 0..10_000 {
        assert_eq!(guard.count(&off, Mono(at), &name(0), &name(1)), None);
    }
    assert!(guard.pairs.is_empty() && guard.received.is_empty());
}

#[test]
fn what_is_kept_in_mind_has_an_end() {
    let limits = TalkLimits::default();
    let mut guard = LoopGuard::default();
    for n in 0..3 * PAIRS as u64 {
        let at = Mono(1) + limits.window * u32::try_from(n).expect("few");
        guard.count(&limits, at, &name(n), &name(n + 1));
    }
    assert!(guard.pairs.len() <= PAIRS);
}

// ---- ordinary teams ---------------------------------------------------------------------------------------------

/// How a team is organised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// A lead gives work to each of so many workers, who report.
    Star(u64),
    /// Two work on one thing.
    Pair,
    /// Each hands on to the next what it has done, and the last to the first; of three or four.
    Line(u64),
    /// Whatever one says in a channel, the four others get.
    Channel,
}

/// A day of a team: who writes to whom and when, in milliseconds, and when a person speaks to one of them.
struct Day {
    draw: Prng,
    said: Vec<(u64, Option<u64>, u64)>,
    shape: Shape,
}

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOURS: u64 = 60 * MINUTE;

impl Day {
    fn of(seed: u64) -> Self {
        let mut draw = Prng::new(seed);
        let shape = match draw.below(4) {
            0 => Shape::Star(1 + draw.below(8)),
            1 => Shape::Pair,
            2 => Shape::Line(3 + draw.below(2)),
            _ => Shape::Channel,
        };
        let said = Vec::new();
        let mut day = Self { draw, said, shape };
        day.people();
        match shape {
            Shape::Star(workers) => (1..=workers).for_each(|worker| day.worker(worker)),
            Shape::Pair => day.pair(),
            Shape::Line(of) => day.line(of),
            Shape::Channel => day.channel(),
        }
        day.said.sort_unstable();
        day
    }

    /// Between `least` and `most`, the small ones more often: as long as turns and silences of people and models are.
    fn some(&mut self, least: u64, most: u64) -> u64 {
        let unit = |draw: &mut Prng| draw.below(1000);
        let skewed = unit(&mut self.draw) * unit(&mut self.draw) / 1000;
        least + (most - least) * skewed / 1000
    }

    /// Every quarter of an hour or so; away for up to three hours once, or, of every fourth team, for eight.
    fn people(&mut self) {
        let night = self.draw.below(4) == 0;
        let away = HOURS * (1 + self.draw.below(3));
        let mut at = 0;
        while at < 10 * HOURS {
            self.said.push((at, None, 0));
            at += self.some(MINUTE, 60 * MINUTE);
            if night && at > HOURS && at < 2 * HOURS {
                at += 8 * HOURS;
            } else if at > 4 * HOURS && at < 4 * HOURS + away {
                at += away;
            }
        }
    }

    fn say(&mut self, at: u64, from: u64, to: u64) {
        self.said.push((at, Some(from), to));
    }

    /// A task, its questions, its progress in bursts, its result, and the next.
    fn worker(&mut self, worker: u64) {
        let mut at = self.some(0, 5 * MINUTE);
        while at < 10 * HOURS {
            self.say(at, 0, worker);
            if self.draw.below(3) == 0 {
                at = self.talk(at, worker, 0, 3);
            }
            for _ in 0..self.draw.below(4) {
                at += self.some(30 * SECOND, 8 * MINUTE);
                for _ in 0..=self.draw.below(3) {
                    at += self.some(4 * SECOND, 20 * SECOND);
                    self.say(at, worker, 0);
                }
            }
            at += self.some(30 * SECOND, 15 * MINUTE);
            self.say(at, worker, 0);
            at += self.some(5 * SECOND, 3 * MINUTE);
        }
    }

    /// Up to so many questions, each answered.
    fn talk(&mut self, mut at: u64, asks: u64, answers: u64, most: u64) -> u64 {
        for _ in 0..=self.draw.below(most) {
            at += self.some(4 * SECOND, MINUTE);
            self.say(at, asks, answers);
            at += self.some(4 * SECOND, MINUTE);
            self.say(at, answers, asks);
        }
        at
    }

    /// Talks of up to eight questions with answers, and work in between.
    fn pair(&mut self) {
        let mut at = 0;
        while at < 10 * HOURS {
            let asks = self.draw.below(2);
            at = self.talk(at, asks, 1 - asks, 8);
            at += self.some(90 * SECOND, 15 * MINUTE);
        }
    }

    /// Work is handed on, and sent back up to twice.
    fn line(&mut self, of: u64) {
        let (mut at, mut has) = (0, 0);
        while at < 10 * HOURS {
            at += self.some(30 * SECOND, 10 * MINUTE);
            let next = (has + 1) % of;
            self.say(at, has, next);
            for _ in 0..self.draw.below(3) {
                at += self.some(20 * SECOND, 3 * MINUTE);
                self.say(at, next, has);
                at += self.some(20 * SECOND, 3 * MINUTE);
                self.say(at, has, next);
            }
            has = next;
        }
    }

    /// Up to five say something about it, one after the other, and then it is quiet for a while.
    fn channel(&mut self) {
        let mut at = 0;
        while at < 10 * HOURS {
            for _ in 0..=self.draw.below(5) {
                at += self.some(10 * SECOND, 2 * MINUTE);
                let speaks = self.draw.below(5);
                (0..5)
                    .filter(|to| *to != speaks)
                    .for_each(|to| self.say(at, speaks, to));
            }
            at += self.some(MINUTE, 20 * MINUTE);
        }
    }
}

/// Plays a day; the most that a pair and an agent came to.
fn play(day: &Day, limits: &TalkLimits) -> Result<(u32, u32), Suspicion> {
    let mut guard = LoopGuard::default();
    let (mut most_pair, mut most_agent) = (0, 0);
    for (at, from, to) in &day.said {
        let (now, to) = (Mono(1) + Duration::from_millis(*at), name(*to));
        let Some(from) = from else {
            guard.person_spoke(&to);
            continue;
        };
        if let Some(suspicion) = guard.count(limits, now, &name(*from), &to) {
            return Err(suspicion);
        }
        let pairs = guard.pairs.values().map(VecDeque::len).max();
        most_pair = most_pair.max(pairs.unwrap_or(0));
        most_agent = most_agent.max(guard.received[&(to, name(*from))]);
    }
    Ok((u32::try_from(most_pair).expect("few"), most_agent))
}

#[test]
fn a_thousand_ordinary_teams_are_never_stopped_nor_even_near_it() {
    let limits = TalkLimits::default();
    let (mut most_pair, mut most_agent) = (0, 0);
    for seed in 0..1000 {
        let day = Day::of(seed);
        let (pair, agent) = play(&day, &limits)
            .unwrap_or_else(|why| panic!("team {seed}, {:?}, is stopped: {why:?}", day.shape));
        most_pair = most_pair.max(pair);
        most_agent = most_agent.max(agent);
    }
    println!("at most {most_pair} of a pair, {most_agent} of an agent");
    assert!(4 * most_pair <= 3 * limits.pair, "{most_pair} of a pair");
    assert!(
        4 * most_agent <= 3 * limits.agent,
        "{most_agent} of an agent"
    );
}
