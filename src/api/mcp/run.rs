//! Runs a tool: checks who may, asks the dispatcher or, through it, the engine, and says what came of it as text for a model
//! and as an object for a program. What goes wrong is a result that says so, because a model can do something about it.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::arguments::Arguments;
use super::engine_calls::{self, get, post};
use super::following::{Following, MessageEnd};
use super::kept_messages;
use super::protocol::{RpcError, code};
use super::tools::{self, Tool};
use super::words::{delivered, id_of, inbox_words, receipt, roster, told};
use crate::api::auth::Principal;
use crate::api::results;
use crate::api::rights::{permit, quote_line};
use crate::api::routes::spawn_of;
use crate::api::state::{Api, LONG, SHORT};
use crate::ids::{AgentName, InvocationId, MsgId};
use crate::msg::{ApiCall, EngineRequest, Reply, Right};
use crate::net::http::encode;
use crate::wire::local::{AgentResult, PendingView, SendRequest, TEXT_MAX};
use crate::wire::rest::InvocationStatus;

/// What a tool has to say: in words, and as an object.
pub(super) type ToolResult = Result<(String, Value), String>;

/// How often an invocation is looked after, and how many times: models wait for the answer.
const LOOK: Duration = Duration::from_millis(200);
const LOOKS: u32 = 40;
/// Ids of messages that never left this machine begin with it; no engine knows them.
const LOCAL_ID: &str = "http_";

/// Answers `tools/call`.
///
/// # Errors
/// When there is no such tool, or the request itself is not one.
pub(super) fn call(
    api: &Api,
    who: &Principal,
    params: &Map<String, Value>,
) -> Result<Value, RpcError> {
    let name = params.get("name").and_then(Value::as_str);
    let name = name.ok_or_else(|| RpcError::new(code::INVALID_PARAMS, "`name` is missing"))?;
    let Some(tool) = tools::find(name) else {
        let text = format!("there is no tool {name:?}; tools/list names them");
        return Err(RpcError::new(code::INVALID_PARAMS, text));
    };
    let outcome = Arguments::check(tool, params.get("arguments"))
        .and_then(|args| ToolRun::new(api, who, tool, args)?.answer());
    let unread = match who {
        Principal::Agent(agent) if !matches!(name, "check_inbox" | "register_agent") => {
            waiting(api, agent).and_then(|waiting| waiting_line(&waiting))
        }
        _ => None,
    };
    Ok(shown(outcome, unread))
}

/// A tool's result as the protocol wants it. What is unread stands in both of its forms: some programs show their model the
/// words, some the object.
fn shown(outcome: ToolResult, unread: Option<String>) -> Value {
    let (text, data, failed) = match outcome {
        Ok((text, data)) => (text, Some(data), false),
        Err(why) => (why, None, true),
    };
    let words = std::iter::once(text).chain(unread.clone());
    let content: Vec<Value> = words
        .map(|text| json!({"type": "text", "text": text}))
        .collect();
    let mut result = json!({"content": content, "isError": failed});
    if let Some(mut data) = data {
        if let (Some(line), Some(fields)) = (unread, data.as_object_mut()) {
            fields.entry("unread").or_insert(line.into());
        }
        result["structuredContent"] = data;
    }
    result
}

/// What waits for an agent here, with the words; `None` where the dispatcher does not say.
fn waiting(api: &Api, agent: &AgentName) -> Option<Vec<PendingView>> {
    match api.ask(ApiCall::Pending(agent.clone()), SHORT) {
        Ok(Reply::Pending(list)) => Some(list.pending),
        _ => None,
    }
}

/// The same in one line; nothing when nothing waits.
fn waiting_line(waiting: &[PendingView]) -> Option<String> {
    let names: BTreeSet<&str> = waiting
        .iter()
        .map(|message| message.from.as_str())
        .collect();
    (!names.is_empty()).then(|| {
        let names: Vec<&str> = names.into_iter().collect();
        format!(
            "Unread: {} from {}; typed into your terminal once you are idle.",
            waiting.len(),
            names.join(", ")
        )
    })
}

