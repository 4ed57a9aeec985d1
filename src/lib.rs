//! # relay-broker
//!
//! A broker is the daemon on each machine (a *node*) where coding agents run. It enrols with a control plane (the
//! *engine*), starts agent programs in terminals, types each delivered message into its agent's terminal, sees that it
//! arrived, acknowledges it, runs node actions, and serves a local API and command line.
//!
//! Three promises shape everything here: no message is lost or doubled, it costs next to nothing, and it is obvious what
//! it is doing.
//!
//! ## How it thinks
//!
//! Four small state machines do all the thinking: [`dispatch`], [`uplink::core`], [`agent::core`] and [`engine`]'s core. Each
//! is pure: a step takes the time and an event, returns records and effects, and never blocks, fails, or reads a clock.
//! One thread feeds each its events and performs its effects. [`machine::commit`] makes the records durable in between:
//! *decide, write down, and only then speak*. Everything that crosses a thread is a variant in [`msg`], so the program
//! reads as "what can happen" and "what we then do".
//!
//! ## Threads
//!
//! | thread | waits on | owns |
//! |---|---|---|
//! | `main`, `signals` | the end; signals | the [`broker::Broker`] and the order of stopping |
//! | `progress` | events | the lines `up` prints |
//! | `stderr` | lines of the log, then standard error | nothing |
//! | `reaper` | SIGCHLD | every wait for a child |
//! | `dispatch` | its inbox, its deadline, the disk | dispatcher, ledger, journal |
//! | `uplink` | one `poll` over its socket and its wake descriptor | the WebSocket and the node token |
//! | `rest-0`, `rest-1` | a queue, then the network | HTTP calls to the engine |
//! | `action:NAME` | one `poll` over the pipes of a program that serves an action | that process |
//! | `agent:NAME` | one `poll` over the terminal and its wake descriptor | agent core, screen, the child |
//! | `api`, `api:N` | `accept`; one connection each | its socket |
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
//!  3  net, journal, pubsub, registry, sys                                            machinery that knows no domain
//!  2  dispatch | agent::core.. | uplink::core | engine::core                   cores, side by side, pure
//!  1  msg, ledger, screen, machine, identity::derive                           pure
//!  0  wire, ids, words, time, prng                                                  vocabulary
//! ```
//!
//! - Cores never import each other; they meet in [`msg`] and [`wire`].
//! - `engine` never imports `broker`, `dispatch`, `ledger`, `agent` or `uplink`, and only `cli` and tests import it: the
//!   embedded engine is a neighbour, spoken to over its sockets like any other.
//! - Only `sys::clock` asks the time, only `config` reads the environment, only `sys::thread` starts threads.
//!
//! `tests/layers.rs` holds this section to its word.
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
pub mod engine;
pub mod handlers;
pub mod identity;
pub mod ids;
pub mod journal;
pub mod ledger;
pub mod machine;
pub mod msg;
pub mod net;
pub mod prng;
pub mod pubsub;
pub mod registry;
pub mod screen;
pub mod sys;
pub mod time;
pub mod uplink;
pub mod wire;
pub mod words;
