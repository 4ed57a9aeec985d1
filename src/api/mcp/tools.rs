//! The tools, by the names that agents of this field already know: what each takes, and what its reader is told.

use serde_json::{Map, Value, json};

use crate::api::auth::Principal;
use crate::msg::Right;

/// One tool.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    title: &'static str,
    /// What it does and what comes back, for a model.
    about: &'static str,
    effect: ToolEffect,
    /// What an agent needs to be allowed.
    pub(crate) needs: Option<Right>,
    pub(crate) params: &'static [Param],
}

/// What a tool does to the world, for clients that ask their user first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ToolEffect {
    /// It only looks.
    Reads,
    /// It adds something.
    Writes,
    /// The same again changes nothing more.
    Sets,
    /// It ends something.
    Destroys,
}

/// One parameter.
pub(crate) struct Param {
    pub(crate) name: &'static str,
    pub(crate) kind: ParamKind,
    pub(crate) needed: bool,
    about: &'static str,
}

/// What a parameter's value must be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParamKind {
    Text,
    /// One of these.
    Word(&'static [&'static str]),
    /// From 1 to so many.
    Count(u64),
    Truth,
    Texts,
    Object,
    Anything,
}

const fn must(name: &'static str, kind: ParamKind, about: &'static str) -> Param {
    Param {
        name,
        kind,
        needed: true,
        about,
    }
}

const fn may(name: &'static str, kind: ParamKind, about: &'static str) -> Param {
    Param {
        name,
        kind,
        needed: false,
        about,
    }
}

const AS: Param = may(
    "as",
    ParamKind::Text,
    "Your own name; the operator's key may name an agent of this node",
);
const MODE: Param = may(
    "mode",
    ParamKind::Word(&["wait", "steer"]),
    "wait (usual): read once the reader is idle; steer: interrupts what the reader does",
);
const ID: Param = must(
    "message_id",
    ParamKind::Text,
    "The id in the brackets of a message, or from a receipt; its beginning or end will do where that is clear",
);
const CHANNEL: Param = must(
    "channel",
    ParamKind::Text,
    "Name of the channel, with or without #",
);
const EMOJI: Param = must("emoji", ParamKind::Text, "For example 👍");
const LIMIT: Param = may(
    "limit",
    ParamKind::Count(100),
    "At most so many, the newest",
);

use ParamKind::{Anything, Count, Object, Text, Texts, Truth};
use ToolEffect::{Destroys, Reads, Sets, Writes};

/// The tool of who was started for a result.
pub(crate) const SUBMIT_RESULT: &str = "submit_result";

macro_rules! tool {
    ($name:expr, $title:literal, $effect:expr, $needs:expr, $about:literal, [$($param:expr),* $(,)?]) => {
        Tool { name: $name, title: $title, about: $about, effect: $effect, needs: $needs, params: &[$($param),*] }
    };
}

