//! `podium run`: a goal from its words to its report, without a screen.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, IsTerminal},
    time::Duration,
};

use clap::{Args, ValueEnum};

use super::{
    Approve, Call, Exit, Trouble, ids, json,
    link::{self, Link},
    out::Out,
    plan,
    show::report,
    wait::limit,
    wait_text,
};
use crate::{
    config::Config,
    model::{
        Approval, GoalEnd, GoalId, GoalPhase, MicroUsd, OnFailure, TaskRef, Terms,
        budget::{Payer, parse_cap},
        text,
    },
    room::{Answer, Goal, Order, State},
};

/// `podium run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The goal, in plain words
    #[arg(required = true)]
    goal: Vec<String>,
    #[command(flatten)]
    how: How,
    /// One agent does all of it as one task, without a plan, at the same budget: to compare
    #[arg(long, value_name = "AGENT", num_args = 0..=1, require_equals = true)]
    #[expect(clippy::option_option, reason = "absent, alone, or with a value: that is how clap says it")]
    solo: Option<Option<String>>,
    /// Follow up on a goal that has ended: its report is shown to the planner
    #[arg(long, value_name = "GOAL", conflicts_with = "solo")]
    follows: Option<String>,
}

/// How a goal is run and waited for.
#[derive(Debug, Default, Args)]
pub(super) struct How {
    /// Who says yes to the plan [default: ask in a terminal, else auto]
    #[arg(long, value_enum)]
    approve: Option<Approve>,
    /// What it may cost, in dollars, or `off` [default: `goal_usd`]
    #[arg(long, value_parser = parse_cap, value_name = "USD")]
    budget: Option<MicroUsd>,
    /// Give up waiting after this long, such as 30m; the work goes on
    #[arg(long, value_parser = wait_text, value_name = "TIME")]
    timeout: Option<Duration>,
    /// What happens when a task fails for good [default: as podium.toml says, else continue]
    #[arg(long, value_enum, value_name = "WHAT")]
    on_failure: Option<Failing>,
    /// Print the goal's id and leave
    #[arg(long)]
    detach: bool,
}

/// What happens to a goal when a task of it fails for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Failing {
    /// Nothing more of it starts
    Stop,
    /// The rest goes on, then what is missing is planned anew
    Continue,
    /// The rest goes on, then a person decides
    Ask,
}

impl From<Failing> for OnFailure {
    fn from(failing: Failing) -> Self {
        match failing {
            Failing::Stop => Self::Stop,
            Failing::Continue => Self::Continue,
            Failing::Ask => Self::Ask,
        }
    }
}

impl How {
    /// For a verb that only submits.
    pub(super) fn detached(budget: Option<MicroUsd>) -> Self {
        Self { budget, detach: true, ..Self::default() }
    }

    /// With nobody to ask.
    pub(super) fn unattended() -> Self {
        Self { approve: Some(Approve::Auto), ..Self::default() }
    }

    /// Submitted for a screen, on which a person approves.
    pub(super) fn for_screen() -> Self {
        Self { approve: Some(Approve::Ask), detach: true, ..Self::default() }
    }

    /// Whether a person is there to ask.
    fn is_attended(&self, call: &Call) -> bool {
        io::stdin().is_terminal() && io::stdout().is_terminal() && !call.out.is_json() && !self.detach
    }

    /// Who approves.
    pub(super) fn approval(&self, call: &Call, config: &Config) -> Approval {
        match self.approve.unwrap_or(if self.is_attended(call) { Approve::Ask } else { Approve::Auto }) {
            Approve::Ask => Approval::Ask,
            Approve::Auto => Approval::Auto { ceiling: config.budget.caps().ceiling(self.budget) },
            Approve::Never => Approval::Never,
        }
    }

    /// What else is said about it.
    pub(super) fn terms(&self) -> Terms {
        Terms { on_failure: self.on_failure.map(OnFailure::from), budget: self.budget, ..Terms::default() }
    }
}

