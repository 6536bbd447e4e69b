//! The checks of a plan before any token is spent on workers: `P01` to `P15`, all faults at once.
//!
//! Owns what a plan is judged against and the faults of single fields; the graph, what tasks have in common, what the
//! whole lacks and what is risky lie below. Its one surprise: rules are numbered. A journal holds answers that were judged
//! by version 1, and a replay must come to the same end, so [`check_v1`] stays as it was.

use std::collections::BTreeMap;

use unicode_width::UnicodeWidthChar;

use super::{CAP, DEPTH, DONE_WHEN, ENTRIES, MINUTES, RESERVED, SUMMARY, TEXT, TITLE, fault, shown};
use crate::{
    model::{
        AgentName, DoneWhen, Fault, MicroUsd, Plan, PlanTask, Severity, Tiers,
        plan::{ModelPrice, Range},
        text,
    },
    orchestrator::schedule,
};

mod graph;
mod overlap;
mod risk;
mod selfcontained;
mod whole;

pub use graph::Graph;
pub(super) use overlap::conflicts;

/// Beyond so many tasks, or the cap where that is higher, only `P02` is said: the rest would be about a plan that cannot
/// stay.
const LOOKED_AT: usize = 256;

/// An agent as plans are judged against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRule {
    /// Its name.
    pub name: AgentName,
    /// Its model.
    pub model: String,
    /// Where its files lie: agents with the same folder can write the same file.
    pub workspace: String,
    /// Attempts at once.
    pub slots: u32,
    /// Its attempts are one call, so that everything must fit into one context.
    pub one_call: bool,
}

impl AgentRule {
    /// One that is known by its name alone.
    pub fn named(name: AgentName) -> Self {
        let workspace = format!("workspaces/{name}");
        Self { name, model: String::new(), workspace, slots: 1, one_call: false }
    }
}

/// What a plan is judged against.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// The agents that work here.
    pub agents: Vec<AgentRule>,
    /// Tasks it may have.
    pub cap: usize,
    /// Tasks in its longest chain.
    pub depth: usize,
    /// Attempts at once, over all agents.
    pub max_running: u32,
    /// What it may cost, where that is known.
    pub budget: Option<MicroUsd>,
    /// Prices and contexts of models, by alias or id; empty where nobody knows.
    pub models: BTreeMap<String, ModelPrice>,
    /// The model of each tier.
    pub tiers: Tiers,
}

impl Rules {
    /// For these agents, with nothing known of money.
    pub fn new(agents: impl IntoIterator<Item = AgentName>) -> Self {
        let agents = agents.into_iter().map(AgentRule::named).collect();
        Self {
            agents,
            cap: CAP,
            depth: DEPTH,
            max_running: 6,
            budget: None,
            models: BTreeMap::new(),
            tiers: Tiers::default(),
        }
    }

    /// The agent of this name.
    pub fn agent(&self, name: &str) -> Option<&AgentRule> {
        self.agents.iter().find(|agent| agent.name.as_str() == name)
    }

    /// The model that a task would run on.
    pub fn model_of<'a>(&'a self, task: &'a PlanTask) -> &'a str {
        let named = task.wanted_model().or_else(|| Some(&self.agent(&task.worker)?.model)).unwrap_or_default();
        self.tiers.model(named)
    }

    /// The price of the model that a task would run on.
    pub fn price_of(&self, task: &PlanTask) -> Option<&ModelPrice> {
        self.models.get(self.model_of(task))
    }

    fn slots(&self) -> BTreeMap<String, u32> {
        self.agents.iter().map(|agent| (agent.name.to_string(), agent.slots)).collect()
    }
}

/// Names every fault of a plan.
pub fn check(plan: &Plan, rules: &Rules) -> Vec<Fault> {
    let mut faults = Vec::new();
    if !size(&mut faults, plan, rules.cap) {
        return faults;
    }
    words(&mut faults, "summary", &plan.summary, SUMMARY, true);
    if !plan.synthesis.is_empty() {
        words(&mut faults, "synthesis", &plan.synthesis, SUMMARY, true);
    }
    let mut first: BTreeMap<String, usize> = BTreeMap::new();
    for (i, task) in plan.tasks.iter().enumerate() {
        check_id(&mut faults, &mut first, i, task);
        check_worker(&mut faults, i, &task.worker, &rules.agents.iter().map(|a| &a.name).collect::<Vec<_>>());
        check_fields(&mut faults, i, task, rules);
        selfcontained::check(&mut faults, i, task);
    }
    let graph = Graph::read(&mut faults, &plan.tasks);
    inputs(&mut faults, &plan.tasks);
    if graph.check(&mut faults, &plan.tasks, rules.depth) {
        overlap::check(&mut faults, plan, rules, &graph);
        whole::check_edges(&mut faults, plan, &graph);
        whole::check_worth(&mut faults, plan, rules, &graph);
    }
    whole::check_coverage(&mut faults, plan);
    whole::check_estimates(&mut faults, plan, rules);
    risk::check(&mut faults, &plan.tasks);
    faults.sort_by(|a, b| (a.severity, &a.code).cmp(&(b.severity, &b.code)));
    faults
}