/// One call of one tool.
struct ToolRun<'a> {
    api: &'a Api,
    who: &'a Principal,
    tool: &'a Tool,
    args: Arguments,
    /// In whose name; `None` for the operator, who names nobody.
    speaker: Option<AgentName>,
}

impl<'a> ToolRun<'a> {
    fn new(
        api: &'a Api,
        who: &'a Principal,
        tool: &'a Tool,
        mut args: Arguments,
    ) -> Result<Self, String> {
        let named = args.maybe("as").map(AgentName::meant);
        let speaker = match (who, named) {
            (Principal::Agent(own), Some(named)) if named != *own => {
                return Err(format!(
                    "you are {own} and cannot speak as {named}; leave `as` away"
                ));
            }
            (Principal::Agent(own), _) => Some(own.clone()),
            (Principal::Operator, named) => named,
        };
        if let Some(id) = args.maybe("message_id") {
            let whole = kept_messages::whole_id(api, speaker.as_ref(), id)?;
            args.set("message_id", whole);
        }
        let run = Self {
            api,
            who,
            tool,
            args,
            speaker,
        };
        if let Some(right) = tool.needs {
            run.permitted(right)?;
        }
        Ok(run)
    }

    fn permitted(&self, right: Right) -> Result<(), String> {
        match self.who {
            Principal::Operator => Ok(()),
            Principal::Agent(agent) => {
                permit(agent, right, &self.api.context.agents_may).map_err(|e| e.message)
            }
        }
    }

    fn answer(&self) -> ToolResult {
        match self.tool.name {
            "send_dm" => self.send(self.args.text("to").to_owned()),
            "post_message" => {
                let channel = self.args.text("channel").trim_start_matches('#');
                self.send(format!("#{channel}"))
            }
            "reply_to_thread" => self.reply(),
            "send_group_dm" => self.group(),
            "check_inbox" => self.inbox(),
            "get_message_readers" => self.readers(),
            "list_agents" => self.agents(),
            "register_agent" => self.register(),
            "add_agent" | "spawn" => self.spawn(),
            "remove_agent" => self.remove(),
            tools::SUBMIT_RESULT => self.submit_result(),
            "query_nodes" => self.nodes(),
            "invoke_action" => self.invoke(),
            name => {
                self.known_to_the_engine()?;
                let request = engine_calls::of(name, &self.args);
                let request = request.ok_or_else(|| format!("{name} is not served here"))?;
                let data = self.as_speaker(request)?;
                Ok(told(data))
            }
        }
    }

    fn ask(&self, call: ApiCall, limit: Duration) -> Result<Reply, String> {
        self.api.ask(call, limit).map_err(|e| e.message)
    }

    /// Asks the engine in the speaker's name.
    fn as_speaker(&self, request: EngineRequest) -> Result<Value, String> {
        let speaker = self.speaker.clone().ok_or_else(|| {
            "say in whose name: `as` is the name of an agent that runs on this node".to_owned()
        })?;
        match self.ask(ApiCall::AsAgent(speaker, request), LONG)? {
            Reply::Engine(data) => Ok(data),
            other => Err(confused(&other)),
        }
    }

    /// Messages of this machine have ids that no engine knows.
    fn known_to_the_engine(&self) -> Result<(), String> {
        match self.args.text("message_id") {
            id if id.starts_with(LOCAL_ID) => Err(format!(
                "{id} went from one agent of this node to another and was kept by no engine; of such a message there is only \
                 reply_to_thread"
            )),
            _ => Ok(()),
        }
    }

    fn send(&self, to: String) -> ToolResult {
        let request = SendRequest {
            to,
            text: self.args.text("text").to_owned(),
            mode: self.args.maybe("mode").map(str::to_owned),
            ..SendRequest::default()
        };
        self.deliver(request)
    }

