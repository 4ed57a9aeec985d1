//! What every command is given: the environment, colours, and the way to the running broker.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::client::Client;
use super::failure::Failure;
use super::find;
use super::render::{Paint, print, print_json};
use crate::config::Env;
use crate::wire::local::ConnectionFile;

/// Whether two paths lead to one folder, whatever they are spelled like.
fn is_same_folder(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// What every command gets.
pub struct Context {
    /// The environment.
    pub env: Env,
    /// Colours for standard output.
    pub paint: Paint,
    /// `--state-dir`.
    pub state_dir: Option<PathBuf>,
    /// `--json`.
    pub json: bool,
}

impl Context {
    /// The running broker's connection file.
    ///
    /// # Errors
    /// When there is no broker.
    pub fn connection(&self) -> Result<ConnectionFile, Failure> {
        find::running(self.state_dir.as_deref(), &self.env)
    }

    /// A client of the running broker: in an agent's terminal in that agent's name.
    ///
    /// # Errors
    /// When there is none.
    pub fn client(&self) -> Result<Client, Failure> {
        let client = Client::new(&self.connection()?);
        Ok(match self.agents_token() {
            Some(token) => client.of_agent(token),
            None => client,
        })
    }

    /// The token of the agent in whose terminal this runs. A broker that is named by `--state-dir` is another agent's or
    /// nobody's when its folder is not the one that the agent was given and the token is not known there.
    fn agents_token(&self) -> Option<String> {
        let token = self.env.own_token()?;
        let Some(named) = &self.state_dir else {
            return Some(token);
        };
        let own = self.env.state_dir();
        let given = own.is_some_and(|own| is_same_folder(named, &own));
        (given || self.is_known(&token)).then_some(token)
    }

    /// Whether the broker that is meant knows an agent's token.
    fn is_known(&self, token: &str) -> bool {
        let Ok(file) = self.connection() else {
            return false;
        };
        let client = Client::new(&file).of_agent(token.to_owned());
        client.look("/api/spawned").is_ok()
    }

    /// How commands begin that lead to the same broker, for people who copy them.
    pub fn program(&self) -> String {
        match &self.state_dir {
            Some(dir) => format!(
                "relay-broker --state-dir {}",
                shell_words::quote(&dir.to_string_lossy())
            ),
            None => "relay-broker".to_owned(),
        }
    }

    /// Refuses what shows or copies the operator's own in the terminal of an agent.
    ///
    /// # Errors
    /// There.
    pub fn operators(&self, what: &str) -> Result<(), Failure> {
        if self.agents_token().is_none() {
            return Ok(());
        }
        let text = format!(
            "{what} is the operator's, and RELAY_AGENT_TOKEN says that this is the terminal of an agent"
        );
        Err(Failure::new(text).named("not_permitted"))
    }

    /// Prints what a command has to say: `facts` as one line of JSON if that is wanted, else `text`.
    ///
    /// # Errors
    /// When standard output takes nothing.
    pub fn tell(&self, facts: &Value, text: &str) -> Result<(), Failure> {
        match self.json {
            true => print_json(facts),
            false => print(text),
        }
    }
}