/// Names the faults of a plan as version 1 did.
pub fn check_v1(plan: &Plan, enabled: &[AgentName]) -> Vec<Fault> {
    let mut faults = Vec::new();
    if !size(&mut faults, plan, CAP) {
        return faults;
    }
    words(&mut faults, "summary", &plan.summary, SUMMARY, true);
    let mut first: BTreeMap<String, usize> = BTreeMap::new();
    let enabled: Vec<&AgentName> = enabled.iter().collect();
    for (i, task) in plan.tasks.iter().enumerate() {
        check_id(&mut faults, &mut first, i, task);
        check_worker(&mut faults, i, &task.worker, &enabled);
        let at = |field: &str| format!("tasks[{i}].{field}");
        if !task.minutes().is_finite() || !(0.0..=MINUTES).contains(&task.minutes()) {
            faults.push(fault("P01", at("minutes"), format!("should be a number from 0 to {MINUTES}")));
        }
        words(&mut faults, &at("title"), &task.title, TITLE, false);
        words(&mut faults, &at("description"), &task.objective, TEXT, true);
        check_done(&mut faults, i, task);
    }
    let graph = Graph::read(&mut faults, &plan.tasks);
    graph.check(&mut faults, &plan.tasks, DEPTH);
    faults.sort_by(|a, b| a.code.cmp(&b.code));
    faults
}

/// Checks how many tasks there are; `false` when the rest need not be looked at.
fn size(faults: &mut Vec<Fault>, plan: &Plan, cap: usize) -> bool {
    let count = plan.tasks.len();
    if count == 0 {
        faults.push(fault("P02", "tasks", "the plan has no task; give at least one"));
    }
    if count > cap {
        faults.push(fault("P02", "tasks", format!("{count} tasks, at most {cap} are allowed; merge some")));
    }
    count <= LOOKED_AT.max(cap)
}

fn check_id(faults: &mut Vec<Fault>, first: &mut BTreeMap<String, usize>, i: usize, task: &PlanTask) {
    let path = format!("tasks[{i}].id");
    let id = &task.id;
    let well_made = id.len() <= 48
        && id
            .bytes()
            .enumerate()
            .all(|(at, b)| b.is_ascii_lowercase() || b.is_ascii_digit() || (at > 0 && matches!(b, b'_' | b'-')))
        && !id.is_empty();
    if !well_made {
        let rule = "ids are 1 to 48 lower-case letters, digits, `-` and `_`, and start with a letter or digit";
        faults.push(fault("P03", &path, format!("{} is no id; {rule}", shown(id))));
    }
    let folded = id.to_lowercase();
    if RESERVED.contains(&&*folded) {
        faults.push(fault("P03", &path, format!("{} is a reserved word", shown(id))));
    }
    if let Some(before) = first.get(&folded) {
        faults.push(fault("P03", &path, format!("{} is also the id of tasks[{before}]", shown(id))));
    } else {
        first.insert(folded, i);
    }
}

fn check_worker(faults: &mut Vec<Fault>, i: usize, worker: &str, enabled: &[&AgentName]) {
    if enabled.iter().any(|agent| agent.as_str() == worker) {
        return;
    }
    let names: Vec<&str> = enabled.iter().map(|name| name.as_str()).collect();
    let known = if names.is_empty() { "no agent is enabled".to_owned() } else { format!("use {}", names.join(", ")) };
    faults.push(fault("P04", format!("tasks[{i}].worker"), format!("there is no agent {}; {known}", shown(worker))));
}

fn check_fields(faults: &mut Vec<Fault>, i: usize, task: &PlanTask, rules: &Rules) {
    let at = |field: &str| format!("tasks[{i}].{field}");
    if let Some(model) = &task.model
        && !rules.models.is_empty()
        && !rules.models.contains_key(rules.tiers.model(model))
        && !model.starts_with("claude-")
    {
        let known: Vec<&str> = rules.models.keys().map(String::as_str).collect();
        let message = format!("there is no model {}; use {} or a full id", shown(model), known.join(", "));
        faults.push(fault("P04", at("model"), message));
    }
    for (name, range) in
        [("minutes", task.estimates.minutes), ("tokens", task.estimates.tokens), ("usd", task.estimates.usd)]
    {
        let sound = |range: Range| range.is_sound() && (name != "minutes" || range.high <= MINUTES);
        if range.is_some_and(|range| !sound(range)) {
            let most = if name == "minutes" { format!(", at most {MINUTES}") } else { String::new() };
            let message = format!("should be two numbers, the first not above the second, more than nothing{most}");
            faults.push(fault("P01", format!("tasks[{i}].estimates.{name}"), message));
        }
    }
    if task.priority.is_some_and(|priority| priority.0 > 9) {
        faults.push(fault("P01", at("priority"), "should be a number from 0 (first) to 9 (last)"));
    }
    if task.timeout.is_some_and(|seconds| !(1..=7 * 86_400).contains(&seconds)) {
        faults.push(fault("P01", at("timeout"), "should be seconds, from 1 to a week"));
    }
    words(faults, &at("title"), &task.title, TITLE, false);
    words(faults, &at("objective"), &task.objective, TEXT, true);
    // Blank ones are P08's: then the task is not the whole contract.
    for (name, text) in [("output", &task.output), ("boundaries", &task.boundaries)] {
        if !is_blank(text) {
            words(faults, &at(name), text, TEXT, true);
        }
    }
    let entries = |faults: &mut Vec<Fault>, name: &str, each: &mut dyn Iterator<Item = &String>| {
        let mut count = 0;
        for (j, line) in each.enumerate() {
            words(faults, &format!("tasks[{i}].{name}[{j}]"), line, ENTRIES.1, true);
            count += 1;
        }
        if count > ENTRIES.0 {
            faults.push(fault("P07", at(name), format!("{count} entries, at most {} are allowed", ENTRIES.0)));
        }
    };
    entries(faults, "inputs", &mut task.inputs.iter().map(|input| &input.what));
    entries(faults, "side_effects", &mut task.side_effects.iter());
    check_done(faults, i, task);
}

