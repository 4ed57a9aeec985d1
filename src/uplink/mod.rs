//! The link to the engine: enrolment, one WebSocket, and the HTTP calls beside it.

pub mod core;
pub mod enrol;
mod identify;
pub mod junk;
pub mod proxy;
pub mod rest;
pub mod socket;
