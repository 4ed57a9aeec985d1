//! What a program itself says of the messages it took is believed before its screen.

use serde_json::Value;

use crate::support::{Node, Scratch, script, until};

/// A composer that takes pastes, and has said what it took before its screen shows that it did. `MARK` is how its input line
/// begins, `SAYS` a shell command that reads what it took.
const COMPOSER: &str = r#"
stty raw -echo
printf '\033[?2004h\r\n%s ' "$MARK"
while :; do
  text=
  while c=$(dd bs=1 count=1 2>/dev/null) && [ "$c" != "$(printf '\r')" ]; do
    text="$text$c"
    if [ "$c" = '~' ]; then
      shown=$(printf %s "$text" | sed 's/\x1b\[20[01]~//g')
      printf '\r\033[K%s %s' "$MARK" "$shown"
    fi
  done
  printf %s "$shown" | SAYS
  printf '\r\033[K> %s\r\n\r\n%s ' "$shown" "$MARK"
done
"#;

fn composer(mark: &str, says: &str) -> String {
    format!("MARK='{mark}'\n{}", COMPOSER.replace("SAYS", says))
}

/// The event of that kind about a message.
fn told(node: &Node, kind: &str, id: &str) -> Value {
    until(kind, || {
        let events = node.events(kind);
        events.into_iter().find(|event| event["event_id"] == id)
    })
}

#[test]
fn claude_codes_hook_tells_what_it_was_asked_and_that_its_turn_began() {
    let folder = Scratch::new();
    let run = r#"{ printf '{"prompt":"'; tr '\n' ' '; printf '"}'; } | sh -c "$(sed 's/.*"command":"\([^"]*\)".*/\1/' "$SETTINGS")""#;
    let text = composer("❯", run);
    let claude = script(
        folder.path(),
        "claude",
        &format!(
            "while [ $# -gt 0 ]; do [ \"$1\" = --settings ] && SETTINGS=$2; shift; done\n{text}"
        ),
    );
    let node = Node::up(folder.path(), &[]);
    node.spawn("ada", &[&claude]);
    let boss = node.engine.register("boss");
    let id = node.engine.dm(&boss, "ada", "hello there");
    let verified = told(&node, "delivery_verified", &id);
    assert_eq!(verified["proof"], "hook", "{verified}");
    assert_eq!(verified["verification"], "echo");
    assert_eq!(told(&node, "turn_started", &id)["proof"], "hook");
}

#[test]
fn a_message_in_a_programs_own_history_is_verified_by_it() {
    let folder = Scratch::new();
    let home = folder.path().join("codex-home");
    std::fs::create_dir(&home).expect("a folder");
    let keep = r#"{ printf '{"text":"'; cat; printf '"}\n'; } >> "$CODEX_HOME/history.jsonl""#;
    let codex = script(folder.path(), "codex", &composer("›", keep));
    let node = Node::up(folder.path(), &[]);
    let variable = format!("CODEX_HOME={}", home.display());
    node.spawn("ada", &["env", &variable, &codex]);
    let boss = node.engine.register("boss");
    for words in ["hello there", "hello again"] {
        let id = node.engine.dm(&boss, "ada", words);
        let verified = told(&node, "delivery_verified", &id);
        assert_eq!(verified["proof"], "transcript", "{verified}");
    }
}

#[test]
fn a_program_without_a_word_of_its_own_is_verified_by_its_screen() {
    let folder = Scratch::new();
    let codex = script(folder.path(), "codex", &composer("›", "cat >/dev/null"));
    let node = Node::up(folder.path(), &[]);
    node.spawn("ada", &[&codex]);
    let boss = node.engine.register("boss");
    let id = node.engine.dm(&boss, "ada", "hello there");
    assert_eq!(told(&node, "delivery_verified", &id)["proof"], "screen");
    assert_eq!(node.events("turn_started"), Vec::<Value>::new());
}
