//! What agents were started for: the result that is wanted of one, and the one that it hands in. Whether it fits its schema
//! is judged by the caller, whose thread may take its time.

use serde_json::Value;

use super::state::{AgentStep, Agents};
use crate::dispatch::questions::AgentQuestions;
use crate::ids::AgentName;
use crate::msg::{Answer, Refusal, RefusalKind, Reply};
use crate::wire::event::BrokerEvent;
use crate::wire::local::{AgentResult, ResultTaken, SpawnRequest};

/// The longest schema that stands in a task; longer ones are read where the tool is described.
const SHOWN: usize = 4000;

impl Agents {
    /// What the result of an agent must look like, if one is wanted.
    pub(in crate::dispatch) fn result_schema(&self, name: &AgentName) -> Answer {
        let agent = self.all.get(name).ok_or_else(|| self.unknown(name))?;
        Ok(Reply::ResultSchema(wanted(&agent.request).cloned()))
    }

    /// Takes a result, and tells whoever listens. In one life of an agent nothing follows its final one.
    pub(in crate::dispatch) fn submit_result(
        &mut self,
        step: &mut AgentStep,
        name: &AgentName,
        result: AgentResult,
    ) -> Answer {
        let unknown = self.unknown(name);
        let agent = self.all.get_mut(name).ok_or(unknown)?;
        if wanted(&agent.request).is_none() {
            let text = format!(
                "no result is wanted of '{name}': it was started without agentResultSchema"
            );
            return Err(Refusal::new(RefusalKind::NoResultWanted, text));
        }
        if agent.has_result {
            let text = format!("'{name}' has handed in its final result already; that one counts");
            return Err(Refusal::new(RefusalKind::ResultIsFinal, text));
        }
        agent.has_result = result.is_final;
        agent.last_activity = step.now.wall;
        let generation = Some(agent.generation.clone());
        let result_id = format!("ar_{}", step.unused());
        step.publish(BrokerEvent::AgentResult {
            name: name.clone(),
            result_id: result_id.clone(),
            data: result.data,
            is_final: result.is_final,
            metadata: result.metadata,
            generation,
        });
        Ok(Reply::ResultTaken(ResultTaken {
            success: true,
            name: name.clone(),
            result_id,
        }))
    }
}

/// The schema of a wish; `false`, which nothing fits, stands for no result.
fn wanted(request: &SpawnRequest) -> Option<&Value> {
    let schema = request.agent_result_schema.as_ref();
    schema.filter(|schema| **schema != Value::Bool(false))
}

/// An agent's first task, with how it hands in its result where one is wanted.
pub(super) fn task_of(request: &SpawnRequest) -> Option<String> {
    let task = request.task.clone().filter(|task| !task.is_empty())?;
    let Some(schema) = wanted(request) else {
        return Some(task);
    };
    let shape = schema.to_string();
    let shape = match shape.len() <= SHOWN && *schema != Value::Bool(true) {
        true => format!(" It must fit this JSON schema: {shape}"),
        false => String::new(),
    };
    Some(format!(
        "{task}\n\nWhen you are done, hand in your result with the tool submit_result, or with the command \
         relay-broker submit-result JSON.{shape}"
    ))
}
