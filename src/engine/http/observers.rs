//! Read-only tokens and what they may see ([engine-protocol 2.8](crate::docs::engine_protocol#2.8)).

use serde_json::{Value, json};

use super::call::{Call, HttpAnswer, HttpRefusal, invalid, nothing, refuse};
use crate::engine::directory::Observer;
use crate::engine::event::Effect;
use crate::engine::id::{Id, digest};
use crate::engine::live::Role;
use crate::engine::record::EngineRecord;
use crate::engine::step::Step;
use crate::engine::views;
use crate::time::Wall;

const SCOPES: &[&str] = &[
    "stream:read",
    "messages:read",
    "threads:read",
    "dms:read",
    "channels:read",
    "search:read",
    "agents:read",
    "nodes:read",
    "deliveries:read",
    "activity:read",
    "files:read",
    "reactions:read",
];

impl Step<'_> {
    fn observer(&self, ws: Id, id: Id) -> Option<&Observer> {
        self.core.state.workspaces.get(&ws)?.observers.get(&id)
    }

    /// Whether the observer token is alive and has the scope.
    pub fn observer_may(&self, ws: Id, id: Id, scope: &str) -> bool {
        self.observer(ws, id).is_some_and(|o| {
            o.revoked_at.is_none()
                && o.scopes.iter().any(|s| s == scope)
                && !expired(o, self.now.wall)
        })
    }

    /// Whether an event passes the observer's filters.
    pub fn observer_wants(&self, ws: Id, id: Id, event: &Value) -> bool {
        let Some(observer) = self.observer(ws, id) else {
            return false;
        };
        let listed = |filter: &str, value: &Value| match observer.filters.get(filter) {
            Some(Value::Array(allowed)) => value.is_null() || allowed.contains(value),
            _ => true,
        };
        let direct = event.get("conversation_id").is_some();
        listed("event_types", &event["type"])
            && listed("channel_ids", &event["channel_id"])
            && (direct
                || !event["channel"].is_string()
                || listed("channel_names", &event["channel"]))
            && listed("dm_conversation_ids", &event["conversation_id"])
            && listed("agent_ids", &event["message"]["agent_id"])
            && !(direct && observer.filters.get("include_dms") == Some(&Value::Bool(false)))
    }

    fn close_observer(&mut self, ws: Id, id: Id) {
        let role = Role::Stream { observer: Some(id) };
        let conns: Vec<_> = self
            .core
            .live
            .conns
            .iter()
            .filter(|(_, c)| c.ws == ws && c.role == role)
            .map(|(conn, _)| *conn)
            .collect();
        for conn in conns {
            self.effect(Effect::Close {
                conn,
                code: 1008,
                reason: "observer token revoked",
            });
        }
    }

    fn save(&mut self, ws: Id, observer: Observer) -> Value {
        let view = views::observer(&observer);
        self.record(EngineRecord::ObserverSaved {
            ws,
            observer: Box::new(observer),
        });
        view
    }
}

fn expired(o: &Observer, now: Wall) -> bool {
    let end = o.expires_at.as_deref();
    let end = end.and_then(|at| humantime::parse_rfc3339(at).ok());
    let end = end.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    end.is_some_and(|end| end.as_millis() <= u128::from(now.0))
}

fn scopes(call: &Call<'_>) -> Result<Vec<String>, HttpRefusal> {
    let scopes = call.texts("scopes")?;
    match scopes.iter().find(|s| !SCOPES.contains(&s.as_str())) {
        Some(unknown) => Err(invalid(format!("Unknown scope \"{unknown}\""))),
        None if scopes.is_empty() => Err(invalid("\"scopes\" needs at least one scope")),
        None => Ok(scopes),
    }
}

fn expiry(call: &Call<'_>) -> Result<Option<String>, HttpRefusal> {
    let at = call.text("expires_at")?;
    if let Some(at) = at
        && humantime::parse_rfc3339(at).is_err()
    {
        return Err(invalid(
            "\"expires_at\" must be a time like 2026-06-28T10:00:00Z",
        ));
    }
    Ok(at.map(str::to_owned))
}

fn check_name(t: &Step<'_>, ws: Id, name: &str, own: Option<Id>) -> Result<(), HttpRefusal> {
    let taken = t
        .ws(ws)?
        .observers
        .values()
        .any(|o| o.name == name && o.revoked_at.is_none() && Some(o.id) != own);
    if taken {
        return Err(refuse(
            409,
            "observer_token_name_conflict",
            format!("Observer token \"{name}\" already exists"),
        ));
    }
    Ok(())
}

fn find(t: &Step<'_>, call: &Call<'_>) -> Result<Observer, HttpRefusal> {
    call.at[0]
        .parse()
        .ok()
        .and_then(|id| t.observer(call.ws(), id))
        .cloned()
        .ok_or_else(|| refuse(404, "observer_token_not_found", "Observer token not found"))
}

pub fn create(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let ws = call.ws();
    let name = call.need("name")?;
    check_name(t, ws, name, None)?;
    let filters = call.object("filters")?.cloned().unwrap_or_default();
    let (scopes, expires_at) = (scopes(call)?, expiry(call)?);
    let token = t.token("ot_live_", 48);
    let observer = Observer {
        id: t.fresh_id(),
        name: name.to_owned(),
        description: call.text("description")?.map(str::to_owned),
        scopes,
        filters: Value::Object(filters),
        token_hash: digest(&token),
        expires_at,
        created_at: t.now.wall,
        updated_at: None,
        revoked_at: None,
    };
    let mut data = t.save(ws, observer);
    data["token"] = json!(token);
    Ok((201, data))
}

pub fn list(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let observers = &t.ws(call.ws())?.observers;
    Ok((200, observers.values().map(views::observer).collect()))
}

pub fn get(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    Ok((200, views::observer(&find(t, call)?)))
}

pub fn update(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let ws = call.ws();
    let mut o = find(t, call)?;
    if let Some(name) = call.text("name")? {
        check_name(t, ws, name, Some(o.id))?;
        name.clone_into(&mut o.name);
    }
    if call.body.get("description").is_some() {
        o.description = call.text("description")?.map(str::to_owned);
    }
    if call.body.get("scopes").is_some() {
        o.scopes = scopes(call)?;
    }
    if let Some(filters) = call.object("filters")? {
        o.filters = Value::Object(filters.clone());
    }
    if call.body.get("expires_at").is_some() {
        o.expires_at = expiry(call)?;
    }
    o.updated_at = Some(t.now.wall);
    let id = o.id;
    let view = t.save(ws, o);
    if !t.observer_may(ws, id, "stream:read") {
        t.close_observer(ws, id);
    }
    Ok((200, view))
}

pub fn revoke(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let ws = call.ws();
    let mut o = find(t, call)?;
    o.revoked_at = Some(t.now.wall);
    let id = o.id;
    t.save(ws, o);
    t.close_observer(ws, id);
    nothing()
}

pub fn rotate(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let ws = call.ws();
    let mut o = find(t, call)?;
    if o.revoked_at.is_some() {
        return Err(refuse(
            404,
            "observer_token_not_found",
            "Observer token is revoked",
        ));
    }
    let token = t.token("ot_live_", 48);
    o.token_hash = digest(&token);
    o.updated_at = Some(t.now.wall);
    let id = o.id;
    let mut data = t.save(ws, o);
    t.close_observer(ws, id);
    data["token"] = json!(token);
    Ok((200, data))
}