pub(super) async fn run(call: &Call, args: &RunArgs) -> anyhow::Result<Exit> {
    let config = call.config()?;
    let mut link = link::connect(&config).await?;
    let solo = match &args.solo {
        None => None,
        Some(Some(name)) => Some(ids::agent(link.state(), name)?),
        Some(None) => link.state().agents.iter().next().map(|agent| agent.name().clone()),
    };
    let follows = args.follows.as_ref().map(|name| ids::goal(link.state(), name)).transpose()?;
    let order = Order::Goal {
        text: args.goal.join(" "),
        approval: args.how.approval(call, &config),
        terms: Terms { solo, follows, ..args.how.terms() },
    };
    let goal = submit(&mut link, order).await?;
    see_through(call, &mut link, &goal, &args.how).await
}

/// `podium ask`: who would do this, without doing it.
pub(super) async fn ask(call: &Call, text: &[String], follows: Option<&str>) -> anyhow::Result<Exit> {
    let config = call.config()?;
    let mut link = link::connect(&config).await?;
    let follows = follows.map(|name| ids::goal(link.state(), name)).transpose()?;
    let terms = Terms { follows, ..Terms::default() };
    let order = Order::Goal { text: text.join(" "), approval: Approval::Never, terms };
    let id = submit(&mut link, order).await?;
    let followed = follow(&call.out, &mut link, &id, false).await?;
    let exit = match followed {
        Followed::Ended(GoalEnd::Planned) => Exit::Done,
        Followed::Ended(_) | Followed::NeedsApproval | Followed::NeedsAnswer => {
            return Ok(finish(&call.out, link.state(), &id, &followed));
        }
    };
    if let Some((goal, plan)) = link.state().goals.get(&id).and_then(|goal| Some((goal, goal.plan.as_ref()?))) {
        plan::who(&call.out, link.state(), goal, plan);
    }
    Ok(exit)
}

/// Waits for a goal and prints what came of it, unless only its id is wanted.
pub(super) async fn see_through(call: &Call, link: &mut Link, goal: &GoalId, how: &How) -> anyhow::Result<Exit> {
    if how.detach {
        if call.out.is_json() {
            let text = link.state().goals.get(goal).map_or("being planned", |goal| goal.phase.word());
            call.out.json(&json::Done { text: format!("{goal} is {text}"), ids: vec![goal.to_string()] });
        } else {
            call.out.line(goal.as_str());
        }
        return Ok(Exit::Done);
    }
    let followed = tokio::select! {
        followed = limit(how.timeout, follow(&call.out, link, goal, how.is_attended(call))) => followed,
        _pressed = tokio::signal::ctrl_c() => {
            call.out.note(&format!("{goal} goes on; `podium cancel {goal}` ends it"));
            return Ok(Exit::Interrupted);
        }
    };
    match followed {
        None => {
            call.out.note(&format!("{goal} has not ended in the time given and goes on; `podium wait {goal}`"));
            if call.out.is_json() {
                call.out.json(&json::Failure { error: format!("{goal} timed out"), exit: Exit::TimedOut as u8 });
            }
            Ok(Exit::TimedOut)
        }
        Some(followed) => {
            let end = followed?;
            Ok(finish(&call.out, link.state(), goal, &end))
        }
    }
}

/// Orders a goal and tells its id.
pub(super) async fn submit(link: &mut Link, order: Order) -> anyhow::Result<GoalId> {
    let is_empty = matches!(&order, Order::Goal { text, .. } if text.trim().is_empty());
    match link.order(order).await? {
        Answer::Done { ids, .. } => {
            let id = ids.first().ok_or_else(|| anyhow::anyhow!("the room named no goal"))?;
            Ok(id.parse()?)
        }
        Answer::Refused { reason } if is_empty => Err(Trouble::Wrong(reason).into()),
        Answer::Refused { reason } => Err(Trouble::Refused(reason).into()),
    }
}