/// All of them, in the order in which they are listed.
#[rustfmt::skip]
pub(crate) const TOOLS: &[Tool] = &[
    tool!("send_dm", "Write to an agent", Writes, None,
        "Writes to one agent by name. It is typed into that agent's terminal. Returns a receipt with the message's id: `delivered` \
         (it is there, with the proof), `queued` (will be typed when its turn comes) or `waits` (that agent does not run at the moment). A name that does not exist is an error.",
        [must("to", Text, "Name of the agent"), must("text", Text, "What to say"), MODE, AS]),
    tool!("post_message", "Write to a channel", Writes, None,
        "Writes to all who listen to a channel. Returns a receipt with the message's id.",
        [CHANNEL, must("text", Text, "What to say"), MODE, AS]),
    tool!("reply_to_thread", "Answer a message", Writes, None,
        "Answers one message by its id; the author of a direct message is written to, a channel's message gets a thread. \
         Returns a receipt.",
        [ID, must("text", Text, "What to say"), AS]),
    tool!("check_inbox", "What is unread", Reads, None,
        "What waits for you: messages not yet typed into your terminal, unread channels, mentions, direct messages and reactions. \
         You need not call this to receive: messages come by themselves.",
        [LIMIT, AS]),
    tool!("mark_message_read", "Mark as read", Sets, None, "Marks one message as read by you.", [ID, AS]),
    tool!("get_message_readers", "Who has read it", Reads, None,
        "Who has a message, and when each got it. Returns a list; empty as long as nobody has it.", [ID, AS]),
    tool!("list_messages", "Messages of a channel", Reads, None, "The newest messages of a channel, each with id, author and text.",
        [CHANNEL, LIMIT, may("before", Text, "Only older ones than this id"), may("after", Text, "Only newer ones than this id"), AS]),
    tool!("get_message_thread", "A message and its answers", Reads, None, "The answers to one message, the oldest first.", [ID, LIMIT, AS]),
    tool!("list_dms", "Conversations", Reads, None, "Your direct conversations, each with its id, who takes part, and what is unread.", [AS]),
    tool!("send_group_dm", "Write to several agents", Writes, None,
        "Begins a conversation of several agents and writes into it. Returns the ids of both.",
        [must("participants", Texts, "Names of the agents"), must("text", Text, "What to say"), may("name", Text, "What to call it"), AS]),
    tool!("search_messages", "Search", Reads, None, "Messages that contain words, the newest first.",
        [must("query", Text, "The words"), may("channel", Text, "Only there"), may("from", Text, "Only by that agent"), LIMIT, AS]),
    tool!("add_reaction", "React", Sets, None, "Puts an emoji to a message.", [ID, EMOJI, AS]),
    tool!("remove_reaction", "Take a reaction back", Sets, None, "Takes your emoji from a message.", [ID, EMOJI, AS]),
    tool!("create_channel", "New channel", Writes, None, "Makes a channel, which you then listen to.",
        [must("name", Text, "Small letters, digits and dashes"), may("topic", Text, "What it is for"), AS]),
    tool!("list_channels", "Channels", Reads, None, "The channels of the workspace, each with its topic.",
        [may("include_archived", Truth, "Also those that are closed"), AS]),
    tool!("join_channel", "Listen to a channel", Sets, None, "From now on you get what is written there.", [CHANNEL, AS]),
    tool!("leave_channel", "Leave a channel", Sets, None, "From now on you get nothing of it.", [CHANNEL, AS]),
    tool!("archive_channel", "Close a channel", Destroys, None, "Nobody can write there any more.", [CHANNEL, AS]),
    tool!("invite_to_channel", "Bring an agent into a channel", Sets, None, "Another agent listens to it from now on.",
        [CHANNEL, must("agent", Text, "Name of the agent"), AS]),
    tool!("set_channel_topic", "Topic of a channel", Sets, None, "Says what a channel is for.",
        [CHANNEL, must("topic", Text, "What it is for"), AS]),
    tool!("list_agents", "Who is there", Reads, None,
        "The agents you can write to: name, whether online, and for those of this node what they do (`working`, `idle`, `blocked_on_send`).",
        [may("status", ParamKind::Word(&["online", "offline", "all"]), "Only these; online is usual")]),
    tool!("register_agent", "Who you are", Sets, None,
        "Says who you are. You have a name already; another cannot be taken.",
        [must("name", Text, "Your name"), may("type", Text, "Not needed"), may("persona", Text, "Not needed"), may("metadata", Object, "Not needed")]),
    tool!("add_agent", "Start an agent", Writes, Some(Right::Spawn),
        "Starts an agent on this node and gives it a task. Returns its name; it answers by messages.",
        [must("name", Text, "Its name"), must("cli", Text, "Which program, for example claude"), must("task", Text, "What it shall do"),
         may("channel", Text, "Which channel it listens to"), may("persona", Text, "Added to its task"), may("model", Text, "Which model"),
         may("spawn_mode", Text, "How it ends"), may("exit_after_task", Truth, "Whether it ends with its task"), AS]),
    tool!("spawn", "Start an agent somewhere", Writes, Some(Right::Spawn),
        "Starts an agent on this node, or on another with target_node. Returns its name.",
        [must("name", Text, "Its name"), may("cli", Text, "Which program; claude is usual"), may("task", Text, "What it shall do"),
         may("worker_cwd", Text, "In which folder"), may("channel", Text, "Which channel it listens to"),
         may("channels", Texts, "Which channels it listens to"), may("model", Text, "Which model"),
         may("session_ref", Text, "Which session of the program it goes on with"), may("target_node", Text, "Name of the node"), AS]),
    tool!("remove_agent", "End an agent", Destroys, Some(Right::Release),
        "Ends an agent of this node. What waits for it becomes dead letters. Returns its name.",
        [must("name", Text, "Its name"), may("reason", Text, "Why"), may("delete_agent", Truth, "Not needed: its name becomes free"), AS]),
    tool!("query_nodes", "Machines", Reads, None, "The nodes of the workspace and what each can do.",
        [may("capability", Text, "Only those that can do this"), may("name", Text, "Only the one of this name")]),
    tool!(SUBMIT_RESULT, "Hand in your result", Writes, None,
        "Hands in what you were started for. A result that does not fit the schema is an error that says where. After the final \
         one no other is taken. Returns the result's id.",
        [must("data", Anything, "The result"), may("final", Truth, "False for one of several; true is usual"),
         may("metadata", Anything, "Whatever else there is to say about it"), AS]),
    tool!("list_actions", "Actions", Reads, None, "What can be invoked in the workspace, each with what it takes.", [AS]),
    tool!("invoke_action", "Invoke an action", Writes, None,
        "Has an action done, and waits some seconds for its result. Returns `completed` with the output, or `pending` with an id.",
        [must("name", Text, "Name of the action"), may("input", Anything, "What it takes; see list_actions"), AS]),
];

