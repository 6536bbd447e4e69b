//! What the planner asks the operator, and what it is told.
//!
//! Owns the questions that come instead of a plan, their answer, and what a goal's words are with them. Must not know how a plan
//! is asked for. Its one surprise: a planner may ask twice at most; what it would ask after that is a plan without tasks, a fault.

use super::{Effect, Goal, OrderId, State, Voice, done, plans::PlanAnswer, refuse};
use crate::{
    model::{Exchange, Fault, GoalEnd, GoalId, GoalPhase, plan::Maker, text},
    orchestrator::plan::{self, cost},
};

/// How often a planner may ask about one goal.
const ASKS: usize = 2;
/// Bytes of an answer.
const ANSWER: usize = 20_000;
/// Tasks of which it is said who would do them.
const SHOWN: usize = 8;

impl Goal {
    /// Whether its planner waits for an answer.
    pub fn asks(&self) -> bool {
        matches!(self.phase, GoalPhase::Asking { .. })
    }

    /// What its planner wants to know, where it waits for an answer.
    pub fn questions(&self) -> &[String] {
        self.talk.last().filter(|_| self.asks()).map_or(&[], |exchange| &exchange.questions)
    }

    /// The goal in words, with what was asked and said about it since.
    pub fn told(&self) -> String {
        let mut told = self.text.clone();
        for Exchange { questions, answer } in &self.talk {
            if let Some(answer) = answer {
                let asked: Vec<String> = questions.iter().map(|question| format!("- {question}")).collect();
                told.extend(["\n\n", plan::ASKED, "\n", &asked.join("\n"), "\n", plan::TOLD, " ", answer]);
            }
        }
        told
    }
}

impl State {
    /// Asks the planner.
    pub(super) fn ask_plan(
        &self,
        id: &GoalId,
        round: u32,
        repair: Option<(String, Vec<Fault>)>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(goal) = self.goals.get(id) else { return };
        let (text, follows) = (goal.told(), goal.terms.follows.clone());
        effects.push(Effect::Plan { goal: id.clone(), text, round, repair, follows });
    }

    /// Whether the planner asks instead of planning; then the goal waits for its answer.
    pub(super) fn hears_questions(&mut self, id: &GoalId, answer: &PlanAnswer<'_>) -> bool {
        let questions = plan::questions(answer.text);
        let Some(goal) = self.goals.get_mut(id) else { return false };
        if questions.is_empty() || goal.talk.len() >= ASKS {
            return false;
        }
        goal.revise(Maker::Planner, None, Some(answer), &[]);
        goal.phase = GoalPhase::Asking { round: answer.round };
        goal.faults.clear();
        let text = format!("{id} asks: {}", questions.join(" "));
        goal.talk.push(Exchange { questions, answer: None });
        self.say(Voice::Plan, Some(id.clone()), text);
        true
    }

    pub(super) fn answer_questions(&mut self, order: OrderId, id: &GoalId, words: &str, effects: &mut Vec<Effect>) {
        let words = text::scrub(words).trim().to_owned();
        let Some(goal) = self.goals.get_mut(id) else {
            return refuse(effects, order, format!("there is no goal {id}"));
        };
        let GoalPhase::Asking { round } = goal.phase else {
            return refuse(effects, order, format!("{id} asks nothing: it is {}", goal.phase.word()));
        };
        if words.is_empty() {
            return refuse(effects, order, "the answer is empty");
        }
        let words = text::clip(&words, ANSWER).into_owned();
        if let Some(open) = goal.talk.last_mut() {
            open.answer = Some(words.clone());
        }
        goal.phase = GoalPhase::Planning { round };
        done(effects, order, format!("{id} is being planned with the answer"), vec![id.to_string()]);
        self.say(Voice::You, Some(id.clone()), words);
        self.ask_plan(id, round, None, effects);
    }

    /// Why nothing can follow up on this goal; `None` where it can.
    pub(super) fn no_follow_up(&self, id: &GoalId) -> Option<String> {
        match self.goals.get(id) {
            None => Some(format!("there is no goal {id} to follow up on")),
            Some(goal) => match &goal.phase {
                GoalPhase::Ended {
                    end: GoalEnd::Done | GoalEnd::Partial | GoalEnd::Failed | GoalEnd::Cancelled,
                    ..
                } if goal.report.is_some() => None,
                GoalPhase::Ended { .. } => {
                    Some(format!("{id} has no report to follow up on: it is {}", goal.phase.word()))
                }
                GoalPhase::Planning { .. }
                | GoalPhase::Asking { .. }
                | GoalPhase::AwaitingApproval
                | GoalPhase::Running
                | GoalPhase::Deciding
                | GoalPhase::Synthesising => Some(format!("{id} has not ended: it is {}", goal.phase.word())),
            },
        }
    }

    /// Says who would do what, where only that was asked.
    pub(super) fn say_who(&mut self, id: &GoalId) {
        let Some(goal) = self.goals.get(id) else { return };
        let Some(plan) = &goal.plan else { return };
        let rules = self.plan_rules(Some(goal));
        let mut lines: Vec<String> = plan
            .tasks
            .iter()
            .take(SHOWN)
            .map(|task| {
                let mut facts = vec![rules.model_of(task).to_owned()];
                facts.extend(task.estimates.minutes.map(|minutes| format!("{minutes} min")));
                facts.extend(cost::usd(task, &rules).map(cost::usd_text));
                format!("{} would do: {} ({})", task.worker, task.title, facts.join(", "))
            })
            .collect();
        if plan.tasks.len() > SHOWN {
            lines.push(format!("and {} more: podium plan {id}", plan.tasks.len() - SHOWN));
        }
        lines.push(format!("why: {}", plan.summary));
        for line in lines {
            self.say(Voice::Plan, Some(id.clone()), line);
        }
    }
}