/// How waiting for a goal ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Followed {
    /// The goal has ended.
    Ended(GoalEnd),
    /// Its plan waits for a person, and there is none here.
    NeedsApproval,
    /// Its planner asks something, and there is nobody here to answer.
    NeedsAnswer,
}

/// Waits for a goal's end, telling on standard error what happens; asks about the plan where somebody can answer.
pub(super) async fn follow(out: &Out, link: &mut Link, goal: &GoalId, ask: bool) -> anyhow::Result<Followed> {
    let mut told = Told::default();
    loop {
        told.tell(out, link.state(), goal);
        let phase = link.state().goals.get(goal).map(|g| (g.phase.clone(), g.approval));
        match phase {
            None => anyhow::bail!("{goal} is gone"),
            Some((GoalPhase::Ended { end, .. }, _)) => return Ok(Followed::Ended(end)),
            Some((GoalPhase::AwaitingApproval, Approval::Ask)) if ask && !told.asked => {
                told.asked = true;
                if let Some((goal, plan)) = link.state().goals.get(goal).and_then(|g| Some((g, g.plan.as_ref()?))) {
                    plan::show(out, link.state(), goal, plan);
                }
                let order = if question("run it? [y/N] ").await? {
                    Order::Approve { goal: goal.clone(), ceiling: None }
                } else {
                    Order::Deny { goal: goal.clone() }
                };
                if let Answer::Refused { reason } = link.order(order).await? {
                    out.note(&reason);
                }
                continue;
            }
            Some((GoalPhase::Asking { .. }, _)) if ask && told.answered < talked(link.state(), goal) => {
                told.answered = talked(link.state(), goal);
                for question in link.state().goals.get(goal).map(Goal::questions).unwrap_or_default() {
                    out.note(&format!("  {}", text::scrub(question)));
                }
                let text = line_of("your answer: ").await?;
                let order = match text.trim() {
                    "" => Order::Deny { goal: goal.clone() },
                    text => Order::Answer { goal: goal.clone(), text: text.to_owned() },
                };
                if let Answer::Refused { reason } = link.order(order).await? {
                    out.note(&reason);
                }
                continue;
            }
            Some((GoalPhase::Asking { .. }, Approval::Auto { .. } | Approval::Never)) => {
                return Ok(Followed::NeedsAnswer);
            }
            Some((GoalPhase::Deciding, _)) if ask => {
                let order = if question("some of it failed; plan anew what is missing? [y/N] ").await? {
                    Order::Approve { goal: goal.clone(), ceiling: None }
                } else {
                    Order::Deny { goal: goal.clone() }
                };
                told.asked = false;
                if let Answer::Refused { reason } = link.order(order).await? {
                    out.note(&reason);
                }
            }
            Some((GoalPhase::Deciding, _)) => return Ok(Followed::NeedsApproval),
            // A person may still say yes on a screen, unless nobody was to be asked.
            Some((GoalPhase::AwaitingApproval, Approval::Auto { .. } | Approval::Never)) => {
                return Ok(Followed::NeedsApproval);
            }
            Some((
                GoalPhase::AwaitingApproval
                | GoalPhase::Asking { .. }
                | GoalPhase::Planning { .. }
                | GoalPhase::Running
                | GoalPhase::Synthesising,
                _,
            )) => {}
        }
        link.next().await?;
    }
}

/// What has been told already.
#[derive(Default)]
struct Told {
    phase: &'static str,
    tasks: BTreeMap<TaskRef, String>,
    asked: bool,
    /// Rounds of questions that were answered here.
    answered: usize,
}

/// How often its planner has asked.
fn talked(state: &State, goal: &GoalId) -> usize {
    state.goals.get(goal).map_or(0, |goal| goal.talk.len())
}

