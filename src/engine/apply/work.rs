//! Applies facts about actions, and what was asked of nodes and agents.

use crate::engine::directory::{State, Workspace};
use crate::engine::id::Id;
use crate::engine::invocation::{Action, Invocation, InvocationProgress};
use crate::engine::limits;
use crate::engine::record::{Dispatched, InvocationEnded};

impl State {
    pub(super) fn define_action(&mut self, ws: Id, action: &Action) {
        self.saw(action.id);
        self.with(ws, |w| {
            w.actions.insert(action.name.clone(), action.clone());
        });
    }

    pub(super) fn remove_action(&mut self, ws: Id, name: &str) {
        self.with(ws, |w| {
            w.actions.remove(name);
        });
    }

    pub(super) fn invoke(&mut self, ws: Id, invocation: &Invocation) {
        self.saw(invocation.number);
        self.with(ws, |w| {
            w.open.insert(invocation.id.clone());
            w.invocations
                .insert(invocation.id.clone(), invocation.clone());
        });
    }

    pub(super) fn dispatch(&mut self, fact: &Dispatched) {
        self.invocation(fact.ws, &fact.invocation, |i| {
            i.status = if i.handler_agent.is_some() {
                InvocationProgress::Invoked
            } else {
                InvocationProgress::Dispatched
            };
            i.node = Some(fact.node.clone());
            if i.handler_agent.is_none() {
                i.handler_node = Some(fact.node.clone());
            }
            i.dispatched_at = Some(fact.at);
            i.attempts += 1;
        });
    }

    pub(super) fn requeue(&mut self, ws: Id, invocation: &str) {
        self.invocation(ws, invocation, |i| {
            i.status = InvocationProgress::Pending;
            if let Some(node) = i.node.take() {
                i.tried.insert(node);
            }
        });
    }

    pub(super) fn end_invocation(&mut self, fact: &InvocationEnded) {
        self.invocation(fact.ws, &fact.invocation, |i| {
            i.status = if fact.error.is_some() {
                InvocationProgress::Failed
            } else {
                InvocationProgress::Completed
            };
            i.output.clone_from(&fact.output);
            i.error.clone_from(&fact.error);
            i.duration_ms = fact.duration_ms;
            i.completed_at = Some(fact.at);
        });
        self.with(fact.ws, |w| w.finish(&fact.invocation));
    }

    fn invocation(&mut self, ws: Id, id: &str, change: impl FnOnce(&mut Invocation)) {
        self.with(ws, |w| {
            if let Some(i) = w.invocations.get_mut(id) {
                change(i);
            }
        });
    }
}

impl Workspace {
    fn finish(&mut self, id: &str) {
        if self.open.remove(id) {
            self.finished.push_back(id.to_owned());
        }
        while self.finished.len() > limits::INVOCATIONS {
            if let Some(old) = self.finished.pop_front() {
                self.invocations.remove(&old);
            }
        }
    }
}