    fn deliver(&self, mut request: SendRequest) -> ToolResult {
        if request.text.len() > TEXT_MAX {
            return Err(format!(
                "the text has {} bytes and a message at most {TEXT_MAX}; put it into a file and send its path",
                request.text.len()
            ));
        }
        request.from = self.speaker.as_ref().map(AgentName::to_string);
        request.by_agent = *self.who != Principal::Operator;
        if request.by_agent {
            quote_line(&mut request);
        }
        let to = request.to.clone();
        let following = Following::begin(self.api);
        let sent = match self.ask(ApiCall::Send(request), LONG)? {
            Reply::Sent(sent) => sent,
            other => return Err(confused(&other)),
        };
        match following.end(&sent, self.api.receipt_limit) {
            MessageEnd::Delivered(proof) => Ok(delivered(&to, &sent, &proof)),
            MessageEnd::Failed(why) => Err(format!("{to} did not get it: {why}")),
            MessageEnd::Open => Ok(receipt(&to, &sent)),
        }
    }

    /// To the author, where the message never left this machine; else as an answer in its thread.
    fn reply(&self) -> ToolResult {
        let id = self.args.text("message_id");
        let text = self.args.text("text");
        if !id.starts_with(LOCAL_ID) {
            let path = format!("/v1/messages/{}/replies", encode(id));
            let data = self.as_speaker(post(path, json!({"text": text})))?;
            let answer = id_of(&data);
            return Ok((
                format!("queued as an answer to {id} (message {answer})"),
                json!({"status": "queued", "message_id": answer, "in_reply_to": id}),
            ));
        }
        let author = kept_messages::author(self.api, self.speaker.as_ref(), id)?;
        self.deliver(SendRequest {
            to: author,
            text: text.to_owned(),
            thread_id: Some(id.to_owned()),
            ..SendRequest::default()
        })
    }

    fn group(&self) -> ToolResult {
        let participants = self.args.texts("participants");
        let mut body = json!({"participants": participants});
        if let Some(name) = self.args.maybe("name") {
            body["name"] = name.into();
        }
        let made = self.as_speaker(post("/v1/dm/group".into(), body))?;
        let conversation = id_of(&made);
        let path = format!("/v1/dm/{}/messages", encode(&conversation));
        let sent = self.as_speaker(post(path, json!({"text": self.args.text("text")})))?;
        let message = id_of(&sent["message"]);
        Ok((
            format!(
                "queued for {} (message {message}, conversation {conversation})",
                participants.join(", ")
            ),
            json!({"status": "queued", "message_id": message, "conversation_id": conversation}),
        ))
    }

    fn inbox(&self) -> ToolResult {
        let limit = self.args.count("limit").unwrap_or(20).to_string();
        let engine = self.as_speaker(get("/v1/inbox".into(), &[("limit", limit)]));
        let mut inbox = match &engine {
            Ok(data) => data.clone(),
            Err(why) => json!({"engine": why}),
        };
        let mut said = Vec::new();
        let own = self.speaker.as_ref();
        if let Some(waiting) = own.and_then(|agent| waiting(self.api, agent)) {
            said.extend(waiting_line(&waiting));
            inbox["waiting"] = json!(waiting);
        }
        match &engine {
            Ok(data) => said.push(inbox_words(data)),
            Err(why) => said.push(format!("The engine does not say what is unread: {why}")),
        }
        Ok((said.join("\n"), inbox))
    }

    fn readers(&self) -> ToolResult {
        self.known_to_the_engine()?;
        let id = MsgId::new(self.args.text("message_id"));
        match self.ask(ApiCall::Readers(id), LONG)? {
            Reply::Readers(readers) => {
                let names: Vec<&str> = readers.iter().map(|r| r.agent_name.as_str()).collect();
                let text = match names.is_empty() {
                    true => "Nobody has it yet.".to_owned(),
                    false => format!("It is with {}.", names.join(", ")),
                };
                Ok((text, json!({"readers": readers})))
            }
            other => Err(confused(&other)),
        }
    }

