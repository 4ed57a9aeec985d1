//! A client of the local API: plain calls and the event stream. Waits with `poll`, never by trying again and again.

use std::net::TcpStream;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tungstenite::Message;
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;

use super::failure::Failure;
use super::find::SILENT;
use crate::net::{LinkError, WebSocketLink};
use crate::sys::clock;
use crate::sys::wake::Wake;
use crate::time::Mono;
use crate::wire::local::ConnectionFile;

/// Upstream's limit for one call; spawning and releasing take the longest.
const CALL_LIMIT: Duration = Duration::from_secs(30);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// For a call that changes nothing, and whose answer is of use only if it comes soon.
const LOOK_LIMIT: Duration = Duration::from_secs(4);
/// More than any event and any redrawn terminal.
const BODY_LIMIT: u64 = 64 * 1024 * 1024;

/// Asks for the newest event number without any events.
const NEWEST: &str = "/api/events/replay?sinceSeq=9007199254740991";

/// See the module.
pub struct Client {
    url: String,
    key: String,
    /// Whether the key is an agent's token.
    agents: bool,
    pid: u32,
    agent: ureq::Agent,
}

impl Client {
    /// For the broker that a connection file names; nothing is opened yet.
    pub fn new(file: &ConnectionFile) -> Self {
        let agent = ureq::Agent::config_builder()
            // A proxy for the internet has no business between us and our own machine.
            .proxy(None)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_LIMIT))
            .timeout_global(Some(CALL_LIMIT))
            .build()
            .new_agent();
        Self {
            url: file.url.trim_end_matches('/').to_owned(),
            key: file.api_key.clone(),
            agents: false,
            pid: file.pid,
            agent,
        }
    }

    /// Of the same caller, for the broker that a connection file names. The operator's key is that of the file.
    pub fn at(&self, file: &ConnectionFile) -> Self {
        let other = Self::new(file);
        match self.agents {
            true => other.of_agent(self.key.clone()),
            false => other,
        }
    }

    /// The same in the name of an agent, whose token it shows instead of the operator's key.
    pub fn of_agent(mut self, token: String) -> Self {
        self.key = token;
        self.agents = true;
        self
    }

    /// Whether it speaks for an agent, with that agent's token.
    pub fn is_agents(&self) -> bool {
        self.agents
    }

    /// The broker's process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// `GET`.
    ///
    /// # Errors
    /// The broker's own sentence, or that it does not answer.
    pub fn get(&self, path: &str) -> Result<Value, Failure> {
        let call = self.agent.get(format!("{}{path}", self.url));
        self.answer(call.header("x-api-key", &self.key).call())
    }

    /// `GET`, of something that a broker in good health says at once.
    ///
    /// # Errors
    /// As [`Client::get`], after seconds.
    pub fn look(&self, path: &str) -> Result<Value, Failure> {
        match self.soon(path).header("x-api-key", &self.key).call() {
            Err(ureq::Error::Timeout(_)) => Err(self.stuck()),
            sent => self.answer(sent),
        }
    }

    /// `GET`, read as a type.
    ///
    /// # Errors
    /// As [`Client::get`], and when the answer is not what this version expects.
    pub fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        typed(self.get(path)?)
    }

    /// `POST`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn post(&self, path: &str, body: &impl Serialize) -> Result<Value, Failure> {
        let call = self.agent.post(format!("{}{path}", self.url));
        self.answer(call.header("x-api-key", &self.key).send_json(body))
    }

    /// `PUT`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn put(&self, path: &str, body: &impl Serialize) -> Result<Value, Failure> {
        let call = self.agent.put(format!("{}{path}", self.url));
        self.answer(call.header("x-api-key", &self.key).send_json(body))
    }

    /// `DELETE`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn delete(&self, path: &str) -> Result<Value, Failure> {
        let call = self.agent.delete(format!("{}{path}", self.url));
        self.answer(call.header("x-api-key", &self.key).call())
    }

    /// `POST` of a message of the Model Context Protocol as it is; the answer likewise, whatever its status, if there is one.
    ///
    /// # Errors
    /// When the broker does not answer, or not as that protocol wants it.
    pub fn pass_on(&self, path: &str, message: Vec<u8>) -> Result<Option<Value>, Failure> {
        let call = self.agent.post(format!("{}{path}", self.url));
        let call = call.header("x-api-key", &self.key);
        let call = call.header("content-type", "application/json");
        let sent = call.header("x-relay-stdio", "1").send(&message[..]);
        let mut response = sent.map_err(|e| match e {
            ureq::Error::Timeout(_) => self.late(),
            e => self.silent(&e.to_string()),
        })?;
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(BODY_LIMIT);
        let body = body
            .read_to_string()
            .map_err(|e| self.silent(&e.to_string()))?;
        if status == 202 {
            return Ok(None);
        }
        match serde_json::from_str::<Value>(&body) {
            Ok(answer) if answer["jsonrpc"] == "2.0" => Ok(Some(answer)),
            _ if status == 401 => Err(Failure::new(
                "the broker does not know this agent's token (any more): the agent was released, or its program is an older \
                 one than the broker; start the agent again",
            )),
            _ => Err(refusal(status, &body)),
        }
    }

    fn answer(
        &self,
        sent: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Value, Failure> {
        let mut response = sent.map_err(|e| match e {
            ureq::Error::Timeout(_) => self.late(),
            e => self.silent(&e.to_string()),
        })?;
        let status = response.status().as_u16();
        let body = response
            .body_mut()
            .with_config()
            .limit(BODY_LIMIT)
            .read_to_string()
            .map_err(|e| self.silent(&e.to_string()))?;
        if !(200..300).contains(&status) {
            return Err(refusal(status, &body));
        }
        if body.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&body)
            .map_err(|e| Failure::new(format!("the broker's answer is not JSON: {e}")))
    }

    /// `GET` of a probe, which answers 503 with the same body where something is wrong: whether all is well, and the body.
    ///
    /// # Errors
    /// When the broker does not answer, or not in that way.
    pub fn probe(&self, path: &str) -> Result<(bool, Value), Failure> {
        let call = self.soon(path).header("accept", "application/json");
        let mut response = call.call().map_err(|e| match e {
            ureq::Error::Timeout(_) => self.stuck(),
            e => self.silent(&e.to_string()),
        })?;
        let status = response.status().as_u16();
        let body = response.body_mut().read_to_string();
        let body = body.map_err(|e| self.silent(&e.to_string()))?;
        match serde_json::from_str(&body) {
            Ok(answer) if [200, 503].contains(&status) => Ok((status == 200, answer)),
            _ => Err(refusal(status, &body)),
        }
    }

    fn late(&self) -> Failure {
        Failure::new(format!(
            "the broker (process {}) at {} is there and does not answer in time; it may have taken the request all the \
             same: look at `relay-broker events` or `relay-broker pending` before you repeat it",
            self.pid, self.url
        ))
        .named(SILENT)
    }

    /// A `GET` that is answered within seconds or not at all.
    fn soon(&self, path: &str) -> ureq::RequestBuilder<ureq::typestate::WithoutBody> {
        let call = self.agent.get(format!("{}{path}", self.url));
        call.config().timeout_global(Some(LOOK_LIMIT)).build()
    }

    fn stuck(&self) -> Failure {
        Failure::new(format!(
            "the broker (process {}) at {} is there and does not answer within {LOOK_LIMIT:?}: it may be stopped (`kill -CONT {0}` \
             lets it go on), or the machine may be overloaded; `kill -9 {0}` ends it, and a new `relay-broker up` has its agents \
             and messages",
            self.pid, self.url
        ))
        .named(SILENT)
    }

    fn silent(&self, why: &str) -> Failure {
        Failure::new(format!(
            "the broker (process {}) does not answer at {}: {why}; if that is not a broker any more, \
             start one with `relay-broker up`",
            self.pid, self.url
        ))
        .named(SILENT)
    }

    /// The number of the newest event.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn newest(&self) -> Result<u64, Failure> {
        let answer = self.get(NEWEST)?;
        Ok(answer["currentSeq"].as_u64().unwrap_or(0))
    }

    /// The event stream from after `since`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn events(&self, since: u64) -> Result<EventStream, Failure> {
        self.socket(&format!("/ws?sinceSeq={since}"))
    }

    /// Opens a WebSocket.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn socket(&self, path: &str) -> Result<EventStream, Failure> {
        let broken = |e: &dyn std::fmt::Display| self.silent(&e.to_string());
        let address = self
            .url
            .split_once("://")
            .map_or(self.url.as_str(), |(_, rest)| rest);
        let mut request = format!("ws://{address}{path}")
            .into_client_request()
            .map_err(|e| broken(&e))?;
        let key = HeaderValue::from_str(&self.key).map_err(|e| broken(&e))?;
        request.headers_mut().insert("x-api-key", key);
        let tcp = TcpStream::connect(address).map_err(|e| broken(&e))?;
        let watch = tcp.try_clone().map_err(|e| broken(&e))?;
        let _ = tcp.set_nodelay(true);
        tcp.set_read_timeout(Some(CONNECT_LIMIT))
            .map_err(|e| broken(&e))?;
        let (socket, _) = tungstenite::client(request, tcp).map_err(|e| match e {
            tungstenite::HandshakeError::Failure(tungstenite::Error::Http(response)) => {
                let body = response.body().as_deref().unwrap_or_default();
                refusal(response.status().as_u16(), &String::from_utf8_lossy(body))
            }
            other => broken(&other),
        })?;
        socket
            .get_ref()
            .set_nonblocking(true)
            .map_err(|e| broken(&e))?;
        let never = Wake::new().map_err(|e| Failure::new(format!("no descriptors left: {e}")))?;
        Ok(EventStream {
            link: WebSocketLink::new(socket),
            watch,
            never,
        })
    }
}