impl Told {
    fn tell(&mut self, out: &Out, state: &State, goal: &GoalId) {
        let Some(goal) = state.goals.get(goal) else { return };
        let word = goal.phase.word();
        if self.phase != word {
            self.phase = word;
            if !goal.phase.is_over() {
                let hint = match (goal.needs_approval(), goal.asks()) {
                    (true, _) => format!(": `podium approve {}`", goal.id),
                    (_, true) => format!(": `podium answer {} TEXT`", goal.id),
                    (false, false) => String::new(),
                };
                out.note(&format!("{} {word}{hint}", goal.id));
            }
        }
        for task in goal.tasks.iter().filter_map(|t| state.tasks.find(t)) {
            let word = json::task_state(state, &task);
            let known = self.tasks.get(task.record.task()).map(String::as_str).unwrap_or_default();
            let is_news = task.record.outcome.is_some() || word == "running" || word == "retrying";
            if known != word && is_news {
                let why = task.record.outcome.as_ref().map(|o| o.ending.sentence()).unwrap_or_default();
                let why = if why.is_empty() || why == word {
                    String::new()
                } else {
                    format!(": {}", text::first_line(&why, 160))
                };
                out.note(&format!("  {} {}{why}", task.record.task(), word.replace('_', " ")));
            }
            self.tasks.insert(task.record.task().clone(), word);
        }
    }
}

/// Prints what came of a goal and finds the exit code.
pub(super) fn finish(out: &Out, state: &State, id: &GoalId, followed: &Followed) -> Exit {
    let Some(goal) = state.goals.get(id) else { return Exit::Failed };
    if out.is_json() {
        out.json(&json::GoalDetail::new(state, goal, report(state, goal), link::clock().now()));
    } else {
        match (followed, report(state, goal), &goal.plan) {
            (_, Some(report), _) => out.text(&report),
            (Followed::NeedsAnswer, _, _) => {
                for question in goal.questions() {
                    out.line(&text::scrub(question));
                }
            }
            (Followed::Ended(GoalEnd::Planned) | Followed::NeedsApproval, None, Some(plan)) => {
                plan::show(out, state, goal, plan);
            }
            (_, None, _) => {}
        }
        if let GoalPhase::Ended { note, .. } = &goal.phase {
            out.note(&format!("{id} {}: {}", goal.phase.word(), text::first_line(note, 400)));
        }
    }
    match followed {
        Followed::NeedsApproval => {
            out.note(&format!("{id} waits for a person: `podium show {id}`, then `podium approve {id}`"));
            Exit::Refused
        }
        Followed::NeedsAnswer => {
            out.note(&format!("{id} asks this before it plans: `podium answer {id} TEXT`, then `podium wait {id}`"));
            Exit::Refused
        }
        Followed::Ended(GoalEnd::Done) => Exit::Done,
        Followed::Ended(GoalEnd::Planned) if goal.approval == Approval::Never => Exit::Done,
        Followed::Ended(GoalEnd::Planned) => Exit::Refused,
        // It could not be planned for its price: that is a no of the budget's, not a failure.
        Followed::Ended(GoalEnd::Failed) if goal.plan.is_none() && is_used_up(state, id) => Exit::Refused,
        Followed::Ended(GoalEnd::Partial | GoalEnd::Failed | GoalEnd::Cancelled) => Exit::Failed,
    }
}

/// Whether a budget that pays for the goal is used up.
fn is_used_up(state: &State, id: &GoalId) -> bool {
    [Payer::Day, Payer::Goal(id.clone())].iter().any(|payer| state.reached(payer).is_some())
}

/// Asks on the terminal; only a clear yes is one.
async fn question(text: &str) -> anyhow::Result<bool> {
    Ok(matches!(line_of(text).await?.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Asks for a line on the terminal.
async fn line_of(text: &str) -> anyhow::Result<String> {
    use io::Write;
    let mut error = io::stderr();
    error.write_all(text.as_bytes())?;
    error.flush()?;
    // Reading a terminal blocks; Ctrl+C ends the process all the same.
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map(|_| line)
    })
    .await??;
    Ok(line)
}