fn check_done(faults: &mut Vec<Fault>, i: usize, task: &PlanTask) {
    let at = format!("tasks[{i}].done_when");
    if task.done_when.is_empty() {
        faults.push(fault("P07", &at, "is empty; say how one can tell that the task is done"));
    }
    if task.done_when.len() > DONE_WHEN.0 {
        let many = format!("{} statements, at most {} are allowed", task.done_when.len(), DONE_WHEN.0);
        faults.push(fault("P07", &at, many));
    }
    for (j, done) in task.done_when.iter().enumerate() {
        let at = format!("{at}[{j}]");
        match done {
            DoneWhen::Statement(line) => words(faults, &at, line, DONE_WHEN.1, true),
            DoneWhen::File { path } => inside(faults, &at, path),
            DoneWhen::Command { argv } => {
                if argv.first().is_none_or(|program| is_blank(program)) {
                    faults.push(fault("P07", &at, "names no program"));
                }
                if argv.iter().map(String::len).sum::<usize>() > DONE_WHEN.1 {
                    faults.push(fault("P07", &at, format!("is longer than {} bytes", DONE_WHEN.1)));
                }
                for word in argv.iter().filter(|word| !is_blank(word)) {
                    words(faults, &at, word, DONE_WHEN.1, true);
                }
            }
            DoneWhen::Json { path, schema } => {
                inside(faults, &at, path);
                if !schema.is_object() && !schema.is_boolean() {
                    faults.push(fault("P01", &at, "its schema is no JSON schema"));
                }
            }
        }
    }
}

/// Checks a path that code will look at: within the agent's workspace, however it is written.
fn inside(faults: &mut Vec<Fault>, at: &str, path: &str) {
    words(faults, at, path, DONE_WHEN.1, false);
    if path.starts_with(['/', '~']) || path.split('/').any(|part| part == "..") {
        faults.push(fault("P07", at, format!("{} leads out of the agent's workspace", shown(path))));
    }
}

/// `P05` for inputs: what a task works from must come from a task that it waits for.
fn inputs(faults: &mut Vec<Fault>, tasks: &[PlanTask]) {
    for (i, task) in tasks.iter().enumerate() {
        for (j, input) in task.inputs.iter().enumerate() {
            if !input.dependency.is_empty() && !task.dependencies.contains(&input.dependency) {
                let message = format!("{} is not among the task's dependencies", shown(&input.dependency));
                faults.push(fault("P05", format!("tasks[{i}].inputs[{j}].dependency"), message));
            }
        }
    }
}

/// Whether there is nothing to see in a text.
fn is_blank(value: &str) -> bool {
    value.chars().all(|c| c.is_whitespace() || c.width().unwrap_or(0) == 0)
}

/// Checks `P07` for one text. `lines` says whether it may have more than one line.
fn words(faults: &mut Vec<Fault>, path: &str, value: &str, limit: usize, lines: bool) {
    if is_blank(value) {
        faults.push(fault("P07", path, "is blank"));
        return;
    }
    if value.len() > limit {
        faults.push(fault("P07", path, format!("is {} bytes long, at most {limit} are allowed", value.len())));
    }
    if let Some(c) = value.chars().find(|&c| !may_stand(c, lines)) {
        faults.push(fault("P07", path, format!("holds the character {}", c.escape_unicode())));
    }
}

/// Whether a character may stand in a plan: nothing that [`text::scrub`] would drop, but tabs and line ends in bodies.
fn may_stand(c: char, lines: bool) -> bool {
    match c {
        '\n' | '\r' | '\t' => lines,
        c => matches!(text::scrub(c.encode_utf8(&mut [0; 4])), std::borrow::Cow::Borrowed(_)),
    }
}

/// The same faults for a plan that has been through a repair: what a requirement lacks is then only said (`P11`).
pub fn softened(mut faults: Vec<Fault>) -> Vec<Fault> {
    for fault in faults.iter_mut().filter(|fault| fault.code == "P11") {
        fault.severity = Severity::Warn;
    }
    faults.sort_by(|a, b| (a.severity, &a.code).cmp(&(b.severity, &b.code)));
    faults
}