/// An answer as a type of ours.
///
/// # Errors
/// When it is not what this version expects.
pub fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(|e| {
        Failure::new(format!(
            "the broker's answer is of another version ({e}); use the `relay-broker` that started it"
        ))
    })
}

/// The sentence in an error body: flat `message`, else nested, else the status; and the word beside it.
fn refusal(status: u16, body: &str) -> Failure {
    let body: Value = serde_json::from_str(body).unwrap_or(Value::String(body.trim().to_owned()));
    let texts = [
        &body["message"],
        &body["error"]["message"],
        &body["error"],
        &body,
    ];
    let text = texts
        .iter()
        .find_map(|value| value.as_str())
        .filter(|text| !text.is_empty());
    let text = match text {
        // The broker speaks to all clients; for this one there is a command.
        Some(text) => super::render::clean(text)
            .replace("GET /api/spawned lists", "`relay-broker agents` lists"),
        None if status == 404 => {
            "the broker does not know this call; use the `relay-broker` that started it".to_owned()
        }
        None => format!("the broker answered with status {status} and no reason"),
    };
    let words = [&body["code"], &body["error"]["code"]];
    match words.iter().find_map(|word| word.as_str()) {
        Some(word) => Failure::new(text).named(word),
        None => Failure::new(text),
    }
}

