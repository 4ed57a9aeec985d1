//! Reading Markdown, as far as the other files need it: code and prose apart, headings and their anchors.

use std::collections::BTreeSet;
use std::path::PathBuf;

/// A Markdown file of the project.
pub struct Paper {
    /// Its path from the root.
    pub path: PathBuf,
    text: String,
}

/// A piece of code and the line it begins in.
pub struct Code {
    /// From 1.
    pub line: usize,
    /// Without the marks around it.
    pub text: String,
    /// The word behind the opening fence; `None` for code inside a sentence.
    pub language: Option<String>,
}

impl Paper {
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            text: text.into(),
        }
    }

    /// The lines outside of fenced code, with their numbers.
    fn prose(&self) -> Vec<(usize, &str)> {
        let mut inside = false;
        let numbered = self.text.lines().enumerate();
        let outside = numbered.filter(|(_, line)| {
            let fence = line.trim_start().starts_with("```");
            inside ^= fence;
            !inside && !fence
        });
        outside.map(|(at, line)| (at + 1, line)).collect()
    }

    /// Code in sentences, which may go over a line's end within its paragraph.
    fn spans(&self) -> Vec<Code> {
        let mut found = Vec::new();
        let prose = self.prose();
        for paragraph in prose.split(|(_, line)| line.trim().is_empty()) {
            let mut open: Option<Code> = None;
            for (number, line) in paragraph {
                for (at, part) in line.split('`').enumerate() {
                    if at > 0 {
                        match open.take() {
                            Some(code) => found.push(code),
                            None => {
                                open = Some(Code {
                                    line: *number,
                                    text: String::new(),
                                    language: None,
                                });
                            }
                        }
                    }
                    if let Some(code) = &mut open {
                        code.text.push_str(part);
                    }
                }
                if let Some(code) = &mut open {
                    code.text.push(' ');
                }
            }
        }
        found
    }

    /// Fenced code, line by line.
    fn blocks(&self) -> Vec<Code> {
        let (mut found, mut language) = (Vec::new(), None);
        for (at, line) in self.text.lines().enumerate() {
            match (line.trim_start().strip_prefix("```"), &language) {
                (Some(word), None) => language = Some(word.trim().to_owned()),
                (Some(_), Some(_)) => language = None,
                (None, Some(_)) => found.push(Code {
                    line: at + 1,
                    text: line.to_owned(),
                    language: language.clone(),
                }),
                (None, None) => {}
            }
        }
        found
    }

    /// All code, in sentences and in blocks.
    pub fn code(&self) -> Vec<Code> {
        let mut all = self.spans();
        all.extend(self.blocks());
        all
    }

    /// Where links and pictures lead to, with their lines.
    pub fn targets(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (number, line) in self.prose() {
            let plain: String = line.split('`').step_by(2).collect::<Vec<_>>().join("``");
            for (at, _) in plain.match_indices("](") {
                let rest = &plain[at + 2..];
                let target = rest.split([')', ' ']).next().unwrap_or_default();
                found.push((number, target.to_owned()));
            }
        }
        found
    }

    /// What a link behind `#` may name: headings as they are shown, and anchors that are written out.
    pub fn anchors(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (_, line) in self.prose() {
            for part in line.split("<a id=\"").skip(1) {
                found.extend(part.split('"').next().map(str::to_owned));
            }
            if let Some(heading) = heading(line) {
                let slug = slug(heading);
                let taken = (1..).map(|n| format!("{slug}-{n}"));
                let mut names = std::iter::once(slug.clone()).chain(taken);
                let free = names.find(|name| !found.contains(name));
                found.extend(free);
            }
        }
        found
    }
}

fn heading(line: &str) -> Option<&str> {
    let rest = line.trim_start_matches('#');
    (rest.len() < line.len())
        .then(|| rest.strip_prefix(' '))
        .flatten()
}

/// A heading's anchor: small letters, blanks as `-`, without marks and tags.
fn slug(heading: &str) -> String {
    let mut tag = false;
    let shown = heading.chars().filter(|c| {
        let hidden = tag || *c == '<';
        tag = (tag || *c == '<') && *c != '>';
        !hidden
    });
    let kept = shown.filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    let small = kept.flat_map(char::to_lowercase);
    small.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// What a reader would see is what is found.
#[test]
fn headings_links_and_code_are_told_apart() {
    let paper = Paper::new(
        "x.md",
        "# The `up` command, twice\n## <a id=\"1.2\"></a>1.2 Tokens\nSee [it](a.md#b) and `[not](c)`, `two\nlines`.\n\
         ```console\n$ relay-broker up # [no](link)\n```\n## Tokens\n## Tokens\n",
    );
    let anchors: Vec<_> = paper.anchors().into_iter().collect();
    assert_eq!(
        anchors,
        [
            "1.2",
            "12-tokens",
            "the-up-command-twice",
            "tokens",
            "tokens-1"
        ]
    );
    assert_eq!(paper.targets(), [(3, "a.md#b".to_owned())]);
    let code: Vec<_> = paper.code().into_iter().map(|c| c.text).collect();
    assert_eq!(
        code,
        [
            "up",
            "[not](c)",
            "two lines",
            "$ relay-broker up # [no](link)"
        ]
    );
}
