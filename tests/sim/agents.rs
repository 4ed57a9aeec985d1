//! The agents' threads, as `agent::actor` runs them: one core and one terminal each. Reports go to the dispatcher's inbox;
//! what was seen to land is noted beside the journal the moment it is seen.

use std::collections::VecDeque;

use relay_broker::agent::core::{AgentCore, Effect, Ending, Event};
use relay_broker::agent::profiles::Profiles;
use relay_broker::ids::{AgentName, Run};
use relay_broker::machine::{Machine, Out};
use relay_broker::msg::{self, AgentCommand, AgentReport, AgentSpec, How};
use relay_broker::time::Mono;

use crate::tui::Seat;
use crate::world::{MS, What, World, tell};

/// One agent's thread.
pub struct AgentThread {
    pub run: Run,
    spec: AgentSpec,
    core: Option<AgentCore>,
    pub seat: Option<Seat>,
    unwritten: VecDeque<u8>,
    backlog: Vec<AgentCommand>,
    out: Out<(), Effect>,
    wakes_at: Option<u64>,
    acts_at: Option<u64>,
}

impl World {
    /// The dispatcher wants an agent.
    pub fn start_agent(&mut self, run: Run, spec: AgentSpec, starts: bool) {
        let name = spec.name.clone();
        if !starts {
            let why = "no such program".to_owned();
            let report = AgentReport::NotStarted { why };
            return self.tell_broker(msg::Event::Agent(name, run, report));
        }
        let Some(broker) = &mut self.broker else {
            return;
        };
        let thread = AgentThread {
            run,
            spec,
            core: None,
            seat: None,
            unwritten: VecDeque::new(),
            backlog: Vec::new(),
            out: Out::default(),
            wakes_at: None,
            acts_at: None,
        };
        let life = broker.life;
        broker.agents.insert(name.clone(), thread);
        let after = MS + self.prng.below(5 * MS);
        self.at(after, What::AgentBorn(life, name, run));
    }

    fn thread(&mut self, life: u64, name: &AgentName, run: Run) -> Option<&mut AgentThread> {
        let broker = self.broker.as_mut().filter(|b| b.life == life)?;
        broker.agents.get_mut(name).filter(|t| t.run == run)
    }

    pub fn agent_born(&mut self, life: u64, name: &AgentName, run: Run) {
        let now = self.now;
        let at = self.names.iter().position(|n| n == name).unwrap_or(0);
        let manner = self.options.manners[at].clone();
        let healed = self.healed;
        let Some(thread) = self.thread(life, name, run) else {
            return;
        };
        let mut seat = Seat::new(manner, thread.spec.size.cols, now);
        if healed {
            seat.behave(now);
        }
        thread.seat = Some(seat);
        thread.core = Some(AgentCore::new(
            &thread.spec,
            Profiles::default().of(&thread.spec),
            Mono(now),
        ));
        let backlog = std::mem::take(&mut thread.backlog);
        let pid = run.0 as u32 + 100;
        tell!(self, "{name} runs (run {run})");
        self.reports(name, run, AgentReport::Started { pid });
        for command in backlog {
            self.feed(life, name, run, Event::Command(command));
        }
        self.settle(life, name, run);
    }

    /// An order of the dispatcher.
    pub fn order(&mut self, name: &AgentName, run: Run, command: AgentCommand) {
        let Some(broker) = &self.broker else {
            return;
        };
        let life = broker.life;
        // An agent whose line is down has already reported its end.
        if broker.agents.get(name).is_none_or(|t| t.run != run) {
            return;
        }
        if let AgentCommand::Inject(injection) = &command {
            tell!(self, "{name} is given {}", injection.delivery_id);
            self.laws.injected(&injection.delivery_id);
        }
        let Some(thread) = self.thread(life, name, run) else {
            return;
        };
        if thread.core.is_none() {
            thread.backlog.push(command);
            return;
        }
        self.feed(life, name, run, Event::Command(command));
        self.settle(life, name, run);
    }

    fn feed(&mut self, life: u64, name: &AgentName, run: Run, event: Event) {
        let now = self.broker_now();
        if let Some(thread) = self.thread(life, name, run)
            && let Some(core) = &mut thread.core
        {
            core.step(now, event, &mut thread.out);
        }
    }

    pub fn agent_wakes(&mut self, life: u64, name: &AgentName, run: Run) {
        let now = self.now;
        let Some(thread) = self.thread(life, name, run) else {
            return;
        };
        if thread.wakes_at != Some(now) {
            return;
        }
        thread.wakes_at = None;
        let due = thread.core.as_ref().and_then(AgentCore::deadline);
        if due.is_some_and(|at| at.0 <= now) {
            self.feed(life, name, run, Event::Tick);
        }
        self.settle(life, name, run);
    }

    pub fn seat_acts(&mut self, life: u64, name: &AgentName, run: Run) {
        let now = self.now;
        let mut prng = self.prng.clone();
        let Some(thread) = self.thread(life, name, run) else {
            return;
        };
        if thread.acts_at != Some(now) {
            return;
        }
        thread.acts_at = None;
        let Some(seat) = &mut thread.seat else {
            return;
        };
        let acted = seat.act(now, &mut prng);
        self.prng = prng;
        for text in &acted.accepted {
            self.took(name, text);
        }
        self.laws.thrown(name, &acted.thrown);
        for text in acted.told {
            self.feed(life, name, run, Event::Prompted(text));
        }
        self.settle(life, name, run);
        if let Some(how) = acted.exit {
            self.agent_died(life, name, run, how);
        }
    }

