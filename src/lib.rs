//! # relay-broker
//!
//! A broker is the daemon on each machine (a *node*) where coding agents run. It enrols with a control plane (the
//! *engine*), starts agent programs in terminals, types each delivered message into its agent's terminal, sees that it
//! arrived, acknowledges it, runs node actions, and serves a local API and command line.
//!
//! Three promises shape everything here: no message is lost, and none is repeated unless a crash falls between its reading
//! and the note of that, which is then said; it costs next to nothing; and it is obvious what it is doing.
//!
//! ## How it thinks
//!
//! Four small state machines do all the thinking: [`dispatch`], [`uplink::core`], [`agent::core`] and [`engine`]'s core. Each
//! is pure: a step takes the time and an event, returns records and effects, and never blocks, fails, or reads a clock.
//! One thread feeds each its events and performs its effects, and makes the records durable in between: *decide, write
//! down, and only then speak*. [`machine::event_loop`] is that loop, stepped by a thread and by the simulation alike.
//! Everything that crosses a thread is a variant in [`msg`], so the program reads as "what can happen" and "what we then do".
//! The largest core, [`dispatch`], has four parts whose states no other can name: mail, agents, control (this node at the
//! engine) and actions.
//!
//! ## Threads
//!
//! | thread | waits on | owns |
//! |---|---|---|
//! | `main`, `signals` | the end; signals | the [`broker::Broker`] and the order of stopping |
//! | `progress` | events | the lines `up` prints |
//! | `lease` | its next look | nothing; a client has started the broker for itself |
//! | `work` | events | with `--exit-with-agents`: how the work went |
//! | `service` | events, the watchdog's time | what a service manager is told, where there is one |
//! | `stderr` | lines of the log, then standard error | nothing |
//! | `reaper` | SIGCHLD | every wait for a child |
//! | `dispatch` | its inbox, its deadline, the disk | dispatcher, ledger, journal |
//! | `uplink` | one `poll` over its socket and its wake descriptor | the WebSocket and the node token |
//! | `rest-0`, `rest-1` | a queue, then the network | HTTP calls to the engine |
//! | `action:NAME` | one `poll` over the pipes of a program that serves an action | that process |
//! | `agent:NAME` | one `poll` over the terminal and its wake descriptor | agent core, screen, the child |
//! | `recorder` | output of agents, a tenth of a second, the disk | the files of all recordings |
//! | `api`, `api:N` | `accept`; one connection each | its socket |
//! | `history` | steps of messages | the files of the history |
//! | `notices` | events, and the command that runs | with `[notify]`: that command |
//! | `engine`, `engine:accept`, `engine:N` | as dispatch and api | the embedded engine, when there is one |
//!
//! Arrows into `dispatch` may wait, arrows out of it never do, so no cycle can wait on itself. Every queue is bounded and
//! says what "full" means. Terminal bytes skip `dispatch` both ways, through [`registry`] and [`pubsub`].
//!
//! ## Who imports whom: strictly downward
//!
//! ```text
//!  5  main, cli, config, broker                                                assembly
//!  4  api | agent::{actor,pty,exec} | uplink::{socket,rest} | handlers | identity::store | engine::server
//!  3  net, journal, history, pubsub, recording, registry, sys                  machinery that knows no domain
//!  2  dispatch | agent::core.. | uplink::core | engine::core                   cores, side by side, pure
//!  1  msg, ledger, screen, machine, identity::derive, json_schema              pure
//!  0  wire, domain, ids, words, known_clis, time, prng                         vocabulary
//! ```
//!
//! - Cores never import each other; they meet in [`msg`] and [`wire`].
//! - `ledger` imports neither [`wire`] nor [`msg`]: what lies on disk is spelled apart from what crosses sockets, so that a
//!   key may change its name there and every journal stays as it is.
//! - `engine` never imports `broker`, `dispatch`, `ledger`, `agent` or `uplink`, and only `cli` and tests import it: the
//!   embedded engine is a neighbour, spoken to over its sockets like any other.
//! - Only `sys::clock` asks the time, only `config` reads the environment, only `sys::thread` starts threads.
//!
//! `tests/layers.rs` holds this section to its word.
//!
//! ## One message, step by step
//!
//! Somebody writes to `ada` at an engine. There, from the engine to her terminal (files are those of `src/`):
//!
//! | step | file and functions | what happens |
//! |---|---|---|
//! | 1 | `uplink/socket.rs`: `drain_socket`, `hear` | the uplink's `poll` wakes it; a `deliver` frame is read and reported |
//! | 2 | `sys/thread.rs`: `drive`; `machine/event_loop.rs`: `take`, `step` | the dispatcher's thread takes all that waits in its inbox as one batch |
//! | 3 | `dispatch/routes.rs`: `frame`; `dispatch/mail/inbound.rs`: `deliver`, `judge`, `accept_frame` | by number and message id: new, a copy, done already, or behind a gap |
//! | 4 | `dispatch/mail/delivery.rs`: `accept`, `take_on`, `type_next` | records `Accepted`; when the agent is free, records `Attempted` and orders it typed |
//! | 5 | `machine.rs`: `persist`; `journal/writer.rs`: `commit` | both records are on disk; until then nothing below happens |
//! | 6 | `broker/driver.rs`: `perform`, `order`; `broker/ports.rs`: `order`, `publish` | the order goes to the agent's thread, the events to whoever listens |
//! | 7 | `agent/actor.rs`: `orders`; `agent/core/typing.rs`: `injecting`, `at_gate`; `agent/gate.rs`: `ask` | may it be typed now? A dialog, a person's words and a password prompt say no |
//! | 8 | `agent/inject.rs`: `framed`; `agent/driver.rs`: `flush` | the line is framed and written to the terminal |
//! | 9 | `agent/core/typing.rs`: `typing`, `press_enter`; `agent/draft.rs`: `may_enter` | Enter, once the text stands in the input line |
//!
//! And back, from her terminal to the engine:
//!
//! | step | file and functions | what happens |
//! |---|---|---|
//! | 10 | `agent/core/typing.rs`: `verifying`; `agent/draft/check.rs`: `judge` | it left the input line, was echoed, was read, or the program itself says so |
//! | 11 | `agent/actor.rs`: `report`; `agent/landed_note.rs`: `landed` | the agent's thread notes that it landed, and reports it |
//! | 12 | `dispatch/routes.rs`: `agent`; `dispatch/mail/delivery.rs`: `landed`; `dispatch/mail/settle.rs`: `settle`, `acknowledge` | records `Settled`; wants the longest unbroken run acknowledged, and the next message typed |
//! | 13 | `machine.rs`: `persist` | `Settled` is on disk |
//! | 14 | `dispatch/outbox.rs`: `arrange`; `broker/driver.rs`: `perform`; `broker/ports.rs`: `send` | one `delivery.ack` for an agent and batch, before any goodbye; events tell `send --wait` and everybody else |
//! | 15 | `uplink/socket.rs`: `drain_inbox`, `send` | the engine has it |
//!
//! A message of this machine comes in at `send` of `api/routes.rs` instead of steps 1 to 3, and no engine hears of its end.
//!
//! Where it can be cut, and what then:
//!
//! | what happens | what follows | decided in |
//! |---|---|---|
//! | the frame, or the link, is lost before step 5 | nobody was told anything: the engine sends it again on the next link | `dispatch/control/mod.rs`: `link_open` |
//! | *an acknowledgement is lost* (step 15) | the next link begins with the acknowledgements of all agents here, before the list of them that makes the engine send; what comes again all the same is behind the cursor, so it is acknowledged again and not typed | `dispatch/mail/mod.rs`: `acknowledge_all`; `dispatch/mail/inbound.rs`: `deliver`; `ledger/cursor.rs`: `judge` |
//! | the broker is killed between 5 and 11 | the next start replays the journal, finds it attempted and not settled, and types it again, marked | `broker/start.rs`: `wake`; `dispatch/mod.rs`: `replay`, `open` |
//! | killed between 11 and 13 | the note says that it landed: it is settled at the start and not typed again | `agent/landed_note.rs`: `read_all`; `dispatch/mod.rs`: `open` |
//! | the disk is full at 5 or 13 | nothing leaves; it is tried again until it works | `machine/event_loop.rs`: `retry` |
//! | the program never shows the text | no Enter; it is held up, and told so | `agent/core/typing.rs`: `typing` |
//! | it ends first, and comes back | the message waits and is typed again | `dispatch/agents/roster.rs`: `exited`; `dispatch/mail/delivery.rs`: `type_next` |
//!
//! Who decides what else:
//!
//! | question | answer |
//! |---|---|
//! | who decides that a program is ready? | `agent/ready.rs`: `judge`, from a marker it prints, its modes, its silence, whether it reads its terminal, and what its profile (`agent/profile.rs`; `agent/profiles.rs` picks it) says of its input line; `dispatch/agents/roster.rs`: `ready` hears of it |
//! | where is a dialog recognised? | `agent/prompt.rs`: `focus` sees that something other than the input line has the keyboard; `agent/dialog.rs`: `seen` names it by the last rows of the screen, `look` says when it stands; `agent/core/asked.rs`: `answer_dialog` answers it where the operator's policy says so |
//! | who presses Enter? | `agent/core/typing.rs`: `press_enter` for a text that is drawn, `verifying` again while it stands there, `type_lines` in line mode; there is no other timer |
//! | what is acknowledged? | `dispatch/mail/settle.rs`: `acknowledge`: the longest unbroken run that is settled in the ledger |
//! | when is a message given up? | `dispatch/mail/dead_letters.rs`: `bury`, with the reason |
//!
//! ## Glossary
//!
//! | word | meaning |
//! |---|---|
//! | accepted | a record: the delivery is ours to bring to an end, whatever happens |
//! | action, invocation | something that can be asked of a node; one run of it, which is answered once |
//! | agent | somebody with a name and mail in a workspace; here always a program in a terminal |
//! | attempted | a record: the delivery may have been typed, so a restart looks before it types again |
//! | blocked | an agent whose terminal does not take messages: a dialog stands there, or a message is held up |
//! | composer, input line | where a full-screen program shows what is being typed |
//! | core | a pure state machine; a [`machine::Machine`] |
//! | driver, ports | what turns a core's effects into deeds; the ways out that it uses, real or simulated |
//! | cursor | how far the numbers of an agent's mail have come, and the ids that were seen |
//! | dead letter | a delivery that was given up, kept with the reason |
//! | delivery | one message for one agent, with an id and, from an engine, a number |
//! | draft | text that stands in an input line and is not submitted: ours, or a person's |
//! | effect | what a core wants done, once its records are on disk |
//! | engine | the control plane that knows workspaces, nodes, agents and mail; a neighbour, also when it runs in this process |
//! | event | something that happens to a core; in [`wire::event`], something that subscribers hear |
//! | gap | numbers of an agent's mail that are missing before one that is here |
//! | gate | what is asked before a message is typed: may it be now? |
//! | handler | a program of the operator's configuration that serves an action |
//! | harness | how a program is started, under a name that the workspace may use |
//! | heartbeat, inventory | what the engine is told of this node: that it lives; which agents run here |
//! | history | what became of messages, kept for a while, bounded and beside the journal |
//! | held | an agent whose owner keeps its mail back; a message is *held up* by something in the terminal |
//! | journal | the file of records, in lines that `less` shows |
//! | landed | the agent's thread has seen the message arrive, and says by which [`domain::Proof`] |
//! | ledger | what is true, made from records alone, live and on replay alike |
//! | life, run | an agent from its spawn to its release, over restarts; one process of it |
//! | line mode, raw mode | the kernel gives a program whole lines; or each key as it is pressed |
//! | node | a machine's place in a workspace; one broker serves one |
//! | notice | what one part of the dispatcher wants of the others; handed round once that part is done |
//! | profile | what is known of a program: its input line, its dialogs, its proofs |
//! | record | a fact in the past tense that has to survive a crash |
//! | settled | a record: the delivery has ended, by a proof or without one |
//! | sidecar | a program of any language that connects and serves actions |
//! | steer | the mode of a message that interrupts what the agent does |
//! | turn | what an agent does about a prompt, until it waits for the next |
//! | visitor | a client that is attached to a terminal |
//! | workspace | the agents, nodes and channels that belong together, behind one key |
//!
//! ## Why panics unwind
//!
//! One bad escape sequence may cost one agent its picture, never all agents their lives: a panic in an agent's thread
//! becomes its `Exited` report. A panic in `dispatch` aborts the process instead, because its state can no longer be
//! trusted; the journal can, and the next start replays it. With `panic = "abort"` the first of these would not hold.

pub mod agent;
pub mod api;
pub mod broker;
pub mod cli;
pub mod config;
pub mod dispatch;
pub mod docs;
pub mod domain;
#[cfg(feature = "engine")]
pub mod engine;
pub mod handlers;
pub mod history;
pub mod identity;
pub mod ids;
pub mod journal;
pub mod json_schema;
pub mod known_clis;
pub mod ledger;
pub mod machine;
pub mod msg;
pub mod net;
pub mod prng;
pub mod pubsub;
pub mod recording;
pub mod registry;
pub mod screen;
pub mod sys;
pub mod time;
pub mod uplink;
pub mod wire;
pub mod words;