    fn agents(&self) -> ToolResult {
        let here = match self.ask(ApiCall::Agents, SHORT)? {
            Reply::Agents(list) => list,
            other => return Err(confused(&other)),
        };
        let wanted = self.args.maybe("status").unwrap_or("online");
        let path = match wanted {
            "all" => "/v1/agents".to_owned(),
            wanted => format!("/v1/agents?status={wanted}"),
        };
        let engine = match self.speaker {
            Some(_) => self.as_speaker(get(path, &[])),
            None => Err("the workspace's other agents are listed for agents only".to_owned()),
        };
        Ok(roster(&here, engine, wanted))
    }

    fn register(&self) -> ToolResult {
        let wanted = self.args.text("name");
        match &self.speaker {
            Some(own) if AgentName::meant(wanted) == *own => Ok((
                format!("You are {own} already; there is nothing to do."),
                json!({"name": own, "registered": true}),
            )),
            Some(own) => Err(format!(
                "you are {own} in this workspace and cannot become {wanted}; go on as {own}"
            )),
            None => {
                Err("agents are registered when they are started; start one with add_agent".into())
            }
        }
    }

    fn spawn(&self) -> ToolResult {
        let args = &self.args;
        let cli = args.maybe("cli").unwrap_or("claude");
        let mut task = args.text("task").to_owned();
        if let Some(persona) = args.maybe("persona") {
            task = format!("{persona}\n\n{task}");
        }
        let mut channels = args.texts("channels");
        channels.extend(args.maybe("channel").map(str::to_owned));
        let mut wish = json!({"name": args.text("name"), "cli": cli, "channels": channels});
        for (key, value) in [
            ("task", (!task.is_empty()).then_some(task.as_str())),
            ("cwd", args.maybe("worker_cwd")),
            ("model", args.maybe("model")),
            ("continue_from", args.maybe("session_ref")),
            ("spawn_mode", args.maybe("spawn_mode")),
        ] {
            if let Some(value) = value {
                wish[key] = value.into();
            }
        }
        if args.is_true("exit_after_task") {
            wish["exit_after_task"] = true.into();
        }
        let own = self.api.context.published.get().node_name.clone();
        if let Some(node) = args.maybe("target_node").filter(|node| *node != own) {
            let path = format!(
                "/v1/nodes/{}/actions/{}/invoke",
                encode(node),
                encode(&format!("spawn:{cli}"))
            );
            let begun = self.as_speaker(post(path, json!({"input": wish})))?;
            return self.follow("spawn", &begun);
        }
        let wish = match wish {
            Value::Object(map) => spawn_of(map).map_err(|e| e.message)?.of(self.who),
            _ => return Err("the wish is no object".into()),
        };
        match self.ask(wish.call, LONG)? {
            Reply::Spawned(spawned) => {
                let mut text = format!("{} runs; write to it with send_dm.", spawned.name);
                let mut data = json!({"name": spawned.name, "pid": spawned.pid});
                if let Some(warning) = &spawned.warning {
                    text.push_str(" Without effect here: ");
                    text.push_str(warning);
                    data["without_effect"] = warning.as_str().into();
                }
                Ok((text, data))
            }
            other => Err(confused(&other)),
        }
    }

    fn remove(&self) -> ToolResult {
        let name = AgentName::meant(self.args.text("name"));
        let reason = self.args.maybe("reason").map(str::to_owned);
        let call = ApiCall::Release {
            name: name.clone(),
            reason,
        };
        match self.ask(call, LONG)? {
            Reply::Released { name } | Reply::Releasing { name } => Ok((
                format!("{name} is ended."),
                json!({"name": name, "released": true}),
            )),
            other => Err(confused(&other)),
        }
    }