    fn took(&mut self, name: &AgentName, text: &str) {
        tell!(self, "{name} takes {text:?}");
        self.mix(text.len() as u64);
        self.laws.took(name, text);
    }

    fn agent_died(&mut self, life: u64, name: &AgentName, run: Run, how: How) {
        tell!(self, "{name} ends: {how}");
        self.feed(life, name, run, Event::Exited(how));
        let thread = self
            .broker
            .as_mut()
            .filter(|b| b.life == life)
            .and_then(|b| b.agents.remove(name));
        // Only reports matter now; the terminal is gone.
        for effect in thread.map(|t| t.out.effects).unwrap_or_default() {
            if let Effect::Report(report) = effect {
                self.reports(name, run, report);
            }
        }
    }

    fn reports(&mut self, name: &AgentName, run: Run, report: AgentReport) {
        if let AgentReport::Withdrawn(id) = &report {
            self.laws.given_back(id);
        }
        if let AgentReport::Landed(id, proof, _) = &report {
            tell!(self, "{name} has {id}: {proof:?}");
            self.marks.insert(name.clone(), (id.clone(), *proof));
            self.laws.landed(id);
        } else if !matches!(report, AgentReport::Working | AgentReport::Idle { .. }) {
            tell!(self, "{name} reports {report:?}");
        }
        self.tell_broker(msg::Event::Agent(name.clone(), run, report));
    }

    /// Does what the core wants until it wants nothing more and the terminal takes nothing more.
    fn settle(&mut self, life: u64, name: &AgentName, run: Run) {
        let now = self.broker_now();
        let mut prng = self.prng.clone();
        let mut reports = Vec::new();
        let Some(thread) = self.thread(life, name, run) else {
            return;
        };
        let (Some(core), Some(seat)) = (&mut thread.core, &mut thread.seat) else {
            return;
        };
        loop {
            let mut todo: VecDeque<Effect> = thread.out.effects.drain(..).collect();
            while let Some(effect) = todo.pop_front() {
                match effect {
                    Effect::Write(bytes) => thread.unwritten.extend(bytes),
                    Effect::Probe => core.step(now, Event::Tty(seat.facts()), &mut thread.out),
                    Effect::Seek => {
                        core.step(now, Event::Awaited(seat.awaited()), &mut thread.out);
                    }
                    Effect::Report(report) => reports.push(report),
                    Effect::Signal(ending) => seat.hang_up(now.mono.0, ending == Ending::Kill),
                    Effect::NoteHistory(_) => seat.note_history(),
                    Effect::AskHistory(head, _) => {
                        if seat.history().iter().any(|text| head.is_in(text)) {
                            core.step(now, Event::InHistory, &mut thread.out);
                        }
                    }
                    Effect::Keys(..) | Effect::Resize(_) => {}
                }
                // A probe's answer comes before everything else, and so does what follows from it.
                for effect in thread.out.effects.drain(..).rev() {
                    todo.push_front(effect);
                }
            }
            let bytes = thread.unwritten.make_contiguous();
            let wrote = seat.write(bytes, now.mono.0, &mut prng);
            if wrote > 0 {
                thread.unwritten.drain(..wrote);
                core.step(now, Event::Wrote(wrote), &mut thread.out);
                continue;
            }
            let (output, flushed) = (seat.take_output(), seat.take_flushed());
            if output.is_empty() && !flushed {
                break;
            }
            if !output.is_empty() {
                core.saw(now.mono, &output, &mut thread.out);
            }
            if flushed {
                core.step(now, Event::Flushed, &mut thread.out);
            }
        }
        let wake = core.deadline().map(|at| at.0.max(now.mono.0));
        let act = seat.deadline().map(|at| at.max(now.mono.0));
        let wakes = (thread.wakes_at != wake).then_some(wake).flatten();
        let acts = (thread.acts_at != act).then_some(act).flatten();
        thread.wakes_at = wake;
        thread.acts_at = act;
        self.prng = prng;
        if let Some(at) = wakes {
            self.at_time(at, What::AgentWakes(life, name.clone(), run));
        }
        if let Some(at) = acts {
            self.at_time(at, What::SeatActs(life, name.clone(), run));
        }
        for report in reports {
            self.reports(name, run, report);
        }
    }

    /// The broker is gone, and so are the terminals. A program may still read what it was given before it sees that.
    pub fn agents_hang_up(&mut self, agents: Vec<(AgentName, AgentThread)>, all_at_once: bool) {
        for (name, thread) in agents {
            let Some(mut seat) = thread.seat else {
                continue;
            };
            if all_at_once || self.prng.below(2) == 0 {
                continue;
            }
            let mut prng = self.prng.clone();
            seat.read_up(self.now);
            let acted = seat.act(self.now, &mut prng);
            self.prng = prng;
            for text in &acted.accepted {
                self.took(&name, text);
            }
        }
    }

    /// Something is done to an agent's program from outside; false when it does not run.
    pub fn with_seat(&mut self, name: &AgentName, work: impl FnOnce(&mut Seat)) -> bool {
        let Some(broker) = &mut self.broker else {
            return false;
        };
        let life = broker.life;
        let Some(thread) = broker.agents.get_mut(name) else {
            return false;
        };
        let run = thread.run;
        let Some(seat) = &mut thread.seat else {
            return false;
        };
        work(seat);
        self.settle(life, name, run);
        true
    }
}
