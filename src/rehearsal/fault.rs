//! Faults on request: `[[rehearse:429*2]]` in the text of a task.

use std::collections::HashMap;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Fault {
    /// The call is refused with this HTTP status.
    Status(u16),
    /// The stream breaks in the middle.
    Cut,
    /// The model refuses.
    Refuse,
    /// The model says nothing.
    Empty,
    /// Nothing comes after the first words.
    Hang,
    /// Everything takes ten times as long.
    Slow,
    /// Tools are used where they are offered, even where the agent would not.
    Tool,
    /// The same tool is used again and again, whatever comes of it.
    Insist,
    /// A sub-agent is asked, where one can be.
    Subagent,
    /// Three are asked, one after the other.
    Subagents,
    /// One is asked that asks another.
    Nested,
    /// One is asked that does something.
    Acting,
    /// A person is asked before anything is done.
    Question,
    /// The answer runs into its token limit.
    MaxTokens,
    /// The plan is bad in one way.
    Plan(Bad),
    /// A reviewer does not accept the result.
    Reject,
}

/// How a plan is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Bad {
    /// Words instead of a plan.
    Prose,
    /// A good plan inside prose and a fence, which is no fault.
    Fenced,
    /// It ends in the middle.
    Truncated,
    /// There is no answer.
    Nothing,
    /// Other words for its fields.
    Language,
    /// Another version.
    Version,
    /// Two tasks wait for each other.
    Cyclic,
    /// Five hundred tasks too many.
    Many,
    /// An agent that nobody knows.
    Strangers,
    /// A text that leans on another one.
    Above,
    /// A dependency that leads nowhere, of which nothing is taken.
    Loose,
    /// Two tasks write one file.
    Clash,
    /// A task that somebody else's text asked for.
    Injected,
    /// A task that cannot be taken back.
    Risky,
    /// A question instead of a plan, until it is answered.
    Asks,
}

/// The words for bad plans.
const BAD: [(&str, Bad); 15] = [
    ("plan-prose", Bad::Prose),
    ("plan-fenced", Bad::Fenced),
    ("plan-cut", Bad::Truncated),
    ("plan-empty", Bad::Nothing),
    ("plan-language", Bad::Language),
    ("plan-version", Bad::Version),
    ("plan-circle", Bad::Cyclic),
    ("plan-many", Bad::Many),
    ("plan-strangers", Bad::Strangers),
    ("plan-above", Bad::Above),
    ("plan-loose", Bad::Loose),
    ("plan-clash", Bad::Clash),
    ("plan-injected", Bad::Injected),
    ("plan-risky", Bad::Risky),
    ("plan-asks", Bad::Asks),
];

/// One request for a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Directive {
    pub(super) fault: Fault,
    /// How often; `None` is every time.
    pub(super) times: Option<u32>,
}

const OPEN: &str = "[[rehearse:";
const CLOSE: &str = "]]";

/// The directives in a text, in order; words we do not know are passed over.
pub(super) fn directives(text: &str) -> Vec<Directive> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, tail)) = rest.split_once(OPEN) {
        let Some((words, tail)) = tail.split_once(CLOSE) else { break };
        found.extend(words.split(',').filter_map(|word| directive(word.trim())));
        rest = tail;
    }
    found
}

fn directive(text: &str) -> Option<Directive> {
    let (word, times) = match text.split_once('*') {
        Some((word, times)) => (word.trim(), Some(times.trim().parse().ok()?)),
        None => (text, None),
    };
    let (fault, usual) = match word {
        "429" => (Fault::Status(429), Some(1)),
        "529" => (Fault::Status(529), Some(1)),
        "500" => (Fault::Status(500), Some(1)),
        "cut" => (Fault::Cut, Some(1)),
        "max_tokens" => (Fault::MaxTokens, Some(1)),
        "refuse" => (Fault::Refuse, None),
        "empty" => (Fault::Empty, None),
        "hang" => (Fault::Hang, None),
        "slow" => (Fault::Slow, None),
        "tool" => (Fault::Tool, None),
        "insist" => (Fault::Insist, None),
        "reject" => (Fault::Reject, Some(1)),
        "subagent" => (Fault::Subagent, None),
        "subagents" => (Fault::Subagents, None),
        "nested" => (Fault::Nested, None),
        "subagent-acts" => (Fault::Acting, None),
        "question" => (Fault::Question, None),
        other => (Fault::Plan(BAD.iter().find(|(name, _)| *name == other)?.1), Some(1)),
    };
    Some(Directive { fault, times: times.or(usual) })
}

