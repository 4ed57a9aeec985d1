//! The configuration file as a document: what is unknown, missing, or of another kind than its key takes, each with its line,
//! and where everything stands. What is left over fits the types that it is then read into.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::keys::{FileKey, FileTable, Shape, TABLES};

/// How many letters of a key may be wrong for another to be meant.
const SLIP: usize = 2;

/// What is wrong with the file, and on which line that is.
#[derive(Debug)]
pub(super) struct FileFault {
    pub(super) line: usize,
    /// One sentence without the file's name.
    pub(super) what: String,
}

/// What the file says of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// The key with its table, such as `agent.ada.command`.
    pub key: String,
    /// The value as the file spells it.
    pub value: String,
    /// On which line.
    pub line: usize,
}

/// Where everything in the file stands.
#[derive(Debug, Default)]
pub(super) struct Places {
    lines: BTreeMap<Vec<String>, usize>,
    /// The keys with their values, in the order of the file.
    pub(super) said: Vec<FileEntry>,
}

impl Places {
    /// The line of a key, or of the nearest thing around it that has one.
    fn line(&self, path: &[&str]) -> usize {
        let find = |length: usize| {
            let path: Vec<String> = path[..length].iter().map(|&part| part.to_owned()).collect();
            self.lines.get(&path).copied()
        };
        (0..=path.len()).rev().find_map(find).unwrap_or(1)
    }

    fn note(&mut self, text: &str, path: &mut Vec<String>, table: &DeTable) {
        for (key, value) in table {
            path.push(key.get_ref().to_string());
            let at = match value.get_ref() {
                // A table begins with its header, which is not where its first mention may be.
                DeValue::Table(_) if text[value.span()].starts_with('[') => value.span(),
                _ => key.span(),
            };
            self.lines.insert(path.clone(), line(text, at.start));
            match value.get_ref() {
                DeValue::Table(inner) => self.note(text, path, inner),
                inner => {
                    self.note_items(text, path, inner);
                    self.said.push(FileEntry {
                        key: path.join("."),
                        value: text[value.span()].to_owned(),
                        line: line(text, key.span().start),
                    });
                }
            }
            path.pop();
        }
    }

    fn note_items(&mut self, text: &str, path: &[String], value: &DeValue) {
        let DeValue::Array(list) = value else { return };
        for (index, item) in list.iter().enumerate() {
            let path = [path, &[index.to_string()]].concat();
            self.lines.insert(path, line(text, item.span().start));
        }
    }
}

/// The file, and what is wrong with its keys.
pub(super) struct Document<'t> {
    root: DeTable<'t>,
    pub(super) places: Places,
    pub(super) faults: Vec<FileFault>,
    /// Tables of which something was left out, because it does not fit.
    spoilt: Vec<(&'static str, String)>,
}

