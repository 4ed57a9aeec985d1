//! The agents' threads: the broker's own loop around one core each, with a model program behind its ports. Reports go to the
//! dispatcher's inbox; what was seen to land is noted beside the journal the moment it is seen.

use relay_broker::agent::core::{AgentCore, Ending, Event};
use relay_broker::agent::driver::{AgentLoop, AgentPorts};
use relay_broker::agent::profile::Source;
use relay_broker::agent::profiles::Profiles;
use relay_broker::agent::proof::MessageHead;
use relay_broker::agent::tty_state::TtyState;
use relay_broker::ids::{AgentName, Run};
use relay_broker::msg::{self, AgentCommand, AgentReport, AgentSpec, How, Size};
use relay_broker::prng::Prng;
use relay_broker::time::Mono;

use crate::tui::Seat;
use crate::world::{MS, What, World, tell};

/// The other side of an agent's loop: a model program in its terminal, and a heap for reports.
struct SimTerminal {
    seat: Seat,
    /// The world's, while the loop runs.
    prng: Prng,
    /// The world's time.
    now: u64,
    reports: Vec<AgentReport>,
    /// Keys of which it was told that they are in the terminal, or will never be.
    pressed: Vec<(u64, Result<usize, String>)>,
}

impl AgentPorts for SimTerminal {
    fn tty_state(&mut self) -> TtyState {
        self.seat.facts()
    }

    fn awaited(&mut self) -> Option<bool> {
        self.seat.awaited()
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        self.seat.write(bytes, self.now, &mut self.prng)
    }

    fn resize(&mut self, _: Size) {}

    fn signal(&mut self, ending: Ending) {
        self.seat.hang_up(self.now, ending == Ending::Kill);
    }

    fn note_history(&mut self, _: Source) {
        self.seat.note_history();
    }

    fn is_in_history(&mut self, head: &MessageHead, _: bool) -> bool {
        self.seat.history().iter().any(|text| head.is_in(text))
    }

    fn report(&mut self, report: AgentReport) {
        self.reports.push(report);
    }

    fn pressed(&mut self, number: u64, result: Result<usize, String>) {
        self.pressed.push((number, result));
    }
}

/// One agent's thread.
pub struct AgentThread {
    pub run: Run,
    spec: AgentSpec,
    /// Once the program runs.
    agent: Option<AgentLoop<SimTerminal>>,
    backlog: Vec<AgentCommand>,
    wakes_at: Option<u64>,
    acts_at: Option<u64>,
}

impl AgentThread {
    fn seat(&mut self) -> Option<&mut Seat> {
        self.agent.as_mut().map(|agent| &mut agent.ports().seat)
    }
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
            agent: None,
            backlog: Vec::new(),
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
        let profile = Profiles::default().of(&thread.spec);
        let core = AgentCore::new(&thread.spec, profile, Mono(now));
        let terminal = SimTerminal {
            seat,
            prng: Prng::new(0),
            now,
            reports: Vec::new(),
            pressed: Vec::new(),
        };
        thread.agent = Some(AgentLoop::new(core, terminal));
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
        if thread.agent.is_none() {
            thread.backlog.push(command);
            return;
        }
        self.feed(life, name, run, Event::Command(command));
        self.settle(life, name, run);
    }

    fn feed(&mut self, life: u64, name: &AgentName, run: Run, event: Event) {
        let now = self.broker_now();
        if let Some(thread) = self.thread(life, name, run)
            && let Some(agent) = &mut thread.agent
        {
            agent.take(now, event);
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
        let Some(seat) = thread.seat() else {
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
        let now = self.broker_now();
        let Some(broker) = self.broker.as_mut().filter(|b| b.life == life) else {
            return;
        };
        let Some(mut agent) = broker.agents.remove(name).and_then(|t| t.agent) else {
            return;
        };
        agent.end(|| now, how);
        for report in std::mem::take(&mut agent.ports().reports) {
            self.reports(name, run, report);
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

    /// Lets the loop do what its core wants, and the program's terminal echo, until nothing more comes of it.
    fn settle(&mut self, life: u64, name: &AgentName, run: Run) {
        let now = self.broker_now();
        let prng = self.prng.clone();
        let Some(thread) = self.thread(life, name, run) else {
            return;
        };
        let Some(agent) = &mut thread.agent else {
            return;
        };
        (agent.ports().now, agent.ports().prng) = (now.mono.0, prng);
        let until = loop {
            let until = agent.settle(|| now);
            let SimTerminal { seat, prng, .. } = agent.ports();
            seat.look(now.mono.0, prng);
            let (output, flushed) = (seat.take_output(), seat.take_flushed());
            if output.is_empty() && !flushed {
                break until;
            }
            if !output.is_empty() {
                agent.take(now, Event::Output(output));
            }
            if flushed {
                agent.take(now, Event::Flushed);
            }
        };
        let wake = until.map(|at| at.0.max(now.mono.0));
        let SimTerminal { seat, prng, .. } = agent.ports();
        let prng = prng.clone();
        let act = seat.deadline().map(|at| at.max(now.mono.0));
        let reports = std::mem::take(&mut agent.ports().reports);
        let pressed = std::mem::take(&mut agent.ports().pressed);
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
        for (number, result) in pressed {
            self.laws.pressed(name, number, &result);
        }
        for report in reports {
            self.reports(name, run, report);
        }
    }

    /// A person at the agent's terminal types these pieces, all at one moment.
    pub fn type_keys(&mut self, name: &AgentName, pieces: &[String]) {
        let Some(broker) = &mut self.broker else {
            return;
        };
        let life = broker.life;
        let Some(run) = broker.agents.get(name).map(|thread| thread.run) else {
            return;
        };
        for piece in pieces {
            let number = self.laws.typed(name, piece);
            let keys = piece.clone().into_bytes();
            self.feed(life, name, run, Event::Keys(number, keys));
        }
        self.settle(life, name, run);
    }

    /// The broker is gone, and so are the terminals. A program may still read what it was given before it sees that.
    pub fn agents_hang_up(&mut self, agents: Vec<(AgentName, AgentThread)>, all_at_once: bool) {
        for (name, mut thread) in agents {
            let Some(seat) = thread.seat() else {
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
        let Some(seat) = thread.seat() else {
            return false;
        };
        work(seat);
        self.settle(life, name, run);
        true
    }
}
