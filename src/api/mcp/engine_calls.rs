//! What the engine serves of the tools ([engine-protocol 2.5](crate::docs::engine_protocol#2.5)), as requests in the
//! agent's own name.

use serde_json::{Value, json};

use super::arguments::Arguments;
use super::tools::LIST_MAX;
use crate::msg::EngineRequest;
use crate::net::http::encode;

/// The request that a tool comes to; `None` for those that this broker answers, or that take more than one request.
pub(super) fn of(tool: &str, args: &Arguments) -> Option<EngineRequest> {
    let channel = || encode(args.text("channel").trim_start_matches('#'));
    let message = || encode(args.text("message_id"));
    Some(match tool {
        "mark_message_read" => post(format!("/v1/messages/{}/read", message()), json!({})),
        "list_messages" => {
            let path = format!("/v1/channels/{}/messages", channel());
            get(path, &paging(args, &["before", "after"]))
        }
        "get_message_thread" => {
            let path = format!("/v1/messages/{}/replies", message());
            get(path, &paging(args, &[]))
        }
        "list_dms" => get("/v1/dm/conversations".into(), &[]),
        "search_messages" => {
            let mut query = paging(args, &["channel", "from"]);
            query.push(("q", args.text("query").to_owned()));
            get("/v1/search".into(), &query)
        }
        "add_reaction" => {
            let path = format!("/v1/messages/{}/reactions", message());
            post(path, json!({"emoji": args.text("emoji")}))
        }
        "remove_reaction" => {
            let emoji = encode(args.text("emoji"));
            delete(format!("/v1/messages/{}/reactions/{emoji}", message()))
        }
        "create_channel" => {
            let mut body = json!({"name": args.text("name").trim_start_matches('#')});
            if let Some(topic) = args.maybe("topic") {
                body["topic"] = topic.into();
            }
            post("/v1/channels".into(), body)
        }
        "list_channels" => {
            let archived = args.is_true("include_archived");
            let query = archived.then(|| ("include_archived", "true".to_owned()));
            get("/v1/channels".into(), query.as_slice())
        }
        "join_channel" => post(format!("/v1/channels/{}/join", channel()), json!({})),
        "leave_channel" => post(format!("/v1/channels/{}/leave", channel()), json!({})),
        "archive_channel" => delete(format!("/v1/channels/{}", channel())),
        "invite_to_channel" => {
            let path = format!("/v1/channels/{}/invite", channel());
            let agent = args.text("agent").trim_start_matches('@');
            post(path, json!({"agent_name": agent}))
        }
        "set_channel_topic" => EngineRequest {
            method: "PATCH",
            path: format!("/v1/channels/{}/topic", channel()),
            body: Some(json!({"topic": args.text("topic")})),
        },
        "list_actions" => get("/v1/actions".into(), &[]),
        _ => return None,
    })
}

/// `limit`, and whichever of these texts were given.
fn paging(args: &Arguments, names: &[&'static str]) -> Vec<(&'static str, String)> {
    let limit = args.count("limit").unwrap_or(LIST_MAX / 4);
    let mut query = vec![("limit", limit.to_string())];
    for name in names {
        if let Some(text) = args.maybe(name) {
            query.push((name, text.trim_start_matches('#').to_owned()));
        }
    }
    query
}

pub(super) fn get(path: String, query: &[(&'static str, String)]) -> EngineRequest {
    let pairs = query
        .iter()
        .map(|(key, value)| format!("{key}={}", encode(value)));
    let query = pairs.collect::<Vec<_>>().join("&");
    EngineRequest {
        method: "GET",
        path: if query.is_empty() {
            path
        } else {
            format!("{path}?{query}")
        },
        body: None,
    }
}

pub(super) fn post(path: String, body: Value) -> EngineRequest {
    EngineRequest {
        method: "POST",
        path,
        body: Some(body),
    }
}

fn delete(path: String) -> EngineRequest {
    EngineRequest {
        method: "DELETE",
        path,
        body: None,
    }
}