/// An open WebSocket to the broker.
pub struct EventStream {
    /// For sending, and for [`WebSocketLink::next`].
    pub link: WebSocketLink<TcpStream>,
    /// The same socket, to be waited for together with other descriptors.
    pub watch: TcpStream,
    never: Wake,
}

/// What a stream had to say.
#[derive(Debug)]
pub enum Heard {
    /// One JSON object.
    Event(Value),
    /// Nothing until the deadline.
    Late,
    /// It is over, and why.
    Over(String),
}

impl EventStream {
    /// The next JSON object; waits until `deadline`, or for ever.
    pub fn next(&mut self, deadline: Option<Mono>) -> Heard {
        loop {
            match self.link.next() {
                Ok(Some(Message::Text(text))) => {
                    if let Ok(value) = serde_json::from_str(text.as_str()) {
                        return Heard::Event(value);
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) => {
                    let now = clock::now().mono;
                    let left = deadline.map(|at| at.since(now));
                    if left == Some(Duration::ZERO) {
                        return Heard::Late;
                    }
                    if let Err(e) = self.link.wait(&self.never, left) {
                        return Heard::Over(e.to_string());
                    }
                }
                Err(LinkError::Closed(Some((_, reason)))) if !reason.is_empty() => {
                    return Heard::Over(reason);
                }
                Err(e) => return Heard::Over(e.to_string()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::http::{decode, encode};

    #[test]
    fn the_brokers_own_sentence_is_shown_whatever_its_shape() {
        let flat = r#"{"code":"x","message":"no such agent","error":"other"}"#;
        assert_eq!(refusal(404, flat), Failure::new("no such agent").named("x"));
        let nested = r#"{"error":{"code":"unauthorized","message":"bad key"}}"#;
        assert_eq!(
            refusal(401, nested),
            Failure::new("bad key").named("unauthorized")
        );
        assert_eq!(
            refusal(500, r#"{"success":false,"error":"taken"}"#).text,
            "taken"
        );
        let starting = "Broker is starting, please retry";
        assert_eq!(refusal(503, starting).text, starting);
        assert!(refusal(500, "").text.contains("500"));
    }

    #[test]
    fn names_survive_the_way_through_a_path() {
        assert_eq!(encode("a b/ü#"), "a%20b%2F%C3%BC%23");
        assert_eq!(decode(&encode("50% + ü")), "50% + ü");
    }
}