/// A goal without the directives that are about its plan; those about tasks stay with their words.
pub(super) fn without_plan_faults(goal: &str) -> String {
    let mut out = String::new();
    let mut rest = goal;
    while let Some((before, tail)) = rest.split_once(OPEN) {
        out.push_str(before);
        let Some((words, after)) = tail.split_once(CLOSE) else {
            rest = tail;
            out.push_str(OPEN);
            break;
        };
        let is_plans = |word: &str| matches!(directive(word.trim()), Some(Directive { fault: Fault::Plan(_), .. }));
        let kept: Vec<&str> = words.split(',').filter(|word| !is_plans(word)).collect();
        if !kept.is_empty() {
            out.extend([OPEN, &kept.join(","), CLOSE]);
        }
        rest = after;
    }
    out.push_str(rest);
    out.trim().to_owned()
}

/// A text without its directives.
pub(super) fn without(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, tail)) = rest.split_once(OPEN) {
        out.push_str(before.trim_end());
        match tail.split_once(CLOSE) {
            Some((_, after)) => rest = after,
            None => return out,
        }
    }
    out.push_str(rest);
    out.trim().to_owned()
}

/// How often each fault of each task has been served.
#[derive(Debug, Default)]
pub(super) struct Counters(HashMap<(u64, Fault), u32>);

/// What one call gets.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    /// Refused with this status; nothing else matters then.
    pub(super) status: Option<u16>,
    /// What happens to the answer.
    pub(super) faults: Vec<Fault>,
}

impl Due {
    /// Whether `fault` is due.
    pub(super) fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }
}

impl Counters {
    /// Counts a call for the task of this key. Statuses come first and one per call, in the order they were written.
    pub(super) fn take(&mut self, key: u64, directives: &[Directive]) -> Due {
        let mut due = Due::default();
        for directive in directives {
            if let Fault::Status(status) = directive.fault
                && self.allows(key, directive)
            {
                due.status = Some(status);
                return due;
            }
        }
        for directive in directives {
            if !matches!(directive.fault, Fault::Status(_)) && self.allows(key, directive) {
                due.faults.push(directive.fault);
            }
        }
        due
    }

    fn allows(&mut self, key: u64, directive: &Directive) -> bool {
        let Some(times) = directive.times else { return true };
        let served = self.0.entry((key, directive.fault)).or_default();
        let more = *served < times;
        *served += u32::from(more);
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_come_in_order_as_often_as_asked_and_then_no_more() {
        let asked = directives("x [[rehearse:429*2]] y [[rehearse:500, cut]] [[rehearse:nonsense]] [[rehearse:slow");
        let mut counters = Counters::default();
        let mut statuses = Vec::new();
        for _ in 0..4 {
            statuses.push(counters.take(1, &asked).status);
        }
        assert_eq!(statuses, [Some(429), Some(429), Some(500), None]);
        assert_eq!(counters.take(1, &asked), Due::default(), "the cut was served with the fourth call");
        assert_eq!(counters.take(2, &asked).status, Some(429), "another task has its own count");
    }

    #[test]
    fn a_text_loses_its_directives_and_nothing_else() {
        assert_eq!(without("Fix it [[rehearse:429*2]], please[[rehearse:cut]]"), "Fix it, please");
        assert_eq!(without("[[x]] stays"), "[[x]] stays");
    }
}
