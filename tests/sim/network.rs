//! The network between node and engine: links that delay, are cut or go silent, HTTP calls that may never be answered; and
//! the uplink's thread, as `uplink::socket` runs the real core.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;

use relay_broker::ids::{AgentId, NodeId, Seq};
use relay_broker::machine::event_loop::{Driver, EventLoop};
use relay_broker::machine::{Machine, NoLog};
use relay_broker::msg::{self, LinkReport};
use relay_broker::time::Wall;
use relay_broker::uplink::core::{Effect, Event, UplinkCore};
use relay_broker::wire::Parsed;
use relay_broker::wire::down::Down;
use relay_broker::wire::up::Up;
use serde_json::{Value, json};

use crate::peer::{KEY, http};
use crate::world::{SECOND, What, World, tell};

/// Who made an HTTP call.
#[derive(Clone, Debug, PartialEq)]
pub enum Asker {
    /// The uplink of that life wants a token.
    Mint { life: u64 },
    /// The uplink of that life wants a socket.
    Open { life: u64, link: u64, token: String },
    /// A client posts the message of that index.
    Client(usize),
    /// Somebody who does not look at the answer.
    Nobody,
}

/// What comes down a link.
#[derive(Debug)]
pub enum ToNode {
    Frame(Box<Down>),
    Pong,
    /// Why, and whether another connection took its place.
    Closed(String, bool),
}

/// What goes up a link.
#[derive(Debug)]
pub enum ToEngine {
    Text(String),
    Ping,
    Closed,
    /// The engine's connection thread has written so many frames.
    Drained(u32),
}

/// Everything the uplink's thread is sent.
pub enum LinkInput {
    Frame(Box<Up>),
    Reconnect,
    Finish,
}

/// One connection.
#[derive(Debug, Default)]
struct Link {
    /// Nothing passes any more, in either direction.
    cut: bool,
    down_at: u64,
    up_at: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Network {
    links: BTreeMap<u64, Link>,
    last: u64,
    /// As the node's token file keeps them.
    token: Option<String>,
    /// Frames that the engine lost on the way.
    pub lost: BTreeSet<(AgentId, Seq)>,
}

/// Keeps what the uplink's core decides until the world does it.
#[derive(Default)]
struct UplinkDriver(Vec<Effect>);

impl Driver<UplinkCore> for UplinkDriver {
    type Inbound = Event;

    fn accept(&mut self, event: Event) -> Event {
        event
    }

    fn tick(&self) -> Event {
        Event::Tick
    }

    fn perform(&mut self, _: Wall, effect: Effect, _: &mut Vec<Event>) -> ControlFlow<()> {
        self.0.push(effect);
        ControlFlow::Continue(())
    }

    fn degraded(&mut self, _: Option<&str>) {}
}

/// The uplink's thread.
pub struct Uplink {
    event_loop: EventLoop<UplinkCore, NoLog>,
    driver: UplinkDriver,
    inbox: VecDeque<LinkInput>,
    /// It waits for the network and hears nothing else.
    busy: bool,
    link: Option<u64>,
    wakes_at: Option<u64>,
    finished: bool,
}

impl Uplink {
    pub fn new(seed: u64) -> Self {
        Self {
            event_loop: EventLoop::new(UplinkCore::new(seed, false), NoLog),
            driver: UplinkDriver::default(),
            inbox: VecDeque::new(),
            busy: false,
            link: None,
            wakes_at: None,
            finished: false,
        }
    }
}

impl World {
    // ---- the uplink's thread ------------------------------------------------------------------------------------

    pub fn start_uplink(&mut self, life: u64) {
        let has_token = self.network.token.is_some();
        if has_token {
            self.enrolled();
        }
        self.feed_uplink(life, Event::Start { has_token });
    }

    fn enrolled(&mut self) {
        self.tell_broker(msg::Event::Link(LinkReport::Enrolled {
            node_id: NodeId::new("node_sim"),
            node_name: "here".into(),
        }));
    }

    pub fn tell_uplink(&mut self, input: LinkInput) {
        if let Some(broker) = &mut self.broker {
            broker.uplink.inbox.push_back(input);
            let life = broker.life;
            self.uplink_turn(life);
        }
    }

    fn uplink_turn(&mut self, life: u64) {
        loop {
            let Some(broker) = self.broker.as_mut().filter(|b| b.life == life) else {
                return;
            };
            let uplink = &mut broker.uplink;
            if uplink.busy || uplink.finished {
                return;
            }
            let Some(input) = uplink.inbox.pop_front() else {
                break;
            };
            match input {
                LinkInput::Frame(frame) => {
                    if let Some(link) = uplink.link {
                        self.send_frame(link, &frame);
                    }
                }
                LinkInput::Reconnect => self.feed_uplink(life, Event::Reconnect),
                LinkInput::Finish => {
                    uplink.finished = true;
                    if let Some(link) = uplink.link {
                        self.send_up(link, ToEngine::Closed);
                    }
                }
            }
        }
        self.plan_uplink(life);
    }

