//! Workspaces over HTTP ([engine-protocol 2.1](crate::docs::engine_protocol#2.1)).

use serde_json::{Value, json};

use super::call::{Call, HttpAnswer, invalid, nothing, refuse};
use crate::engine::directory::Owner;
use crate::engine::event::Effect;
use crate::engine::id::{Id, digest};
use crate::engine::record::{EngineRecord, WorkspaceChanged, WorkspaceCreated};
use crate::engine::step::Step;

impl Step<'_> {
    fn make_workspace(&mut self, name: &str, key_hash: String) -> Id {
        let (id, general) = (self.fresh_id(), self.fresh_id());
        self.record(EngineRecord::WorkspaceCreated(WorkspaceCreated {
            id,
            name: name.to_owned(),
            key_hash,
            general,
            at: self.now.wall,
        }));
        id
    }

    /// Makes sure that the key opens a workspace; a taken name gets a number appended.
    pub fn ensure_workspace(&mut self, name: &str, key: &str) {
        let hash = digest(key);
        if self.core.state.tokens.contains_key(&hash) {
            return;
        }
        let mut free = name.to_owned();
        let mut n = 1;
        while self.core.state.workspace_named(&free).is_some() {
            n += 1;
            free = format!("{name}-{n}");
        }
        self.make_workspace(&free, hash);
    }
}

pub fn create(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let name = call.need("name")?.trim();
    if name.is_empty() {
        return Err(invalid("\"name\" is required"));
    }
    let owner = match call.bearer {
        None => None,
        Some(token) => match t.core.state.tokens.get(&digest(token)) {
            Some(Owner::Workspace(ws)) => Some((*ws, token)),
            _ => return Err(refuse(401, "unauthorized", "Invalid API key")),
        },
    };
    if let Some(taken) = t.core.state.workspace_named(name) {
        return match owner {
            Some((ws, key)) if ws == taken.id => Ok((
                200,
                json!({
                    "workspace_id": taken.id.to_string(),
                    "api_key": key,
                    "created_at": taken.created_at.iso(),
                }),
            )),
            _ => Err(refuse(
                409,
                "workspace_already_exists",
                format!("Workspace \"{name}\" already exists"),
            )),
        };
    }
    let key = t.token("rk_live_", 32);
    let id = t.make_workspace(name, digest(&key));
    if let Some(metadata) = call.object("metadata")? {
        t.record(EngineRecord::WorkspaceChanged(WorkspaceChanged {
            ws: id,
            name: None,
            system_prompt: None,
            metadata: Some(metadata.clone()),
        }));
    }
    let data = json!({
        "workspace_id": id.to_string(),
        "api_key": key,
        "created_at": t.now.wall.iso(),
    });
    Ok((201, data))
}

pub fn by_name(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let name = call.at[0];
    let w = t.core.state.workspace_named(name).ok_or_else(|| {
        refuse(
            404,
            "workspace_not_found",
            format!("Workspace \"{name}\" not found"),
        )
    })?;
    let data = json!({"id": w.id.to_string(), "name": w.name, "created_at": w.created_at.iso()});
    Ok((200, data))
}

fn view(t: &Step<'_>, ws: Id) -> HttpAnswer {
    let w = t.ws(ws)?;
    let data = json!({
        "id": w.id.to_string(),
        "name": w.name,
        "api_key_hash": "",
        "plan": "free",
        "system_prompt": w.system_prompt,
        "created_at": w.created_at.iso(),
        "metadata": w.metadata,
    });
    Ok((200, data))
}

pub fn get(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    view(t, call.ws())
}

pub fn update(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let ws = call.ws();
    let name = call.text("name")?.map(str::to_owned);
    if let Some(name) = &name
        && t.core
            .state
            .workspace_named(name)
            .is_some_and(|w| w.id != ws)
    {
        return Err(refuse(
            409,
            "workspace_already_exists",
            format!("Workspace \"{name}\" already exists"),
        ));
    }
    let system_prompt = match call.body.get("system_prompt") {
        None => None,
        Some(Value::Null) => Some(None),
        Some(_) => Some(call.text("system_prompt")?.map(str::to_owned)),
    };
    let metadata = call.object("metadata")?.cloned();
    t.record(EngineRecord::WorkspaceChanged(WorkspaceChanged {
        ws,
        name,
        system_prompt,
        metadata,
    }));
    view(t, ws)
}

pub fn delete(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let ws = call.ws();
    t.record(EngineRecord::WorkspaceDeleted { ws });
    for conn in t.core.live.drop_workspace(ws) {
        t.core.live.conns.remove(&conn);
        t.effect(Effect::Close {
            conn,
            code: 1000,
            reason: "force-disconnect",
        });
    }
    nothing()
}
