//! Days of ordinary teams: who writes to whom, and when. Nothing here knows a limit, so that limits can be measured on it.
//!
//! | what | how it is drawn |
//! |---|---|
//! | size of a team | 2 to 12, each as often |
//! | way of working | a lead with workers; pairs that review each other; a channel; a pipeline; a lead whose workers review each other: each as often |
//! | a day | 12 hours |
//! | a piece of work | log-normal, median 4 min, sigma 1.1: one of twenty takes less than 40 s, one of twenty more than 24 min |
//! | an answer that needs no work | log-normal, median 25 s, sigma 0.8, at least 3 s |
//! | nothing to do | log-normal, median 20 min, sigma 0.8 |
//! | a person's word | a team's usual gap is drawn evenly on a logarithmic scale from 5 min to 8 h; each gap is half to twice that, within the same bounds; of five words four are for the first agent, and one is for any |
//! | a talk | questions with an answer each: as long as a coin of 2 in 3 says so, at most 12 |
//! | a burst of reports | 1 to 4, 3 to 20 s apart |
//! | a bad quarter of an hour | of every other team, one to three a day: the first agent and up to four others ask and answer 3 to 10 times each, 3 to 20 s apart |

use crate::prng::Prng;

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
/// How long a day is, in milliseconds.
const DAY: u64 = 12 * HOUR;

/// The seeds that limits may be tuned on.
pub(super) const TUNING: u64 = 1_000_000;
/// The seeds that limits are then confirmed on, and that nothing is tuned on.
pub(super) const CONFIRMING: u64 = 7_000_000;

/// How a team works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Lead,
    Pairs,
    Channel,
    Pipeline,
    LeadAndPairs,
}

/// Somebody's words to one agent; a person's have no writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Said {
    /// In milliseconds.
    pub(super) at: u64,
    pub(super) from: Option<u64>,
    pub(super) to: u64,
}

/// A day of one team.
pub(super) struct Day {
    draw: Prng,
    pub(super) size: u64,
    pub(super) way: Way,
    /// The earliest first.
    pub(super) said: Vec<Said>,
}

impl Day {
    pub(super) fn of(seed: u64) -> Self {
        let mut draw = Prng::new(seed);
        let size = 2 + draw.below(11);
        let way = match draw.below(5) {
            0 => Way::Lead,
            1 => Way::Pairs,
            2 => Way::Channel,
            3 => Way::Pipeline,
            _ => Way::LeadAndPairs,
        };
        let said = Vec::new();
        let mut day = Self {
            draw,
            size,
            way,
            said,
        };
        day.people();
        day.bad_quarters();
        match way {
            Way::Lead => day.lead(),
            Way::Pairs => day.pairs(0),
            Way::Channel => day.channel(),
            Way::Pipeline => day.pipeline(),
            Way::LeadAndPairs => {
                day.lead();
                day.pairs(1);
            }
        }
        day.said.retain(|said| said.at < DAY);
        day.said.sort_unstable();
        day
    }

    // ---- what is drawn ------------------------------------------------------------------------------------------

    /// From 0 to 1.
    fn unit(&mut self) -> f64 {
        let thousandth = u32::try_from(self.draw.below(1_000_000)).unwrap_or(0);
        f64::from(thousandth) / 1e6
    }

    /// Milliseconds around a median, log-normally: twelve even numbers have a sum that is nearly normal, with variance 1.
    fn around(&mut self, median: u64, sigma: f64) -> u64 {
        let normal: f64 = (0..12).map(|_| self.unit()).sum::<f64>() - 6.0;
        scaled(median, (sigma * normal).exp())
    }

    fn work(&mut self) -> u64 {
        self.around(4 * MINUTE, 1.1)
    }

    fn answer(&mut self) -> u64 {
        self.around(25 * SECOND, 0.8).max(3 * SECOND)
    }

    fn rest(&mut self) -> u64 {
        self.around(20 * MINUTE, 0.8)
    }

    fn breath(&mut self) -> u64 {
        (3 + self.draw.below(18)) * SECOND
    }

    /// Whether something happens that happens so many times of a hundred.
    fn chance(&mut self, percent: u64) -> bool {
        self.draw.below(100) < percent
    }

    /// How often a coin of 2 in 3 goes on, at least once and at most so often.
    fn several(&mut self, most: u64) -> u64 {
        (1..most).find(|_| self.draw.below(3) == 0).unwrap_or(most)
    }

    // ---- what is said -------------------------------------------------------------------------------------------

    fn say(&mut self, at: u64, from: u64, to: u64) {
        let from = Some(from);
        self.said.push(Said { at, from, to });
    }

    fn people(&mut self) {
        let usual = scaled(5 * MINUTE, 96f64.powf(self.unit()));
        let mut at = 0;
        while at < DAY {
            let to = match self.chance(80) {
                true => 0,
                false => self.draw.below(self.size),
            };
            self.said.push(Said { at, from: None, to });
            let gap = scaled(usual, 0.5 + 1.5 * self.unit());
            at += gap.clamp(5 * MINUTE, 8 * HOUR);
        }
    }