impl<'t> Document<'t> {
    /// Reads the text. Where that is no TOML, nothing else of it is looked at.
    pub(super) fn read(text: &'t str) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut document = Self {
            root: DeTable::new(),
            places: Places::default(),
            faults: Vec::new(),
            spoilt: Vec::new(),
        };
        for error in errors {
            document.syntax(text, &error);
        }
        if document.faults.is_empty() {
            document.root = root.into_inner();
            document.places.note(text, &mut Vec::new(), &document.root);
            document.places.said.sort_by_key(|said| said.line);
            document.sift();
        }
        document
    }

    /// What the parser says, once for each line: what follows on the same one is of its making.
    fn syntax(&mut self, text: &str, error: &toml::de::Error) {
        let line = error.span().map_or(1, |span| line(text, span.start));
        if self.faults.iter().all(|fault| fault.line != line) {
            let words = error.message().replace('\n', "; ");
            let what = format!("{words}; this is no TOML, so correct the line");
            self.faults.push(FileFault { line, what });
        }
    }

    /// Takes out what no table or key takes, and says so.
    fn sift(&mut self) {
        let root = std::mem::take(&mut self.root);
        for (name, value) in root {
            let known = TABLES.iter().find(|table| table.name == name.get_ref());
            let line = self.places.line(&[name.get_ref()]);
            let fit = match known {
                Some(table) => self.table(table, value, line),
                None => Err(unknown_table(name.get_ref())),
            };
            match fit {
                Ok(value) => drop(self.root.insert(name, value)),
                Err(what) => self.faults.push(FileFault { line, what }),
            }
        }
        self.faults.sort_by_key(|fault| fault.line);
    }

    fn table(
        &mut self,
        table: &'static FileTable,
        value: Spanned<DeValue<'t>>,
        line: usize,
    ) -> Result<Spanned<DeValue<'t>>, String> {
        let span = value.span();
        let DeValue::Table(mut inner) = value.into_inner() else {
            return Err(format!(
                "{0} is a table; write {1} and its keys below",
                table.name,
                head(table)
            ));
        };
        if !table.named {
            self.keys(table, "", &mut inner);
            return Ok(Spanned::new(span, DeValue::Table(inner)));
        }
        let mut fits = DeTable::new();
        for (name, value) in inner {
            let at = value.span();
            let DeValue::Table(mut keys) = value.into_inner() else {
                let line = self.places.line(&[table.name, name.get_ref()]).max(line);
                let what = format!(
                    "[{}] holds {:?}, but each has a name of its own; write {} above it",
                    table.name,
                    name.get_ref(),
                    head(table)
                );
                self.faults.push(FileFault { line, what });
                continue;
            };
            self.keys(table, name.get_ref(), &mut keys);
            fits.insert(name, Spanned::new(at, DeValue::Table(keys)));
        }
        Ok(Spanned::new(span, DeValue::Table(fits)))
    }

    /// Takes out of one table what is unknown in it or does not fit, and says what is missing.
    fn keys(&mut self, table: &'static FileTable, name: &str, keys: &mut DeTable<'t>) {
        let mut faults = TableFaults::of(table.name, name, &self.places);
        let strange: Vec<_> = keys
            .iter()
            .filter_map(|(key, value)| {
                let name = key.get_ref().to_string();
                let objection = objection(table, &name, value)?;
                Some((name, objection))
            })
            .collect();
        let required = table.keys.iter().filter(|key| key.required);
        let meant = |key: &FileKey| {
            let mut strange = strange.iter();
            strange.any(|(name, _)| nearest(name, &[key.name]).is_some())
        };
        let missing = required.filter(|key| !keys.contains_key(key.name) && !meant(key));
        let missing: Vec<&FileKey> = missing.collect();
        for (key, objection) in &strange {
            faults.within(&objection.path(key), &objection.what);
            keys.remove(key.as_str());
        }
        for key in missing {
            faults.table(format!(
                "has no {0}; write {0} = {1}",
                key.name, key.example
            ));
        }
        let found = faults.found;
        if !strange.is_empty() {
            self.spoilt.push((table.name, name.to_owned()));
        }
        self.faults.extend(found);
    }

    /// The names of the tables of a kind, whatever is wrong with them.
    pub(super) fn names(&self, kind: &str) -> Vec<String> {
        match self.root.get(kind).map(Spanned::get_ref) {
            Some(DeValue::Table(tables)) => {
                tables.keys().map(|key| key.get_ref().to_string()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The table `[kind]`, as what it is read into.
    pub(super) fn take_table<T: Deserialize<'t> + Default>(&mut self, kind: &'static str) -> T {
        let value = self.root.remove(kind);
        let read = value.map(|value| T::deserialize(ValueDeserializer::from(value)));
        match read {
            None => T::default(),
            Some(Ok(read)) => read,
            Some(Err(e)) => {
                self.misread(kind, "", &e);
                T::default()
            }
        }
    }

    /// All `[kind.NAME]` that are complete, as what each is read into.
    pub(super) fn take_named<T: Deserialize<'t>>(
        &mut self,
        kind: &'static str,
    ) -> Vec<(String, T)> {
        let Some(DeValue::Table(tables)) = self.root.remove(kind).map(Spanned::into_inner) else {
            return Vec::new();
        };
        let mut read = Vec::new();
        for (name, value) in tables {
            let name = name.into_inner().into_owned();
            if !complete(kind, value.get_ref()) {
                continue;
            }
            match T::deserialize(ValueDeserializer::from(value)) {
                Ok(table) => read.push((name, table)),
                Err(e) => self.misread(kind, &name, &e),
            }
        }
        read
    }

    /// What the list of keys allows and the type that it is read into does not.
    fn misread(&mut self, kind: &'static str, name: &str, error: &toml::de::Error) {
        let mut faults = TableFaults::of(kind, name, &self.places);
        faults.table(format!(
            "cannot be meant: {}",
            error.message().replace('\n', "; ")
        ));
        let found = faults.found;
        self.faults.extend(found);
    }

    /// Collects what is wrong with one table beyond its shape.
    pub(super) fn faults_of<'p>(
        &self,
        places: &'p Places,
        kind: &'static str,
        name: &str,
    ) -> TableFaults<'p> {
        let spoilt = |(of, named): &(&str, String)| *of == kind && named == name;
        TableFaults {
            spoilt: self.spoilt.iter().any(spoilt),
            ..TableFaults::of(kind, name, places)
        }
    }
}

