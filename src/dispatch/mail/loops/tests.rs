//! Loops are stopped within the number of messages that the documentation states; ordinary teams never are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;
use crate::prng::Prng;
mod ordinary;

use ordinary::{CONFIRMING, Day, Way};

fn name(n: u64) -> AgentName {
    AgentName::new(format!("a{n}"))
}

/// How a loop goes round.
#[derive(Clone, Copy, Debug)]
enum Loop {
    /// Two that answer each other.
    Chain,
    /// One message goes round so many.
    Ring(u64),
    /// The first answers all others, and they the first; it reads all that came, or one message after the other.
    Star { leaves: u64, one_by_one: bool },
}

impl Loop {
    fn first(self) -> Vec<(u64, u64)> {
        match self {
            Self::Chain | Self::Ring(_) => vec![(0, 1)],
            Self::Star { leaves, .. } => (1..=leaves).map(|leaf| (0, leaf)).collect(),
        }
    }

    fn next(self, from: u64, reader: u64) -> u64 {
        match self {
            Self::Chain | Self::Star { .. } => from,
            Self::Ring(of) => (reader + 1) % of,
        }
    }

    /// How many messages the documentation says may pass in all.
    fn bound(self, limits: &TalkLimits) -> u32 {
        match self {
            Self::Chain | Self::Ring(_) => limits.chain,
            Self::Star { leaves, .. } => limits.chain * u32::try_from(leaves).expect("few"),
        }
    }
}

/// Agents of whom each answers whatever it gets, `turn` after it read it, and reads what came meanwhile all at once or one
/// after the other; how many messages passed until all was still, and how many were held.
fn endless(guard: &mut LoopGuard, limits: &TalkLimits, turn: Duration, way: Loop) -> (u32, u32) {
    let mut due: BinaryHeap<Reverse<(Mono, u64, u64)>> = BinaryHeap::new();
    let first = way.first().into_iter();
    due.extend(first.map(|(from, to)| Reverse((Mono(1), from, to))));
    let one_by_one = matches!(
        way,
        Loop::Star {
            one_by_one: true,
            ..
        }
    );
    let mut free_at = Mono(1);
    let (mut passed, mut held) = (0, 0);
    while let Some(Reverse((at, from, to))) = due.pop() {
        if guard.count(limits, at, &name(from), &name(to)).is_some() {
            held += 1;
            continue;
        }
        passed += 1;
        assert!(passed < 100_000, "{way:?} of {turn:?} never ends");
        let begins = match one_by_one && to == 0 {
            true => at.max(free_at),
            false => at,
        };
        if to == 0 {
            free_at = begins + turn;
        }
        due.push(Reverse((begins + turn, to, way.next(from, to))));
    }
    (passed, held)
}

const TURNS: [Duration; 4] = [
    Duration::from_millis(500),
    Duration::from_secs(5),
    Duration::from_secs(60),
    Duration::from_secs(600),
];

fn loops() -> Vec<Loop> {
    let mut all: Vec<Loop> = (3..=8).map(Loop::Ring).collect();
    all.push(Loop::Chain);
    for leaves in [3, 8] {
        for one_by_one in [false, true] {
            all.push(Loop::Star { leaves, one_by_one });
        }
    }
    all
}

#[test]
fn every_loop_is_stopped_within_the_stated_number_of_messages_at_every_turn() {
    let limits = TalkLimits::default();
    assert_eq!(
        limits.chain, 450,
        "docs/guide.md and docs/local-api.md say so"
    );
    for way in loops() {
        for turn in TURNS {
            let (passed, held) = endless(&mut LoopGuard::default(), &limits, turn, way);
            println!("{way:?} of {turn:?}: {passed} messages");
            assert!(
                passed <= way.bound(&limits),
                "{way:?} of {turn:?}: {passed}"
            );
            assert_eq!(
                held as usize,
                way.first().len(),
                "{way:?}: nothing goes astray"
            );
        }
    }
}

#[test]
fn two_that_thank_each_other_are_stopped_at_the_pairs_limit() {
    let (mut guard, limits) = (LoopGuard::default(), TalkLimits::default());
    let turn = Duration::from_secs(8);
    let (passed, held) = endless(&mut guard, &limits, turn, Loop::Chain);
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
    guard.let_go(&name(1));
    assert_eq!(guard.count(&limits, now, &name(0), &name(1)), None);
}

#[test]
fn eight_that_each_answer_anybody_are_stopped_too() {
    let limits = TalkLimits::default();
    let (mut guard, mut draw) = (LoopGuard::default(), Prng::new(8));
    let (mut at, mut writer) = (Mono(1), 0);
    for passed in 0.. {
        let reader = (writer + 1 + draw.below(7)) % 8;
        at = at + Duration::from_secs(60);
        if guard
            .count(&limits, at, &name(writer), &name(reader))
            .is_some()
        {
            assert!(passed <= 16 * limits.chain, "{passed}");
            return;
        }
        writer = reader;
    }
}

#[test]
fn reports_that_nobody_answers_are_no_chain() {
    let (mut guard, limits) = (LoopGuard::default(), TalkLimits::default());
    for n in 0..2 * limits.chain {
        let at = Mono(1) + Duration::from_secs(60) * n;
        assert_eq!(guard.count(&limits, at, &name(1), &name(0)), None);
    }
}

