//! A plan: data that the model proposes and code checks, shows and runs.
//!
//! Owns the task contract, what a plan's revisions are known by, and the faults of a plan. Must not know how a plan is
//! asked for or judged. Its one surprise: plans of earlier versions still load; a `description` was then the whole
//! contract, and is read as the objective.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{AgentName, GoalId, MicroUsd, Priority, Spend, TaskId, TaskRef};

mod estimate;
mod probe;

pub use estimate::{Estimates, Range};
pub use probe::{Checks, DoneWhen};

/// The shape of plans that this version writes.
pub const SCHEMA_VERSION: u32 = 2;

/// The rules that this version judges plans by. The journal keeps the number with each answer of a planner, so that a
/// replay judges an old answer as it was judged then.
pub const VALIDATOR: u32 = 2;

/// How hard a model thinks; the words of the engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// For what is plain.
    Low,
    /// The usual.
    Medium,
    /// For what is hard, or went wrong before.
    High,
}

impl Effort {
    /// All of them, least first.
    pub const ALL: [Self; 3] = [Self::Low, Self::Medium, Self::High];

    /// The word in plans, files and the engines' arguments.
    pub fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }

    /// Reads [`Self::word`].
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|effort| effort.word() == word)
    }
}

/// Which class of model a task wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelTier {
    /// Small and cheap: sorting, extracting, short texts.
    Light,
    /// The agent's own model.
    Standard,
    /// The best there is: hard reasoning, code that will be used.
    Strong,
}

impl ModelTier {
    /// All of them, the cheapest first.
    pub const ALL: [Self; 3] = [Self::Light, Self::Standard, Self::Strong];

    /// The word in plans.
    pub fn word(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Standard => "standard",
            Self::Strong => "strong",
        }
    }

    /// Reads [`Self::word`].
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.word() == word)
    }

    /// The word in `[tiers]` of the model it stands for; `None` is the agent's own model.
    pub fn named(self) -> Option<&'static str> {
        match self {
            Self::Light => Some("small"),
            Self::Standard => None,
            Self::Strong => Some("top"),
        }
    }
}

/// What a model costs, in money per million tokens, and how much it holds at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelPrice {
    /// Input, not from the cache.
    pub input: MicroUsd,
    /// Output.
    pub output: MicroUsd,
    /// Tokens of one conversation.
    pub context: u64,
}

/// Something a task works from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// The plan task that makes it; empty for what the goal itself gives.
    #[serde(default)]
    pub dependency: String,
    /// What it is: "the ten questions with answers".
    pub what: String,
}

/// Something the goal asks for, as the planner understood it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// Unique within the plan: `r1`.
    pub id: String,
    /// One sentence.
    pub text: String,
}

/// One task of a plan. `id` is unique within the plan; in the queue it becomes `{goal}-{id}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlanTask {
    /// Unique within the plan: `^[a-z0-9][a-z0-9_-]{0,47}$`.
    pub id: String,
    /// The agent that does it.
    pub worker: String,
    /// A few words.
    pub title: String,
    /// What it is to achieve; in plans of version 1 the whole text of the task.
    #[serde(alias = "description")]
    pub objective: String,
    /// What it works from.
    pub inputs: Vec<Input>,
    /// What it makes: form, length, language, file names.
    pub output: String,
    /// What it must not do, and where it stops.
    pub boundaries: String,
    /// Ids of plan tasks that must end first.
    pub dependencies: Vec<String>,
    /// How one can tell that it is done.
    pub done_when: Vec<DoneWhen>,
    /// Ids of the plan's requirements that it serves.
    pub serves: Vec<String>,
    /// How hard the model thinks; `None` is the engine's usual.
    pub effort: Option<Effort>,
    /// Which class of model it wants; `None` is the agent's own.
    pub model_tier: Option<ModelTier>,
    /// Exactly this model, which the operator chose.
    pub model: Option<String>,
    /// What it is expected to take; version 1 had `minutes` alone.
    #[serde(alias = "minutes")]
    pub estimates: Estimates,
    /// What it changes outside its workspace, one entry each; empty means nothing.
    pub side_effects: Vec<String>,
    /// Doing it twice does no harm. Where it does, a lost attempt waits for a person.
    pub idempotent: bool,
    /// Nobody is in a hurry for it.
    pub can_wait: bool,
    /// Somebody else looks at the result before it counts.
    pub review: bool,
    /// How urgent, where the operator said so.
    pub priority: Option<Priority>,
    /// Seconds allowed per attempt, where the operator said so.
    pub timeout: Option<u64>,
}