/// The longest list that a tool gives.
pub(crate) const LIST_MAX: u64 = 100;

impl Tool {
    fn schema(&self) -> Value {
        let property = |param: &Param| (param.name.to_owned(), param.schema());
        let properties: Map<String, Value> = self.params.iter().map(property).collect();
        let needed = self.params.iter().filter(|param| param.needed);
        let needed: Vec<&str> = needed.map(|param| param.name).collect();
        json!({"type": "object", "properties": properties, "required": needed, "additionalProperties": false})
    }

    fn view(&self) -> Value {
        let effect = self.effect;
        json!({
            "name": self.name,
            "title": self.title,
            "description": self.about,
            "inputSchema": self.schema(),
            "annotations": {
                "title": self.title,
                "readOnlyHint": effect == Reads,
                "destructiveHint": effect == Destroys,
                "idempotentHint": matches!(effect, Reads | Sets),
                "openWorldHint": false,
            },
        })
    }

    /// Whether the caller may use it at all.
    pub(crate) fn is_open_to(&self, who: &Principal, may: &[Right]) -> bool {
        *who == Principal::Operator || self.needs.is_none_or(|right| may.contains(&right))
    }
}

impl Param {
    fn schema(&self) -> Value {
        let mut schema = match self.kind {
            Text => json!({"type": "string"}),
            ParamKind::Word(words) => json!({"type": "string", "enum": words}),
            Count(most) => json!({"type": "integer", "minimum": 1, "maximum": most}),
            Truth => json!({"type": "boolean"}),
            Texts => json!({"type": "array", "items": {"type": "string"}}),
            Object => json!({"type": "object"}),
            Anything => json!({}),
        };
        schema["description"] = self.about.into();
        schema
    }
}

/// The tool of that name.
pub(crate) fn find(name: &str) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.name == name)
}

/// The answer to `tools/list`: those that the caller may use. `result` is what is wanted of him.
pub(crate) fn list(may: &[Right], who: &Principal, result: Option<&Value>) -> Value {
    let open = |tool: &&Tool| {
        tool.is_open_to(who, may) && (tool.name != SUBMIT_RESULT || result.is_some())
    };
    let mut views: Vec<Value> = TOOLS.iter().filter(open).map(Tool::view).collect();
    let submit = views.iter_mut().find(|view| view["name"] == SUBMIT_RESULT);
    if let (Some(view), Some(schema)) = (submit, result) {
        show_result(view, schema);
    }
    json!({"tools": views})
}

/// Says what the result must look like: as the parameter's own schema, or in words where it refers to itself as a whole.
fn show_result(view: &mut Value, schema: &Value) {
    let text = schema.to_string();
    if schema.is_object() && !text.contains("\"$ref\"") {
        view["inputSchema"]["properties"]["data"] = schema.clone();
    } else if schema.is_object() {
        let about = view["description"].as_str().unwrap_or_default();
        view["description"] = format!("{about} The schema of `data`: {text}").into();
    }
}
