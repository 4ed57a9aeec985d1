//! Crashes of agents' programs: what is remembered of each in this broker's life, and what they have in common.

use std::collections::VecDeque;
use std::time::Duration;

use super::agent::LocalAgent;
use crate::msg::How;
use crate::time::{Now, Wall};
use crate::wire::local::{CrashCategory, CrashInsights, CrashPattern, CrashRecord};

/// How many crashes are remembered.
const KEPT: usize = 500;
/// How many of them are told one by one.
const TOLD: usize = 20;
/// How long a crash counts against the broker's health.
const COUNTS_FOR: Duration = Duration::from_secs(3600);
/// How many points one costs, of 100.
const COSTS: u64 = 10;

/// The crashes of this broker's life.
#[derive(Default)]
pub(super) struct Crashes {
    total: u64,
    recent: VecDeque<(Wall, CrashRecord)>,
}

impl Crashes {
    /// A program has ended by itself, and not well.
    pub(super) fn add(&mut self, now: Now, agent: &LocalAgent, how: &How) {
        let (category, what) = category(how);
        let last = how.last.last().filter(|line| !line.trim().is_empty());
        let record = CrashRecord {
            agent_name: agent.spec.name.clone(),
            exit_code: how.code,
            signal: how.signal,
            timestamp: now.wall.0 / 1000,
            uptime_secs: now.mono.since(agent.started.mono).as_secs(),
            category,
            description: match last {
                Some(line) => format!("{what}; its terminal showed last: {line}"),
                None => what,
            },
        };
        self.total += 1;
        self.recent.push_back((now.wall, record));
        if self.recent.len() > KEPT {
            self.recent.pop_front();
        }
    }

    /// As the local API tells of them.
    pub(super) fn insights(&self, now: Wall) -> CrashInsights {
        let count = |at: &&(Wall, CrashRecord)| now - at.0 < COUNTS_FOR;
        let lately = self.recent.iter().filter(count).count() as u64;
        let told = self.recent.len().saturating_sub(TOLD);
        CrashInsights {
            total_crashes: self.total,
            recent: self
                .recent
                .iter()
                .skip(told)
                .map(|(_, r)| r.clone())
                .collect(),
            patterns: self.patterns(),
            health_score: 100u64.saturating_sub(lately.saturating_mul(COSTS)),
        }
    }

    /// Kinds of crashes, the most frequent first.
    fn patterns(&self) -> Vec<CrashPattern> {
        let mut patterns: Vec<CrashPattern> = Vec::new();
        for (
            _,
            CrashRecord {
                agent_name,
                category,
                ..
            },
        ) in &self.recent
        {
            let at = patterns.iter().position(|p| p.category == *category);
            let at = at.unwrap_or_else(|| {
                patterns.push(CrashPattern {
                    category: *category,
                    count: 0,
                    agents: Vec::new(),
                });
                patterns.len() - 1
            });
            let pattern = &mut patterns[at];
            pattern.count += 1;
            if !pattern.agents.contains(agent_name) {
                pattern.agents.push(agent_name.clone());
            }
        }
        patterns.sort_by_key(|pattern| std::cmp::Reverse(pattern.count));
        patterns
    }
}

/// What kind of end it was, by its signal, else its exit code; shells add 128 to a signal of their last command's
/// ([local-api 7](crate::docs::local_api#7)).
fn category(how: &How) -> (CrashCategory, String) {
    let by_shell = how
        .code
        .map(|code| code - 128)
        .filter(|signal| (1..=64).contains(signal));
    let category = match how.signal.or(by_shell) {
        Some(libc::SIGKILL) => CrashCategory::Oom,
        Some(libc::SIGSEGV | libc::SIGBUS) => CrashCategory::Segfault,
        Some(_) if how.signal.is_some() => CrashCategory::Signal,
        _ if how.code.is_some() => CrashCategory::Error,
        _ => CrashCategory::Unknown,
    };
    let what = match category {
        CrashCategory::Oom => format!("{how}: killed, perhaps for want of memory"),
        _ => how.to_string(),
    };
    (category, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_sorted_by_its_signal_and_else_by_its_code() {
        let of = |code, signal| {
            let how = How {
                code,
                signal,
                ..How::default()
            };
            category(&how).0
        };
        assert_eq!(of(None, Some(9)), CrashCategory::Oom);
        assert_eq!(of(Some(137), None), CrashCategory::Oom);
        assert_eq!(of(None, Some(11)), CrashCategory::Segfault);
        assert_eq!(of(Some(139), None), CrashCategory::Segfault);
        assert_eq!(of(None, Some(15)), CrashCategory::Signal);
        assert_eq!(of(Some(143), None), CrashCategory::Error);
        assert_eq!(of(Some(1), None), CrashCategory::Error);
        assert_eq!(of(None, None), CrashCategory::Unknown);
    }
}
