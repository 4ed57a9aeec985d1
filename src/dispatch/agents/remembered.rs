//! From the wish that started an agent to what the journal keeps of it, and back. Each field is named on both sides, so that
//! one that is added to a wish is either written down too or left out on purpose.

use crate::ledger::{StoredHarness, StoredRestartPolicy, StoredRestartWhen, StoredSpawn};
use crate::wire::local::{HarnessConfig, RestartPolicy, RestartWhen, SpawnRequest};

impl From<SpawnRequest> for StoredSpawn {
    fn from(wish: SpawnRequest) -> Self {
        let SpawnRequest {
            name,
            cli,
            args,
            cwd,
            parent,
            task,
            channels,
            model,
            session_id,
            resume,
            // What came of it is in the session.
            continue_from: _,
            last_session,
            exit_after_task,
            skip_relay_prompt,
            team,
            transport,
            idle_threshold_secs,
            harness_config,
            // A secret.
            agent_token: _,
            restart_policy,
            mcp,
            record,
            agent_result_schema,
            profile,
            env,
            env_allow,
            rows,
            cols,
        } = wish;
        Self {
            name,
            cli,
            args,
            cwd,
            parent,
            task,
            channels,
            model,
            session_id,
            resume,
            last_session,
            exit_after_task,
            skip_relay_prompt,
            team,
            transport,
            idle_threshold_secs,
            harness_config: harness_config.map(StoredHarness::from),
            agent_token: (),
            restart_policy: restart_policy.map(StoredRestartPolicy::from),
            mcp,
            record,
            agent_result_schema,
            profile,
            env,
            env_allow,
            rows,
            cols,
        }
    }
}

impl From<StoredSpawn> for SpawnRequest {
    fn from(stored: StoredSpawn) -> Self {
        let StoredSpawn {
            name,
            cli,
            args,
            cwd,
            parent,
            task,
            channels,
            model,
            session_id,
            resume,
            last_session,
            exit_after_task,
            skip_relay_prompt,
            team,
            transport,
            idle_threshold_secs,
            harness_config,
            agent_token: (),
            restart_policy,
            mcp,
            record,
            agent_result_schema,
            profile,
            env,
            env_allow,
            rows,
            cols,
        } = stored;
        Self {
            name,
            cli,
            args,
            cwd,
            parent,
            task,
            channels,
            model,
            session_id,
            resume,
            continue_from: None,
            last_session,
            exit_after_task,
            skip_relay_prompt,
            team,
            transport,
            idle_threshold_secs,
            harness_config: harness_config.map(HarnessConfig::from),
            agent_token: None,
            restart_policy: restart_policy.map(RestartPolicy::from),
            mcp,
            record,
            agent_result_schema,
            profile,
            env,
            env_allow,
            rows,
            cols,
        }
    }
}

impl From<HarnessConfig> for StoredHarness {
    fn from(given: HarnessConfig) -> Self {
        let HarnessConfig {
            runtime,
            command,
            args,
            cwd,
            env,
            session_id,
        } = given;
        Self {
            runtime,
            command,
            args,
            cwd,
            env,
            session_id,
        }
    }
}

impl From<StoredHarness> for HarnessConfig {
    fn from(stored: StoredHarness) -> Self {
        let StoredHarness {
            runtime,
            command,
            args,
            cwd,
            env,
            session_id,
        } = stored;
        Self {
            runtime,
            command,
            args,
            cwd,
            env,
            session_id,
        }
    }
}

impl From<RestartPolicy> for StoredRestartPolicy {
    fn from(given: RestartPolicy) -> Self {
        let RestartPolicy {
            enabled,
            when,
            max_restarts,
            cooldown_ms,
            max_cooldown_ms,
            max_consecutive_failures,
        } = given;
        Self {
            enabled,
            when: match when {
                RestartWhen::OnFailure => StoredRestartWhen::OnFailure,
                RestartWhen::Always => StoredRestartWhen::Always,
            },
            max_restarts,
            cooldown_ms,
            max_cooldown_ms,
            max_consecutive_failures,
        }
    }
}

impl From<StoredRestartPolicy> for RestartPolicy {
    fn from(stored: StoredRestartPolicy) -> Self {
        let StoredRestartPolicy {
            enabled,
            when,
            max_restarts,
            cooldown_ms,
            max_cooldown_ms,
            max_consecutive_failures,
        } = stored;
        Self {
            enabled,
            when: match when {
                StoredRestartWhen::OnFailure => RestartWhen::OnFailure,
                StoredRestartWhen::Always => RestartWhen::Always,
            },
            max_restarts,
            cooldown_ms,
            max_cooldown_ms,
            max_consecutive_failures,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_agent_comes_back_with_all_it_was_started_with_but_its_token() {
        let wish = json!({
            "name": "ada", "cli": "claude", "args": ["-v"], "cwd": "/srv", "task": "count", "channels": ["ops"],
            "model": "opus", "team": "dock", "transport": "pty", "idle_threshold_secs": 3,
            "harness_config": {
                "runtime": "pty", "command": "c", "args": ["-c"], "cwd": "/", "env": {"A": "1"}, "session_id": "s",
            },
            "agent_token": "at_secret",
            "restart_policy": {
                "enabled": true, "when": "always", "max_restarts": 7, "cooldown_ms": 1, "max_cooldown_ms": 9, "max_consecutive_failures": 2,
            },
            "session_id": "s1", "resume": "s0", "exit_after_task": true, "skip_relay_prompt": true,
            "agentResultSchema": {"type": "object"}, "mcp": false, "record": "plain",
            "profile": "claude", "env": {"B": "2"}, "env_allow": ["C"], "rows": 4, "cols": 5,
        });
        let mut wish: SpawnRequest = serde_json::from_value(wish).expect("a wish");
        wish.last_session = Some("s2".into());
        let written = serde_json::to_string(&StoredSpawn::from(wish.clone())).expect("plain data");
        assert!(!written.contains("at_secret"), "{written}");
        let read: StoredSpawn = serde_json::from_str(&written).expect("as written");
        let without_token = SpawnRequest {
            agent_token: None,
            ..wish
        };
        assert_eq!(SpawnRequest::from(read), without_token);
    }
}
