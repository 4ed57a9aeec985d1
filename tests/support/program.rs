//! The real program as child processes: a broker with its folder, an engine alone, and the engine as its users see it.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long anything may take before a test says that it never came. Generous, because machines are shared.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Looks until there is something to see, or says what never came.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < end, "never came: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A child that does not outlive its test.
pub struct Process {
    child: Child,
    /// The line that said it was ready.
    pub first_line: String,
}

impl Process {
    /// Starts the program in `dir` with a clean environment and waits for its first line on stdout.
    pub fn start(dir: &Path, args: &[&str]) -> Self {
        Self::try_start(dir, args).unwrap_or_else(|(code, text)| {
            panic!("relay-broker {args:?} ended with {code:?}: {text}")
        })
    }

    /// As [`Process::start`]; exit code and stderr if it ends instead.
    pub fn try_start(dir: &Path, args: &[&str]) -> Result<Self, (Option<i32>, String)> {
        Self::launch(dir, command(dir, args))
    }

    /// As [`Process::try_start`], with faults to suffer (`sys::failpoint`).
    pub fn try_start_with(
        dir: &Path,
        args: &[&str],
        faults: &str,
    ) -> Result<Self, (Option<i32>, String)> {
        Self::try_start_in(dir, args, &[("RELAY_BROKER_FAULTS", faults)])
    }

    /// As [`Process::try_start`], with more in its environment.
    pub fn try_start_in(
        dir: &Path,
        args: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Self, (Option<i32>, String)> {
        let mut command = command(dir, args);
        command.envs(variables.iter().copied());
        Self::launch(dir, command)
    }

    /// Starts a [`command`] and waits for its first line on stdout.
    pub fn launch(dir: &Path, mut command: Command) -> Result<Self, (Option<i32>, String)> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(dir.join("stderr.log"))
            .expect("a log file");
        command.stderr(log);
        Self::launch_as_is(dir, command)
    }

    /// As [`Process::launch`], with whatever standard error the command has.
    pub fn launch_as_is(dir: &Path, mut command: Command) -> Result<Self, (Option<i32>, String)> {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        let mut first_line = String::new();
        out.read_line(&mut first_line).expect("readable");
        if first_line.is_empty() {
            let status = child.wait().expect("it ended");
            let text = std::fs::read_to_string(dir.join("stderr.log")).unwrap_or_default();
            return Err((status.code(), text));
        }
        // Nobody reads the rest; a closed pipe must not matter to a daemon.
        std::thread::spawn(move || {
            let _ = out.read_to_end(&mut Vec::new());
        });
        Ok(Self {
            child,
            first_line: first_line.trim().to_owned(),
        })
    }

    /// A child that was started elsewhere, and whose first line nobody has read.
    pub fn of(child: Child) -> Self {
        let first_line = String::new();
        Self { child, first_line }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    pub fn ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// The exit code, once it has ended by itself.
    pub fn code(&mut self) -> Option<i32> {
        self.child.try_wait().ok().flatten()?.code()
    }

    /// The hard way.
    pub fn kill9(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and the exit code.
    pub fn stop(mut self) -> Option<i32> {
        signal(self.pid(), "TERM");
        until("the end after SIGTERM", || {
            self.child.try_wait().ok().flatten()
        })
        .code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes a shell script that can be run under that name; its path.
pub fn script(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a script");
    let made = Command::new("chmod").arg("+x").arg(&path).status();
    assert!(made.is_ok_and(|status| status.success()));
    path.to_str().expect("a path").to_owned()
}

/// Sends a signal by name.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status();
    assert!(sent.is_ok_and(|s| s.success()), "kill -{name} {pid}");
}

/// The program in `dir` with a clean environment, not started.
pub fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay-broker"));
    command
        .args(args)
        .current_dir(dir)
        .env_clear()
        .stdin(Stdio::null());
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", dir).env("LANG", "C.UTF-8");
    command
}

/// Runs the program to its end: exit code, stdout, stderr.
pub fn run(dir: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let out = command(dir, args).output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code(), text(&out.stdout), text(&out.stderr))
}

/// An HTTP call that never fails on a status: the status and the JSON body.
pub fn http(method: &str, url: &str, bearer: &str, body: Option<Value>) -> (u16, Value) {
    try_http(method, url, bearer, body).unwrap_or_else(|e| panic!("{method} {url}: {e}"))
}

/// As [`http`], for a server that may be away.
pub fn try_http(
    method: &str,
    url: &str,
    bearer: &str,
    body: Option<Value>,
) -> Result<(u16, Value), String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        .build()
        .into();
    let request = ureq::http::Request::builder()
        .method(method)
        .uri(url)
        .header("authorization", format!("Bearer {bearer}"))
        .header("content-type", "application/json")
        .body(body.map(|b| b.to_string()).unwrap_or_default())
        .map_err(|e| e.to_string())?;
    let mut response = agent.run(request).map_err(|e| e.to_string())?;
    let text = response
        .body_mut()
        .read_to_string()
        .map_err(|e| e.to_string())?;
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Ok((response.status().as_u16(), body))
}

