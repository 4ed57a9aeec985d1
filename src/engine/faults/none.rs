//! What stands where faults would, in a build without them.

use crate::engine::http::call::{HttpAnswer, HttpCall, HttpRefusal};
use crate::engine::step::Step;

impl Step<'_> {
    /// Nobody can order a node socket to be refused.
    pub const fn ordered_refusal(&self) -> Option<HttpRefusal> {
        None
    }

    /// Nobody can order an answer to be lost.
    pub fn ordered_failure(&mut self, _: &HttpCall, answer: HttpAnswer) -> HttpAnswer {
        answer
    }

    /// No call is an order.
    pub const fn takes_order(&self, _: &HttpCall) -> Option<HttpAnswer> {
        None
    }

    /// Unknown keys are passed over.
    pub const fn breach(&self, _: &str) -> Option<String> {
        None
    }

    /// Nothing is ever to be cut.
    pub const fn cut_if_due(&self) {}
}