    fn submit_result(&self) -> ToolResult {
        let name = self.speaker.clone().ok_or_else(|| {
            "say whose result it is: `as` is the name of an agent that runs on this node".to_owned()
        })?;
        let result = AgentResult {
            name: None,
            data: self.args.value("data").cloned().unwrap_or_default(),
            is_final: self.args.value("final") != Some(&Value::Bool(false)),
            metadata: self.args.value("metadata").cloned(),
        };
        let is_final = result.is_final;
        match results::take(self.api, name, result).map_err(|e| e.message)? {
            Reply::ResultTaken(taken) => {
                let id = taken.result_id;
                let words = match is_final {
                    true => "taken as your final result",
                    false => "taken; hand in your final result when you have it",
                };
                let data = json!({"result_id": id, "final": is_final});
                Ok((format!("{words} (result {id})"), data))
            }
            other => Err(confused(&other)),
        }
    }

    fn nodes(&self) -> ToolResult {
        let (name, capability) = (self.args.maybe("name"), self.args.maybe("capability"));
        match self.ask(ApiCall::Nodes, LONG)? {
            Reply::Nodes(mut nodes) => {
                nodes.retain(|node| {
                    name.is_none_or(|name| node.name == name)
                        && capability.is_none_or(|c| node.capabilities.iter().any(|k| k.name == c))
                });
                let data = json!({"nodes": nodes});
                Ok((data.to_string(), data))
            }
            other => Err(confused(&other)),
        }
    }

    fn invoke(&self) -> ToolResult {
        let action = self.args.text("name");
        match action.split(':').next().unwrap_or_default() {
            "spawn" => self.permitted(Right::Spawn)?,
            "release" => self.permitted(Right::Release)?,
            _ => {}
        }
        let input = self
            .args
            .value("input")
            .cloned()
            .unwrap_or_else(|| json!({}));
        let path = format!("/v1/actions/{}/invoke", encode(action));
        let begun = self.as_speaker(post(path, json!({"input": input})))?;
        self.follow(action.split(':').next().unwrap_or(action), &begun)
    }

    /// Waits a while for the end of an invocation.
    fn follow(&self, action: &str, begun: &Value) -> ToolResult {
        let read = |value: &Value| serde_json::from_value::<InvocationStatus>(value.clone());
        let mut status =
            read(begun).map_err(|e| format!("the engine's answer names no invocation: {e}"))?;
        let id: InvocationId = status.invocation_id.clone();
        for _ in 0..LOOKS {
            if status.is_over() {
                break;
            }
            thread::sleep(LOOK);
            let path = format!(
                "/v1/actions/{}/invocations/{}",
                encode(action),
                encode(id.as_str())
            );
            status = read(&self.as_speaker(get(path, &[]))?).unwrap_or(status);
        }
        match (status.status.as_str(), status.error.as_deref()) {
            ("failed", why) => Err(format!(
                "{action} failed: {}",
                why.unwrap_or("without a reason")
            )),
            ("completed", _) => {
                let data =
                    json!({"status": "completed", "invocation_id": id, "output": status.output});
                Ok((format!("{action}: {}", status.output), data))
            }
            (word, _) => Ok((
                format!(
                    "{action} is still {word} (invocation {id}); its result is not awaited any longer"
                ),
                json!({"status": "pending", "invocation_id": id}),
            )),
        }
    }
}

/// The messages of one of an agent's conversations.
pub(super) fn conversation(api: &Api, who: &Principal, id: &str) -> Result<Value, String> {
    let Principal::Agent(agent) = who else {
        return Err("conversations are an agent's own".to_owned());
    };
    let request = get(format!("/v1/dm/{}/messages", encode(id)), &[]);
    match api.ask(ApiCall::AsAgent(agent.clone(), request), LONG) {
        Ok(Reply::Engine(data)) => Ok(data),
        Ok(other) => Err(confused(&other)),
        Err(e) => Err(e.message),
    }
}

fn confused(reply: &Reply) -> String {
    log::error!("an answer of the wrong kind to a tool: {reply:?}");
    "the broker answered another question; its log names it".to_owned()
}
