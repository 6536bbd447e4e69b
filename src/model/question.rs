//! What an engine wants to know of a person, with the answers it offers; and what is answered.
//!
//! Its one surprise: an answer names its choices by their place. The engine's own words for them are long gone through the
//! cleaning here, and only who holds those can give them back.

use serde::{Deserialize, Serialize};

use super::text;

/// Questions of one request, and choices of one question, that are kept.
const MOST: (usize, usize) = (8, 16);

/// One question.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// What it wants to know.
    pub text: String,
    /// Its subject in a word or two.
    #[serde(default)]
    pub header: String,
    /// More than one choice may be taken.
    #[serde(default)]
    pub many: bool,
    /// What can be chosen.
    pub choices: Vec<Choice>,
}

/// One answer that is offered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// Its name.
    pub label: String,
    /// What it means.
    #[serde(default)]
    pub about: String,
}

/// What is answered to one question.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The places of what was chosen.
    #[serde(default)]
    pub chosen: Vec<usize>,
    /// A person's own words, alone or beside what was chosen.
    #[serde(default)]
    pub words: String,
}

impl Question {
    /// Reads and cleans the questions of a request: `questions[].{question, header, multiSelect, options[].{label, description}}`.
    pub fn read(input: &serde_json::Value) -> Vec<Self> {
        let said = |value: &serde_json::Value, key: &str, most: usize| {
            value.get(key).and_then(|said| said.as_str()).map(|said| text::first_line(said, most)).unwrap_or_default()
        };
        let listed = |value: &serde_json::Value, key: &str| {
            value.get(key).and_then(|list| list.as_array()).cloned().unwrap_or_default()
        };
        let choice = |value: &serde_json::Value| Choice {
            label: said(value, "label", 200),
            about: value.get("description").and_then(|said| said.as_str()).map(whole).unwrap_or_default(),
        };
        let question = |value: &serde_json::Value| Self {
            text: value.get("question").and_then(|said| said.as_str()).map(whole).unwrap_or_default(),
            header: said(value, "header", 40),
            many: value.get("multiSelect").and_then(serde_json::Value::as_bool).unwrap_or_default(),
            choices: listed(value, "options").iter().take(MOST.1).map(choice).collect(),
        };
        listed(input, "questions").iter().take(MOST.0).map(question).collect()
    }

    /// Why this is no answer to it, where it is none.
    pub fn fault(&self, reply: &Reply) -> Option<String> {
        if reply.chosen.iter().any(|at| *at >= self.choices.len()) {
            return Some(format!("`{}` has {} choices", text::fit(&self.text, 60), self.choices.len()));
        }
        if reply.chosen.len() > 1 && !self.many {
            return Some(format!("`{}` takes one choice", text::fit(&self.text, 60)));
        }
        reply.is_empty().then(|| format!("`{}` is not answered", text::fit(&self.text, 60)))
    }

    /// The answer in words.
    pub fn told(&self, reply: &Reply) -> String {
        let labels = reply.chosen.iter().filter_map(|at| Some(self.choices.get(*at)?.label.as_str()));
        labels.chain(Some(reply.words.as_str())).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(", ")
    }
}

/// A question may have several lines.
fn whole(said: &str) -> String {
    text::clip(text::scrub(said).trim(), 2_000).into_owned()
}

impl Reply {
    /// Own words that are kept, in bytes.
    pub const WORDS_LIMIT: usize = 20_000;

    /// Of a person's own words.
    pub fn words(said: &str) -> Self {
        Self { chosen: Vec::new(), words: text::clip(text::scrub(said).trim(), Self::WORDS_LIMIT).into_owned() }
    }

    /// Whether nothing was answered.
    pub fn is_empty(&self) -> bool {
        self.chosen.is_empty() && self.words.trim().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Vec<Question> {
        Question::read(&serde_json::json!({ "questions": [
            { "question": "Which \u{1b}[2Jone?\nNow?", "header": "Pick", "options": [
                { "label": "A\u{202e}", "description": "the\nfirst" }, { "label": "B" }] },
            { "question": "Which of them?", "multiSelect": true, "options": [{ "label": "X" }, { "label": "Y, and Z" }] },
        ] }))
    }

    #[test]
    fn a_question_is_data_and_its_answer_names_places() {
        let [one, many] = two().try_into().unwrap();
        assert!(!one.text.contains('\u{1b}') && one.text.ends_with("one?\nNow?"), "{one:?}");
        assert_eq!((one.choices[0].label.as_str(), one.many, many.many), ("A", false, true));
        let reply = Reply { chosen: vec![0, 1], words: "and more".into() };
        assert_eq!(many.fault(&reply), None);
        assert_eq!(many.told(&reply), "X, Y, and Z, and more");
        assert!(one.fault(&reply).unwrap().ends_with("takes one choice"));
        assert_eq!(many.fault(&Reply::default()).unwrap(), "`Which of them?` is not answered");
        assert_eq!(
            many.fault(&Reply { chosen: vec![2], words: String::new() }).unwrap(),
            "`Which of them?` has 2 choices"
        );
        assert_eq!(one.fault(&Reply::words(" neither \u{1b}[2J")), None);
    }

    #[test]
    fn what_is_no_question_is_none() {
        for input in
            [serde_json::Value::Null, serde_json::json!({ "questions": 7 }), serde_json::json!({ "questions": [] })]
        {
            assert_eq!(Question::read(&input), []);
        }
        let odd = Question::read(&serde_json::json!({ "questions": [{ "question": 4, "options": {} }] }));
        assert_eq!(odd, [Question::default()]);
    }
}
