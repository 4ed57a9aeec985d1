//! The HTTP side: `call` says what a call and a refusal are, the handlers answer one kind of call each, and `routes` is
//! the table that leads calls to handlers.

mod actions;
mod agents;
pub mod call;
mod channels;
mod dm;
mod mail;
mod messages;
mod nodes;
mod observers;
mod routes;
mod workspaces;