    fn send_frame(&mut self, link: u64, frame: &Up) {
        self.send_up(link, ToEngine::Text(frame.to_text()));
        if matches!(frame, Up::NodeHeartbeat(_)) {
            self.send_up(link, ToEngine::Ping);
        }
    }

    fn plan_uplink(&mut self, life: u64) {
        let now = self.now;
        let Some(broker) = self.broker.as_mut().filter(|b| b.life == life) else {
            return;
        };
        let due = broker
            .uplink
            .event_loop
            .machine()
            .deadline()
            .map(|at| at.0.max(now));
        if due != broker.uplink.wakes_at {
            broker.uplink.wakes_at = due;
            if let Some(at) = due {
                self.at_time(at, What::UplinkRuns(life));
            }
        }
    }

    pub fn uplink_runs(&mut self, life: u64) {
        let now = self.now;
        let Some(broker) = self.broker.as_mut().filter(|b| b.life == life) else {
            return;
        };
        if broker.uplink.wakes_at != Some(now) || broker.uplink.finished {
            return;
        }
        broker.uplink.wakes_at = None;
        if !broker.uplink.busy {
            self.feed_uplink(life, Event::Tick);
        }
        self.plan_uplink(life);
    }

    pub fn uplink_done(&mut self, life: u64, event: Event) {
        let Some(broker) = self.broker.as_mut().filter(|b| b.life == life) else {
            return;
        };
        broker.uplink.busy = false;
        if matches!(event, Event::Minted) {
            self.enrolled();
        }
        self.feed_uplink(life, event);
        self.uplink_turn(life);
    }

    fn feed_uplink(&mut self, life: u64, event: Event) {
        let now = self.broker_now();
        let Some(broker) = self.broker.as_mut().filter(|b| b.life == life) else {
            return;
        };
        let uplink = &mut broker.uplink;
        uplink.event_loop.feed(|| now, event, &mut uplink.driver);
        for effect in std::mem::take(&mut uplink.driver.0) {
            match effect {
                Effect::Report(report) => {
                    if !matches!(report, LinkReport::Frame(_)) {
                        tell!(self, "uplink: {report:?}");
                    }
                    self.tell_broker(msg::Event::Link(report));
                }
                Effect::Drop => {
                    let link = self.broker.as_mut().and_then(|b| b.uplink.link.take());
                    if let Some(link) = link {
                        self.send_up(link, ToEngine::Closed);
                        self.close(link);
                    }
                }
                Effect::Mint => {
                    let body = json!({"node_id": "node_sim", "name": "here", "kind": "ws", "role": "broker", "version": "sim"});
                    let call = http("POST", "/v1/nodes", KEY, None, body);
                    self.uplink_asks(Asker::Mint { life }, call);
                }
                Effect::Open => {
                    self.network.last += 1;
                    let link = self.network.last;
                    let token = self.network.token.clone().unwrap_or_default();
                    let call = http("GET", "/v1/node/ws", "", None, Value::Null);
                    self.uplink_asks(Asker::Open { life, link, token }, call);
                }
            }
        }
        self.plan_uplink(life);
    }

    fn uplink_asks(&mut self, asker: Asker, call: relay_broker::engine::HttpCall) {
        if let Some(broker) = &mut self.broker {
            broker.uplink.busy = true;
        }
        let after = self.latency();
        self.at(after, What::HttpArrives(asker, call));
    }

    /// The engine took the connection.
    pub fn admitted(&mut self, asker: Asker, link: u64) {
        let after = self.latency();
        let opened = Link {
            cut: false,
            down_at: self.now + after,
            up_at: self.now,
        };
        self.network.links.insert(link, opened);
        self.at(after, What::HttpDone(asker, Some((101, Value::Null))));
    }

    pub fn http_done(&mut self, asker: Asker, answer: Option<(u16, Value)>) {
        match asker {
            Asker::Client(index) => self.posted(index, answer),
            Asker::Nobody => {
                tell!(self, "the engine says {:?}", answer.map(|a| a.0));
            }
            Asker::Mint { life } => {
                let token = match &answer {
                    Some((200..=299, body)) => body["data"]["token"].as_str().map(str::to_owned),
                    _ => None,
                };
                let input = match token {
                    Some(token) => {
                        self.network.token = Some(token);
                        Event::Minted
                    }
                    None => Event::MintFailed {
                        why: format!("{answer:?}"),
                        refused: answer.is_some(),
                    },
                };
                self.uplink_done(life, input);
            }
            Asker::Open { life, link, .. } => self.opened(life, link, answer.map(|a| a.0)),
        }
    }

