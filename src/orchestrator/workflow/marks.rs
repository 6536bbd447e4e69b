//! Markers in a workflow's texts: `{{param.NAME}}`, `{{tasks.ID.summary}}`, `.findings` and `.artifacts`; `\{{` is two braces.
//!
//! Its one surprise: what a marker stands for is not looked at again, so no value can bring a marker of its own.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Values, fold};
use crate::{
    model::{Fault, slip::nearest, text},
    orchestrator::plan::fault,
};

const OPEN: &str = "{{";
const CLOSE: &str = "}}";
/// Known markers that an error lists.
const SHOWN: usize = 6;

/// A part of another task's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Summary,
    Findings,
    Artifacts,
}

impl Part {
    const ALL: [Self; 3] = [Self::Summary, Self::Findings, Self::Artifacts];

    fn word(self) -> &'static str {
        match self {
            Self::Summary => "summary",
            Self::Findings => "findings",
            Self::Artifacts => "artifacts",
        }
    }

    /// As an input says it.
    fn as_input(self) -> &'static str {
        match self {
            Self::Summary => "its summary",
            Self::Findings => "its findings",
            Self::Artifacts => "the files it made",
        }
    }

    /// As a sentence of another task says it.
    fn reference(self, id: &str) -> String {
        match self {
            Self::Summary => format!("the summary of `{id}`"),
            Self::Findings => format!("the findings of `{id}`"),
            Self::Artifacts => format!("the files that `{id}` made"),
        }
    }
}

/// Fills markers and remembers what they took.
pub(super) struct Filler<'a> {
    /// Where a parameter is looked for, the nearest first.
    values: Vec<&'a Values>,
    /// Tasks whose results may be taken.
    ids: &'a [String],
    own: &'a str,
    used: BTreeSet<String>,
    taken: BTreeMap<String, BTreeSet<Part>>,
    faults: Vec<Fault>,
}

impl<'a> Filler<'a> {
    /// For the texts of one task, or of the whole where `own` is empty; then no results may be taken.
    pub(super) fn new(values: Vec<&'a Values>, ids: &'a [String], own: &'a str) -> Self {
        Self { values, ids, own, used: BTreeSet::new(), taken: BTreeMap::new(), faults: Vec::new() }
    }

    /// The names of the parameters that were used, and what is wrong.
    pub(super) fn end(self) -> (BTreeSet<String>, Vec<Fault>) {
        (self.used, self.faults)
    }

    /// What was taken from other tasks, in words.
    pub(super) fn inputs(&self) -> impl Iterator<Item = (&str, String)> {
        self.taken.iter().map(|(id, parts)| {
            let parts: Vec<&str> = parts.iter().map(|part| part.as_input()).collect();
            (&**id, parts.join(" and "))
        })
    }

    pub(super) fn is_used(&self, name: &str) -> bool {
        self.used.contains(name)
    }

    /// Every text inside a value.
    pub(super) fn value(&mut self, path: &str, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(path, text),
            Value::Array(each) => {
                for (i, one) in each.iter_mut().enumerate() {
                    self.value(&format!("{path}[{i}]"), one);
                }
            }
            Value::Object(fields) => {
                for (name, one) in fields.iter_mut() {
                    self.value(&format!("{path}.{name}"), one);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// One text.
    pub(super) fn text(&mut self, path: &str, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((head, tail)) = rest.split_once(OPEN) {
            if let Some(head) = head.strip_suffix('\\') {
                out.extend([head, OPEN]);
                rest = tail;
                continue;
            }
            out.push_str(head);
            let Some((inside, after)) = tail.split_once(CLOSE) else {
                let message = "has a marker that is not closed; two braces as such are written `\\{{`".to_owned();
                self.faults.push(fault("W01", path, message));
                out.push_str(OPEN);
                rest = tail;
                continue;
            };
            match self.mark(inside.trim()) {
                Ok(said) => out.push_str(&said),
                Err(why) => self.faults.push(fault("W01", path, why)),
            }
            rest = after;
        }
        out.push_str(rest);
        out
    }

    /// What stands in a marker's place, or why nothing can.
    fn mark(&mut self, inside: &str) -> Result<String, String> {
        if let Some(name) = inside.strip_prefix("param.")
            && let Some(value) = self.values.iter().find_map(|values| values.get(name))
        {
            self.used.insert(name.to_owned());
            return Ok(value.clone());
        }
        if let Some((id, part)) = inside.strip_prefix("tasks.").and_then(|rest| rest.rsplit_once('.'))
            && let Some(part) = Part::ALL.into_iter().find(|known| known.word() == part)
            && !self.own.is_empty()
        {
            let id = fold(id);
            if id == self.own {
                return Err(format!("takes the {} of its own task", part.word()));
            }
            if self.ids.contains(&id) {
                self.taken.entry(id.clone()).or_default().insert(part);
                return Ok(part.reference(&id));
            }
        }
        Err(self.unknown(inside))
    }

    fn unknown(&self, inside: &str) -> String {
        let names: BTreeSet<&String> = self.values.iter().flat_map(|values| values.keys()).collect();
        let mut known: Vec<String> = names.into_iter().map(|name| format!("param.{name}")).collect();
        if !self.own.is_empty() {
            let others = self.ids.iter().filter(|id| *id != self.own);
            known.extend(others.flat_map(|id| Part::ALL.map(|part| format!("tasks.{id}.{}", part.word()))));
        }
        let shown = text::clip(&inside.escape_debug().to_string(), 60).into_owned();
        let hint = match (nearest(inside, &known), &*known) {
            (Some(near), _) => format!("; did you mean {OPEN}{near}{CLOSE}?"),
            (None, []) => "; no parameter has a value here".to_owned(),
            (None, known) => {
                let more = if known.len() > SHOWN { ", …" } else { "" };
                let first: Vec<&str> = known.iter().take(SHOWN).map(String::as_str).collect();
                format!("; there are {}{more}", first.join(", "))
            }
        };
        format!("nothing is known of {OPEN}{shown}{CLOSE}{hint}")
    }
}

/// A text that reads as itself, whatever braces it has.
pub(super) fn escaped(text: &str) -> String {
    text.replace(OPEN, "\\{{")
}
