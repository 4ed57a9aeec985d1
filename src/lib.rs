//! placeholder
pub mod broker;
pub mod hub;
pub mod ids;
pub mod journal;
pub mod lines;
pub mod machine;
pub mod msg;
pub mod net;
pub mod prng;
pub mod sys;
pub mod time;
pub mod wire;