    fn opened(&mut self, life: u64, link: u64, status: Option<u16>) {
        let alive = self.broker.as_ref().is_some_and(|b| b.life == life);
        let whole = self.network.links.get(&link).is_some_and(|l| !l.cut);
        match status {
            Some(101) if !alive => {
                self.send_up(link, ToEngine::Closed);
                self.close(link);
            }
            Some(101) if whole => {
                if let Some(broker) = &mut self.broker {
                    broker.uplink.link = Some(link);
                }
                self.uplink_done(life, Event::Opened);
            }
            status => {
                let why = format!("no socket: {status:?}");
                let unauthorized = status == Some(401);
                self.uplink_done(life, Event::OpenFailed { why, unauthorized });
            }
        }
    }

    /// The process with that uplink is gone; the engine learns of it, unless the machine is gone too.
    pub fn uplink_gone(&mut self, uplink: &Uplink, silently: bool) {
        if let Some(link) = uplink.link {
            if !silently && !uplink.finished {
                self.send_up(link, ToEngine::Closed);
            }
            self.close(link);
        }
    }

    // ---- links --------------------------------------------------------------------------------------------------

    pub fn send_down(&mut self, link: u64, frame: ToNode) {
        let after = self.latency();
        if let Some(l) = self.network.links.get_mut(&link) {
            l.down_at = l.down_at.max(self.now + after) + 1;
            let at = l.down_at;
            self.at_time(at, What::Down(link, frame));
        }
    }

    pub fn send_up(&mut self, link: u64, frame: ToEngine) {
        let after = self.latency();
        if let Some(l) = self.network.links.get_mut(&link)
            && !l.cut
        {
            l.up_at = l.up_at.max(self.now + after) + 1;
            let at = l.up_at;
            self.at_time(at, What::Up(link, frame));
        }
    }

    /// Nobody listens at the node's end any more.
    fn close(&mut self, link: u64) {
        if self
            .broker
            .as_ref()
            .is_some_and(|b| b.uplink.link == Some(link))
            && let Some(broker) = &mut self.broker
        {
            broker.uplink.link = None;
        }
    }

    /// The link breaks: what is under way is lost, and each end learns of it, soon or never.
    pub fn cut(&mut self, silently: bool) {
        let Some(link) = self.broker.as_ref().and_then(|b| b.uplink.link) else {
            return;
        };
        tell!(
            self,
            "the link is cut{}",
            if silently { ", silently" } else { "" }
        );
        if let Some(l) = self.network.links.get_mut(&link) {
            l.cut = true;
        }
        if !silently {
            let after = self.prng.below(2 * SECOND);
            self.at(
                after,
                What::Down(link, ToNode::Closed("reset".into(), false)),
            );
            let after = self.prng.below(5 * SECOND);
            self.at(after, What::Up(link, ToEngine::Closed));
        }
    }

    /// The engine's process went away.
    pub fn engine_hangs_up(&mut self, link: u64, why: &str) {
        self.send_down(link, ToNode::Closed(why.into(), false));
        if let Some(l) = self.network.links.get_mut(&link) {
            l.cut = true;
            let at = l.down_at;
            self.at_time(at, What::Down(link, ToNode::Closed(why.into(), false)));
        }
    }

    pub fn comes_down(&mut self, link: u64, frame: ToNode) {
        let cut = self.network.links.get(&link).is_none_or(|l| l.cut);
        if cut && !matches!(frame, ToNode::Closed(..)) {
            return;
        }
        let Some(broker) = &mut self.broker else {
            return;
        };
        if broker.uplink.link != Some(link) || broker.uplink.finished {
            return;
        }
        let life = broker.life;
        match frame {
            ToNode::Frame(frame) => {
                self.send_up(link, ToEngine::Drained(1));
                self.feed_uplink(life, Event::Heard { frame: true });
                self.tell_broker(msg::Event::Link(LinkReport::Frame(*frame)));
            }
            ToNode::Pong => self.feed_uplink(life, Event::Heard { frame: false }),
            ToNode::Closed(why, superseded) => {
                self.close(link);
                self.feed_uplink(life, Event::Closed { why, superseded });
            }
        }
    }

    pub fn comes_up(&mut self, link: u64, frame: ToEngine) {
        let cut = self.network.links.get(&link).is_none_or(|l| l.cut);
        if cut && !matches!(frame, ToEngine::Closed) {
            return;
        }
        match frame {
            ToEngine::Text(text) => {
                if text.contains("delivery.ack")
                    && let Ok(Parsed::Known(Up::DeliveryAck(ack))) = Up::parse(&text)
                {
                    self.laws.heard(&ack.agent, ack.up_to_seq);
                }
                self.engine_hears(link, text);
            }
            ToEngine::Ping => self.send_down(link, ToNode::Pong),
            ToEngine::Closed => {
                self.engine_loses(link);
                self.network.links.remove(&link);
            }
            ToEngine::Drained(frames) => self.engine_drained(link, frames),
        }
    }
}