/// A running broker in its folder.
pub struct Node {
    pub process: Process,
    pub api: String,
    pub key: String,
    pub engine: Engine,
}

impl Node {
    /// `up` in `dir` with further arguments; with an embedded engine unless they name one.
    pub fn up(dir: &Path, args: &[&str]) -> Self {
        Self::up_with(dir, args, "")
    }

    /// As [`Node::up`], with faults to suffer (`sys::failpoint`).
    pub fn up_with(dir: &Path, args: &[&str], faults: &str) -> Self {
        Self::up_in(dir, args, &[("RELAY_BROKER_FAULTS", faults)])
    }

    /// As [`Node::up`], with more in its environment.
    pub fn up_in(dir: &Path, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut all = vec!["up", "--grace", "2s"];
        if !args.contains(&"--engine") {
            // Free ports, so that tests can run side by side; a restart finds the address it had.
            if !dir.join(".relay-broker/engine-address").exists() {
                all.extend(["--engine-listen", "127.0.0.1:0"]);
            }
        }
        all.extend(args);
        let process = Process::try_start_in(dir, &all, variables).unwrap_or_else(|(code, text)| {
            panic!("relay-broker {all:?} ended with {code:?}: {text}")
        });
        Self::of(dir, process)
    }

    /// The broker that runs in `dir` as that process.
    pub fn of(dir: &Path, process: Process) -> Self {
        let file = std::fs::read_to_string(dir.join(".relay-broker/connection.json"))
            .expect("connection.json");
        let file: Value = serde_json::from_str(&file).expect("JSON");
        let text = |key: &str| file[key].as_str().expect("a text").to_owned();
        let engine = Engine {
            url: text("engine_url"),
            key: text("workspace_key"),
        };
        Self {
            process,
            api: text("url"),
            key: text("api_key"),
            engine,
        }
    }

    /// A call of the local API.
    pub fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        http(method, &format!("{}{path}", self.api), &self.key, body)
    }

    /// A GET that must succeed.
    pub fn get(&self, path: &str) -> Value {
        let (status, body) = self.call("GET", path, None);
        assert_eq!(status, 200, "GET {path}: {body}");
        body
    }

    /// Starts an agent and waits until it takes input.
    pub fn spawn(&self, name: &str, argv: &[&str]) {
        let body =
            json!({"name": name, "harness_config": {"command": argv[0], "args": &argv[1..]}});
        let (status, body) = self.call("POST", "/api/spawn", Some(body));
        assert_eq!(status, 200, "spawning {name}: {body}");
        self.ready(name);
    }

    /// Waits until the agent takes input.
    pub fn ready(&self, name: &str) {
        until(&format!("{name} ready"), || {
            (self.agent(name)?["phase"] == "ready").then_some(())
        });
    }

    /// The agent's row, if it is there.
    pub fn agent(&self, name: &str) -> Option<Value> {
        let list = self.get("/api/spawned");
        list["agents"]
            .as_array()?
            .iter()
            .find(|a| a["name"] == name)
            .cloned()
    }

    /// Events kept so far of one kind.
    pub fn events(&self, kind: &str) -> Vec<Value> {
        let all = self.get("/api/events/replay?sinceSeq=0");
        all["events"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|e| e["kind"] == kind)
            .cloned()
            .collect()
    }
}

/// An engine as its users see it.
#[derive(Clone)]
pub struct Engine {
    pub url: String,
    pub key: String,
}

impl Engine {
    /// Registers an agent; its token.
    pub fn register(&self, name: &str) -> String {
        let (status, body) = http(
            "POST",
            &format!("{}/v1/agents", self.url),
            &self.key,
            Some(json!({"name": name})),
        );
        assert_eq!(status, 201, "{body}");
        body["data"]["token"].as_str().expect("a token").to_owned()
    }

    /// Sends a direct message; its id.
    pub fn dm(&self, token: &str, to: &str, text: &str) -> String {
        let body = json!({"to": to, "text": text});
        let (status, body) = http("POST", &format!("{}/v1/dm", self.url), token, Some(body));
        assert_eq!(status, 201, "{body}");
        body["data"]["id"].as_str().expect("an id").to_owned()
    }
}