/// Two that answer each other once a minute, until it is one too many; how many messages passed.
fn slowly(guard: &mut LoopGuard, limits: &TalkLimits, at: &mut Mono) -> u32 {
    for passed in 0.. {
        *at = *at + Duration::from_secs(60);
        let (from, to) = match passed % 2 {
            0 => (name(0), name(1)),
            _ => (name(1), name(0)),
        };
        if guard.count(limits, *at, &from, &to).is_some() {
            return passed;
        }
    }
    u32::MAX
}

#[test]
fn a_rest_and_a_persons_word_begin_a_chain_anew_for_whom_they_concern() {
    let (mut guard, limits) = (LoopGuard::default(), TalkLimits::default());
    let mut at = Mono(1);
    assert_eq!(slowly(&mut guard, &limits, &mut at), limits.chain);
    guard.let_go(&name(2));
    assert_eq!(slowly(&mut guard, &limits, &mut at), 0, "a word to a third");
    guard.let_go(&name(1));
    assert_eq!(slowly(&mut guard, &limits, &mut at), limits.chain);
    at = at + limits.pause / 2;
    assert_eq!(slowly(&mut guard, &limits, &mut at), 0, "no rest yet");
    at = at + limits.pause;
    assert_eq!(slowly(&mut guard, &limits, &mut at), limits.chain);
}

#[test]
fn a_limit_of_nought_is_none() {
    let off = TalkLimits {
        pair: 0,
        chain: 0,
        ..TalkLimits::default()
    };
    let mut guard = LoopGuard::default();
    for at in 0..10_000 {
        let (from, to) = (name(at % 2), name(1 - at % 2));
        assert_eq!(guard.count(&off, Mono(at), &from, &to), None);
    }
    assert!(guard.pairs.is_empty() && guard.ways.is_empty() && guard.present.is_empty());
}

#[test]
fn what_is_kept_in_mind_has_an_end() {
    let limits = TalkLimits::default();
    for pause in [limits.window, Duration::ZERO] {
        let mut guard = LoopGuard::default();
        for n in 0..3 * KEPT as u64 {
            let at = Mono(1) + pause * u32::try_from(n).expect("few");
            guard.count(&limits, at, &name(n), &name(n + 1));
        }
        assert!(guard.ways.len() <= KEPT && guard.present.len() <= KEPT + 1);
        assert!(guard.pairs.len() <= KEPT || pause.is_zero());
    }
}

// ---- ordinary teams ---------------------------------------------------------------------------------------------

/// Plays a day; the most messages that a pair and a chain came to.
fn play(day: &Day, limits: &TalkLimits) -> Result<(u32, u32), Suspicion> {
    let mut guard = LoopGuard::default();
    let (mut of_pair, mut of_chain) = (0, 0);
    for said in &day.said {
        let (now, to) = (Mono(1) + Duration::from_millis(said.at), name(said.to));
        let Some(from) = said.from.map(name) else {
            guard.let_go(&to);
            continue;
        };
        if let Some(suspicion) = guard.count(limits, now, &from, &to) {
            return Err(suspicion);
        }
        let pair = (from.clone().min(to.clone()), from.clone().max(to.clone()));
        of_pair = of_pair.max(guard.pairs[&pair].len());
        of_chain = of_chain.max(guard.ways[&(from, to)].length);
    }
    Ok((u32::try_from(of_pair).expect("few"), of_chain))
}

/// The most that a thousand days came to.
fn thousand(seeds: u64, limits: &TalkLimits) -> (u32, u32) {
    let (mut of_pair, mut of_chain) = (0, 0);
    for seed in seeds..seeds + 1000 {
        let day = Day::of(seed);
        let (size, way) = (day.size, day.way);
        let (pair, chain) = play(&day, limits)
            .unwrap_or_else(|why| panic!("team {seed}, {size} {way:?}, is stopped: {why:?}"));
        (of_pair, of_chain) = (of_pair.max(pair), of_chain.max(chain));
    }
    (of_pair, of_chain)
}

#[test]
fn a_thousand_ordinary_teams_are_never_stopped_nor_even_near_it() {
    let limits = TalkLimits::default();
    let (of_pair, of_chain) = thousand(CONFIRMING, &limits);
    println!("at most {of_pair} of a pair, {of_chain} of a chain");
    assert!(5 * of_pair <= 4 * limits.pair, "{of_pair} of a pair");
    assert!(5 * of_chain <= 4 * limits.chain, "{of_chain} of a chain");
}

/// What limits are tuned on: run with `--ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn what_a_thousand_other_ordinary_teams_come_to() {
    println!("{:?}", thousand(ordinary::TUNING, &TalkLimits::default()));
}

#[test]
fn ordinary_teams_have_every_size_and_way_of_working() {
    let days: Vec<Day> = (CONFIRMING..CONFIRMING + 1000).map(Day::of).collect();
    let ways = [
        Way::Lead,
        Way::Pairs,
        Way::Channel,
        Way::Pipeline,
        Way::LeadAndPairs,
    ];
    for size in 2..=12 {
        for way in ways {
            let found = days.iter().any(|day| day.size == size && day.way == way);
            assert!(found, "no {way:?} of {size}");
        }
    }
    let said: usize = days.iter().map(|day| day.said.len()).sum();
    assert!(said > 500 * days.len(), "{said} messages are no days");
}