impl Default for PlanTask {
    /// Empty, and harmless to repeat: what version 1 took every task for.
    fn default() -> Self {
        Self {
            id: String::new(),
            worker: String::new(),
            title: String::new(),
            objective: String::new(),
            inputs: Vec::new(),
            output: String::new(),
            boundaries: String::new(),
            dependencies: Vec::new(),
            done_when: Vec::new(),
            serves: Vec::new(),
            effort: None,
            model_tier: None,
            model: None,
            estimates: Estimates::default(),
            side_effects: Vec::new(),
            idempotent: true,
            can_wait: false,
            review: false,
            priority: None,
            timeout: None,
        }
    }
}

impl PlanTask {
    /// The task's place in the queue, for a plan that passed its checks.
    pub fn reference(&self, goal: &GoalId) -> Option<TaskRef> {
        Some(TaskRef {
            agent: AgentName::new(&*self.worker).ok()?,
            id: TaskId::new(format!("{goal}-{}", self.id)).ok()?,
        })
    }

    /// Minutes it is expected to take, the middle of the range; 0 when nobody said.
    pub fn minutes(&self) -> f64 {
        self.estimates.minutes.map_or(0.0, Range::middle)
    }

    /// The contract in words, as its agent reads it: objective, inputs, output, boundaries.
    pub fn text(&self) -> String {
        let mut out = self.objective.trim().to_owned();
        if !self.inputs.is_empty() {
            out.push_str("\n\nInputs:");
            for input in &self.inputs {
                out.push_str("\n- ");
                if !input.dependency.is_empty() {
                    out.extend(["from ", &input.dependency, ": "]);
                }
                out.push_str(input.what.trim());
            }
        }
        for (name, text) in [("Output", &self.output), ("Boundaries", &self.boundaries)] {
            if !text.trim().is_empty() {
                out.extend(["\n\n", name, ": ", text.trim()]);
            }
        }
        if !self.side_effects.is_empty() {
            out.extend(["\n\nApproved effects outside the workspace: ", &self.side_effects.join("; ")]);
        }
        out
    }

    /// The model it asks for: the operator's choice, else the word of its tier; `None` is the agent's own.
    pub fn wanted_model(&self) -> Option<&str> {
        self.model.as_deref().or_else(|| self.model_tier?.named())
    }
}

/// A plan as proposed, with what it cost to make it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The shape it was written in.
    #[serde(default = "one")]
    pub schema_version: u32,
    /// Counts up with every edit and repair.
    pub revision: u32,
    /// What the planner understood, in a sentence or two.
    pub summary: String,
    /// What the goal asks for.
    #[serde(default)]
    pub requirements: Vec<Requirement>,
    /// How the results of the last tasks make one answer; empty where one task ends the plan.
    #[serde(default)]
    pub synthesis: String,
    /// The tasks.
    pub tasks: Vec<PlanTask>,
    /// The model that made it; empty when no model did.
    pub model: String,
    /// What making this revision cost.
    pub spend: Spend,
    /// The rules it was judged by.
    #[serde(default = "one")]
    pub validator: u32,
}

/// The number of schema and rules before they were numbered.
fn one() -> u32 {
    1
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            revision: 1,
            summary: String::new(),
            requirements: Vec::new(),
            synthesis: String::new(),
            tasks: Vec::new(),
            model: String::new(),
            spend: Spend::default(),
            validator: VALIDATOR,
        }
    }
}

impl Plan {
    /// SHA-256 over what the plan says, in lower-case hex: its JSON with sorted keys and without what only tells how it
    /// came about (revision, model, cost, rules).
    pub fn hash(&self) -> String {
        let said = serde_json::json!({
            "schema_version": self.schema_version,
            "summary": self.summary,
            "requirements": self.requirements,
            "synthesis": self.synthesis,
            "tasks": self.tasks,
        });
        format!("{:x}", Sha256::digest(said.to_string()))
    }