/// Whether all that must be there is.
fn complete(kind: &str, value: &DeValue) -> bool {
    let (Some(table), DeValue::Table(keys)) = (TABLES.iter().find(|t| t.name == kind), value)
    else {
        return false;
    };
    let required = table.keys.iter().filter(|key| key.required);
    required
        .map(|key| key.name)
        .all(|name| keys.contains_key(name))
}

/// What is wrong with one table of the file.
pub(super) struct TableFaults<'p> {
    kind: &'static str,
    name: String,
    places: &'p Places,
    /// Something was left out of the table already, so that what is missing in it is no news.
    spoilt: bool,
    pub(super) found: Vec<FileFault>,
}

impl<'p> TableFaults<'p> {
    pub(super) fn of(kind: &'static str, name: &str, places: &'p Places) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            places,
            spoilt: false,
            found: Vec::new(),
        }
    }

    /// The table as a whole cannot be meant.
    pub(super) fn table(&mut self, what: impl fmt::Display) {
        if !self.spoilt {
            self.within(&[], what);
        }
    }

    /// The value of that key cannot be meant.
    pub(super) fn key(&mut self, key: &str, what: impl fmt::Display) {
        self.within(&[key], what);
    }

    /// What stands at that place below the table cannot be meant.
    pub(super) fn within(&mut self, path: &[&str], what: impl fmt::Display) {
        let (table, label) = match self.name.as_str() {
            "" => (vec![self.kind], format!("[{}]", self.kind)),
            name => (vec![self.kind, name], format!("[{}.{name}]", self.kind)),
        };
        self.found.push(FileFault {
            line: self.places.line(&[&table[..], path].concat()),
            what: format!("{label} {what}"),
        });
    }

    /// Whether nothing was found so far.
    pub(super) fn none(&self) -> bool {
        self.found.is_empty()
    }
}

/// Why a key cannot stand in a table, and where below it that shows.
struct Objection {
    below: Option<String>,
    what: String,
}

impl Objection {
    fn path<'a>(&'a self, key: &'a str) -> Vec<&'a str> {
        std::iter::once(key).chain(self.below.as_deref()).collect()
    }
}

fn objection(table: &FileTable, name: &str, value: &Spanned<DeValue>) -> Option<Objection> {
    let Some(key) = table.keys.iter().find(|key| key.name == name) else {
        let names: Vec<&str> = table.keys.iter().map(|key| key.name).collect();
        let hint = match nearest(name, &names) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("the keys of {} are {}", head(table), names.join(", ")),
        };
        return Some(Objection {
            below: None,
            what: format!("{name} is not a key; {hint}"),
        });
    };
    match (key.shape, value.get_ref()) {
        (Shape::Words, DeValue::Array(list)) => {
            let is_text = |item: &Spanned<DeValue>| matches!(item.get_ref(), DeValue::String(_));
            let strange = list.iter().position(|item| !is_text(item))?;
            Some(unfit(
                key,
                Some(strange.to_string()),
                list[strange].get_ref(),
            ))
        }
        (Shape::Variables | Shape::Environment, DeValue::Table(variables)) => {
            let is_text = |value: &Spanned<DeValue>| matches!(value.get_ref(), DeValue::String(_));
            let (name, value) = variables.iter().find(|(_, value)| !is_text(value))?;
            Some(unfit(
                key,
                Some(name.get_ref().to_string()),
                value.get_ref(),
            ))
        }
        (shape, value) => (!fits(shape, value)).then(|| unfit(key, None, value)),
    }
}

