//! Frames from nodes ([engine-protocol 3](crate::docs::engine_protocol#3)): reads them and leads each to the function that
//! takes it. Tolerant of unknown keys; a broken frame is answered, never punished with a close.

mod agents;
mod answer;
mod heartbeat;
mod inventory;
mod nodes;

use serde_json::Value;

use self::agents::Claim;
use super::live::ConnId;
use super::step::Step;
use crate::wire::up::Up;
use crate::wire::{Parsed, WireError};

impl Step<'_> {
    /// Takes one text message from a node.
    pub fn node_frame(&mut self, conn: ConnId, text: &str) {
        self.note_heard(conn);
        if let Some(why) = self.breach(text) {
            return self.complain(conn, None, "invalid_message", &why);
        }
        let frame = match Up::parse(text) {
            Ok(Parsed::Known(frame)) => frame,
            Ok(Parsed::Unknown { kind, frame }) => {
                let id = frame.get("id").and_then(Value::as_str);
                return match (kind.as_str(), self.here(conn)) {
                    ("node.spawn", Some(here)) => self.node_spawn(&here, id, &frame),
                    _ => self.complain(
                        conn,
                        id,
                        "invalid_message",
                        &format!("Unknown frame type {kind}"),
                    ),
                };
            }
            Err(error) => {
                let id = match &error {
                    WireError::Broken { id, .. } if self.core.behaviour().schema.is_none() => {
                        id.clone()
                    }
                    _ => None,
                };
                let why = error.to_string();
                return self.complain(conn, id.as_deref(), "invalid_message", &why);
            }
        };
        if let Up::NodeRegister(register) = &frame {
            return self.node_register(conn, register);
        }
        let Some(here) = self.here(conn) else {
            let id = request_id(&frame);
            return self.complain(conn, id, "invalid_message", "Send node.register first");
        };
        match &frame {
            Up::NodeRegister(_) => {}
            Up::NodeHeartbeat(f) => self.heartbeat(&here, f),
            Up::NodeDeregister(_) => self.node_deregister(&here),
            Up::AgentRegister(f) => self.agent_register(&here, &Claim::of_register(f), None),
            Up::AgentRecover(f) => {
                let expected = f.expected_agent_id.as_str();
                self.agent_register(&here, &Claim::of_recover(f), Some(expected));
            }
            Up::AgentDeregister(f) => self.agent_deregister(&here, f),
            Up::DeliveryAck(f) => self.delivery_ack(&here, f),
            Up::ActionResult(f) => {
                self.action_result(&here, f.invocation_id.as_str(), &f.outcome);
            }
            Up::InventorySync(f) => self.inventory_sync(&here, f),
        }
    }
}

fn request_id(frame: &Up) -> Option<&str> {
    match frame {
        Up::NodeRegister(f) => f.id.as_deref(),
        Up::AgentRegister(f) => f.id.as_deref(),
        Up::AgentRecover(f) => f.id.as_deref(),
        Up::AgentDeregister(f) => f.id.as_deref(),
        Up::InventorySync(f) => f.id.as_deref(),
        Up::NodeHeartbeat(_) | Up::NodeDeregister(_) | Up::DeliveryAck(_) | Up::ActionResult(_) => {
            None
        }
    }
}