    /// The task of this id.
    pub fn task(&self, id: &str) -> Option<&PlanTask> {
        self.tasks.iter().find(|task| task.id == id)
    }
}

/// Who made a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Maker {
    /// The model, at first or as a repair.
    Planner,
    /// Code, out of a model's plan whose faults it could take away without guessing.
    Salvage,
    /// Code: the goal as one task, because no plan passed.
    Fallback,
    /// A person.
    Operator,
    /// The model, for what was left after a failure.
    Replan,
    /// A file: a plan that no model wrote.
    Workflow,
}

impl Maker {
    /// The word on screen and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Planner => "planner",
            Self::Salvage => "salvage",
            Self::Fallback => "fallback",
            Self::Operator => "operator",
            Self::Replan => "replan",
            Self::Workflow => "workflow",
        }
    }
}

/// What is kept of every revision, the bad ones too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    /// Its number.
    pub revision: u32,
    /// Who made it.
    pub by: Maker,
    /// [`Plan::hash`]; empty where the answer could not be read as a plan.
    pub hash: String,
    /// The rules it was judged by.
    pub validator: u32,
    /// The model, where one made it.
    pub model: String,
    /// What making it cost.
    pub spend: Spend,
    /// Its tasks.
    pub tasks: usize,
    /// What was wrong with it.
    pub faults: Vec<Fault>,
}

/// What follows from a fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The plan cannot run like this: it goes back to its maker.
    #[default]
    Repair,
    /// A person must say yes, whatever was allowed before.
    Ask,
    /// Shown beside the plan.
    Warn,
    /// Something that may be better.
    Suggest,
}

impl Severity {
    /// The word on screen and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Repair => "repair",
            Self::Ask => "ask",
            Self::Warn => "warn",
            Self::Suggest => "suggest",
        }
    }
}

/// One thing wrong with a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// `P01` to `P15`.
    pub code: String,
    /// Where, as a path into the plan: `tasks[2].worker`.
    pub path: String,
    /// What is wrong, one sentence.
    pub message: String,
    /// What follows from it.
    #[serde(default)]
    pub severity: Severity,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.code, self.path, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_of_version_1_loads_with_its_description_as_the_objective() {
        let old = r#"{"revision":1,"summary":"s","model":"opus","spend":{"usage":{},"cost":7,"calls":1},"tasks":[
            {"id":"a","worker":"marie","title":"A","description":"Make it.","done_when":["it is there"],"minutes":4.0}]}"#;
        let plan: Plan = serde_json::from_str(old).unwrap();
        assert_eq!((plan.schema_version, plan.validator), (1, 1));
        let task = &plan.tasks[0];
        assert_eq!((&*task.text(), task.minutes(), task.idempotent), ("Make it.", 4.0, true));
        assert_eq!(task.done_when, [DoneWhen::from("it is there")]);
        let again: Plan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
        assert_eq!(again, plan);
    }

    #[test]
    fn the_hash_is_of_what_the_plan_says_and_of_nothing_else() {
        let task = PlanTask { id: "a".into(), objective: "Make it.".into(), ..PlanTask::default() };
        let plan = Plan { tasks: vec![task], ..Plan::default() };
        let other = Plan { revision: 9, model: "m".into(), validator: 1, ..plan.clone() };
        assert_eq!(plan.hash(), other.hash());
        let mut changed = plan.clone();
        changed.tasks[0].boundaries = "Nothing else.".into();
        assert_ne!(plan.hash(), changed.hash());
        // Keys are sorted by the JSON library as it is built here: another build must not give another hash.
        assert_eq!(plan.hash(), "4f8490865dae3449d8248a066073e745d22eb3de7e5aa8ac9adbefc25457a683");
    }

    #[test]
    fn the_contract_reads_like_this() {
        let task = PlanTask {
            objective: "Build the page.".into(),
            inputs: vec![
                Input { dependency: "quiz".into(), what: "the ten questions".into() },
                Input { dependency: String::new(), what: "the class is for juniors".into() },
            ],
            output: "quiz.html".into(),
            boundaries: "No styles.".into(),
            ..PlanTask::default()
        };
        assert_eq!(
            task.text(),
            "Build the page.\n\nInputs:\n- from quiz: the ten questions\n- the class is for juniors\n\nOutput: quiz.html\n\n\
             Boundaries: No styles."
        );
    }
}