    /// Reports one after the other; when the last is out.
    fn burst(&mut self, mut at: u64, from: u64, to: u64) -> u64 {
        for _ in 0..=self.draw.below(4) {
            self.say(at, from, to);
            at += self.breath();
        }
        at
    }

    /// Questions with their answers; when the last is out.
    fn talk(&mut self, mut at: u64, asks: u64, answers: u64, most: u64) -> u64 {
        for _ in 0..self.several(most) {
            self.say(at, asks, answers);
            at += self.answer();
            self.say(at, answers, asks);
            at += self.answer();
        }
        at
    }

    fn bad_quarters(&mut self) {
        if self.chance(50) {
            return;
        }
        for _ in 0..=self.draw.below(3) {
            let begin = self.draw.below(DAY);
            for other in 1..self.size.min(6) {
                let mut at = begin + self.breath();
                for _ in 0..3 + self.draw.below(8) {
                    self.say(at, 0, other);
                    at += self.breath();
                    self.say(at, other, 0);
                    at += self.breath();
                }
            }
        }
    }

    // ---- ways of working ----------------------------------------------------------------------------------------

    /// The first gives work to each of the others.
    fn lead(&mut self) {
        for worker in 1..self.size {
            let mut at = self.answer();
            while at < DAY {
                at = self.task(at, worker);
                at += match self.chance(15) {
                    true => self.rest(),
                    false => self.answer(),
                };
            }
        }
    }

    /// A task, questions, progress, a result, and now and then thanks.
    fn task(&mut self, mut at: u64, worker: u64) -> u64 {
        self.say(at, 0, worker);
        at += self.answer();
        if self.chance(30) {
            at = self.talk(at, worker, 0, 3);
        }
        for _ in 0..self.draw.below(6) {
            at += self.work();
            at = self.burst(at, worker, 0);
        }
        at += self.work();
        self.say(at, worker, 0);
        if self.chance(25) {
            at += self.answer();
            self.say(at, 0, worker);
            if self.chance(40) {
                at += self.answer();
                self.say(at, worker, 0);
            }
        }
        at
    }

    /// Two and two, from this one on; who is left over reviews with the first two.
    fn pairs(&mut self, first: u64) {
        for one in (first..self.size).step_by(2) {
            let other = match one + 1 < self.size {
                true => one + 1,
                false => first,
            };
            if one != other {
                self.pair(one, other);
            }
        }
    }

    fn pair(&mut self, one: u64, other: u64) {
        let (mut author, mut reviewer) = (one, other);
        let mut at = self.work();
        while at < DAY {
            at += self.work();
            for _ in 0..self.several(4) {
                self.say(at, author, reviewer);
                at += self.work() / 2;
                at = self.burst(at, reviewer, author);
                if self.chance(40) {
                    at = self.talk(at, author, reviewer, 12);
                }
                at += self.work();
            }
            self.say(at, author, reviewer);
            at += self.answer();
            self.say(at, reviewer, author);
            if self.chance(50) {
                at += self.answer();
                self.say(at, author, reviewer);
                std::mem::swap(&mut author, &mut reviewer);
            }
            if self.chance(15) {
                at += self.rest();
            }
        }
    }

    /// What one says all others get; some talk on by themselves.
    fn channel(&mut self) {
        let mut at = self.answer();
        while at < DAY {
            for _ in 0..self.several(15) {
                let speaks = self.draw.below(self.size);
                (0..self.size)
                    .filter(|to| *to != speaks)
                    .for_each(|to| self.say(at, speaks, to));
                at += self.answer();
            }
            if self.chance(30) {
                let (one, off) = (self.draw.below(self.size), self.draw.below(self.size - 1));
                self.talk(at, one, (one + 1 + off) % self.size, 12);
            }
            at += self.work();
            if self.chance(30) {
                at += self.rest();
            }
        }
    }

    /// Pieces go from each to the next, one at a time at each; some come back once; of half the first hears at the end.
    fn pipeline(&mut self) {
        let mut free_at = vec![0; usize::try_from(self.size).unwrap_or(0)];
        let mut begins = self.work();
        while begins < DAY {
            let mut at = begins;
            for stage in 0..self.size {
                let slot = usize::try_from(stage).unwrap_or(0);
                at = at.max(free_at[slot]) + self.work();
                if stage > 0 && self.chance(20) {
                    self.say(at, stage, stage - 1);
                    at += self.work();
                    self.say(at, stage - 1, stage);
                    at += self.work();
                }
                free_at[slot] = at;
                if stage + 1 < self.size {
                    self.say(at, stage, stage + 1);
                } else if self.chance(50) {
                    self.say(at, stage, 0);
                }
            }
            begins = free_at[0];
            if self.chance(15) {
                begins += self.rest();
            }
        }
    }
}

/// So many milliseconds times that.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "hours in milliseconds"
)]
fn scaled(ms: u64, by: f64) -> u64 {
    (ms as f64 * by) as u64
}