fn fits(shape: Shape, value: &DeValue) -> bool {
    match (shape, value) {
        (Shape::Text, DeValue::String(_)) | (Shape::Switch, DeValue::Boolean(_)) => true,
        (Shape::Count(least, most), DeValue::Integer(number)) => {
            let number = i64::from_str_radix(number.as_str(), number.radix());
            number.is_ok_and(|number| (least..=most).contains(&number))
        }
        (Shape::Span, DeValue::String(text)) => humantime::parse_duration(text).is_ok(),
        (Shape::OneOf(words), DeValue::String(text)) => words.contains(&text.as_ref()),
        (Shape::Environment, DeValue::String(text)) => text == "clean",
        (Shape::Prompt, DeValue::Table(prompt)) => {
            let is_mark = |value: &Spanned<DeValue>| fits(Shape::Text, value.get_ref());
            let is_gap =
                |value: &Spanned<DeValue>| fits(Shape::Count(0, u16::MAX.into()), value.get_ref());
            prompt.len() == 2
                && prompt.get("mark").is_some_and(is_mark)
                && prompt.get("gap").is_some_and(is_gap)
        }
        _ => false,
    }
}

fn unfit(key: &FileKey, below: Option<String>, value: &DeValue) -> Objection {
    let given = match value {
        DeValue::String(text) => format!("{:?}", text.chars().take(80).collect::<String>()),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    };
    let (name, example) = (key.name, key.example);
    // What a variable of a program is set to may be a secret.
    let secret = matches!(key.shape, Shape::Variables)
        || matches!(key.shape, Shape::Environment) && below.is_some();
    let given = match (&below, secret) {
        (Some(variable), true) => {
            format!("{name} sets {variable} to something that is no text in quotes")
        }
        (Some(_), false) => format!("{name} has {given} in it"),
        (None, true) => format!("{name} is no table"),
        (None, false) => format!("{name} is {given}"),
    };
    let what = format!(
        "{given}; {} is expected, such as {name} = {example}",
        key.shape.words()
    );
    Objection { below, what }
}

fn unknown_table(name: &str) -> String {
    let names: Vec<&str> = TABLES.iter().map(|table| table.name).collect();
    match nearest(name, &names).and_then(|meant| TABLES.iter().find(|t| t.name == meant)) {
        Some(meant) => format!("{name:?} is not known here; did you mean {}?", head(meant)),
        None => {
            let heads: Vec<String> = TABLES.iter().map(head).collect();
            format!("{name:?} is not known here; there are {}", heads.join(", "))
        }
    }
}

/// How such a table begins.
fn head(table: &FileTable) -> String {
    match table.named {
        true => format!("[{}.NAME]", table.name),
        false => format!("[{}]", table.name),
    }
}

/// The one of several words that is meant by a misspelt one.
pub(super) fn nearest<'n>(word: &str, names: &[&'n str]) -> Option<&'n str> {
    let far = |name: &str| strsim::osa_distance(&word.replace('-', "_"), name);
    let nearest = names.iter().copied().min_by_key(|name| far(name))?;
    // A word of three letters with two of them wrong is another word.
    let slip = SLIP.min(word.chars().count().saturating_sub(1) / 2);
    (far(nearest) <= slip).then_some(nearest)
}

/// The number of the line that a byte of the file is on.
fn line(text: &str, at: usize) -> usize {
    text[..at.min(text.len())].matches('\n').count() + 1
}
