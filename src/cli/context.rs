//! What every command is given: the environment, colours, and the way to the running broker.

use std::path::PathBuf;

use serde_json::Value;

use super::client::Client;
use super::failure::Failure;
use super::find;
use super::render::{Paint, print, print_json};
use crate::config::Env;
use crate::wire::local::ConnectionFile;

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
        // A broker that is named is not the one that gave the token.
        Ok(
            match self.env.own_token().filter(|_| self.state_dir.is_none()) {
                Some(token) => client.of_agent(token),
                None => client,
            },
        )
    }

    /// Refuses what shows or copies the operator's own in the terminal of an agent.
    ///
    /// # Errors
    /// There.
    pub fn operators(&self, what: &str) -> Result<(), Failure> {
        if self.env.own_token().is_none() || self.state_dir.is_some() {
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
