//! The papers that the code cites, so that each citation is a link: what engines, clients and agent programs do, with the
//! sections numbered as the comments name them. `tests/papers/citations.rs` checks that every citation leads to a section.

#[doc = include_str!("../docs/engine-protocol.md")]
pub mod engine_protocol {}

#[doc = include_str!("../docs/local-api.md")]
pub mod local_api {}

#[doc = include_str!("../docs/injection.md")]
pub mod injection {}
