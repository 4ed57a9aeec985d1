//! The link to the engine: enrolment, one WebSocket, and the HTTP calls beside it.

pub mod core;
pub mod enrol;
pub mod frame_faults;
mod identify;
mod leftovers;
pub mod proxy;
mod resolve;
pub mod rest;
pub mod roots;
pub mod socket;
