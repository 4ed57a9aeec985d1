//! The link to the engine: enrolment, one WebSocket, and the HTTP calls beside it.

pub mod core;
pub mod rest;
pub mod socket;
