//! What lies over the stage: a stack of one enum.

use serde::{Deserialize, Serialize};

use crate::{
    model::{AgentName, AskId, GoalId, Reply, TaskRef},
    room::Order,
};

/// One thing over the stage.
#[derive(Debug, Clone, PartialEq)]
pub enum Popup {
    /// Help.
    Help {
        /// First row shown.
        scroll: usize,
    },
    /// Find a verb.
    Palette {
        /// What was typed.
        query: String,
        /// Rows of [`super::action::VERBS`] that fit it, best first.
        hits: Vec<usize>,
        /// Which of them is under the hand.
        selected: usize,
    },
    /// How to leave.
    Leave {
        /// Stop everything is under the hand, not detach.
        stop: bool,
    },
    /// A question before something is destroyed.
    Confirm {
        /// It names its object.
        question: String,
        /// What is ordered on yes.
        orders: Vec<Order>,
    },
    /// A plan.
    Plan {
        /// Of which goal.
        goal: GoalId,
        /// Which of its tasks is under the hand.
        selected: usize,
    },
    /// A task.
    Task {
        /// Which.
        task: TaskRef,
        /// First row shown.
        scroll: usize,
    },
    /// An agent.
    Agent {
        /// Which.
        agent: AgentName,
        /// First row shown.
        scroll: usize,
        /// How the login in its home stands, once that was looked at; `Err` where it needs a person.
        login: Option<Result<String, String>>,
    },
    /// A file: a report, a result, what an agent made.
    Document {
        /// The heading.
        title: String,
        /// Which.
        document: Document,
        /// The goal it is the report of.
        goal: Option<GoalId>,
        /// Its text, or why it cannot be read; `None` until it has been read.
        text: Option<Result<String, String>>,
        /// First row shown.
        scroll: usize,
    },
    /// What lies on the disk of a task.
    Files {
        /// Of which.
        task: TaskRef,
        /// Which of the files is under the hand.
        selected: usize,
    },
    /// What an agent asks for.
    Permit {
        /// Which request.
        ask: AskId,
        /// First row shown.
        scroll: usize,
        /// Where it is a question: how far it is answered.
        reply: Option<Replying>,
    },
    /// What was ordered lately.
    Acts {
        /// First row shown.
        scroll: usize,
    },
    /// Everything that waits for a person.
    Inbox {
        /// Which of it is under the hand.
        selected: usize,
    },
    /// How a task starts again.
    Retry {
        /// Which; several that are marked.
        tasks: Vec<TaskRef>,
        /// How they can.
        ways: Vec<Way>,
        /// Which of them is under the hand.
        selected: usize,
    },
    /// A search is being typed.
    Search {
        /// What was typed.
        query: String,
        /// In the tasks, not in the log.
        tasks: bool,
    },
    /// A search through all logs.
    Find {
        /// What was typed.
        query: String,
        /// Which hit is under the hand; the newest is the first.
        selected: usize,
    },
}

/// A question as far as it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replying {
    /// Which of its choices is under the hand, counted through all of its questions.
    pub row: usize,
    /// One for each question.
    pub replies: Vec<Reply>,
}

/// A way to start a task again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// As it was.
    Same,
    /// With another text.
    Edit,
    /// Its last session is taken up again.
    Resume,
    /// As a new task of another agent.
    On(AgentName),
}

impl Popup {
    /// The first row shown, where it is a page that scrolls.
    pub fn scroll_mut(&mut self) -> Option<&mut usize> {
        match self {
            Self::Help { scroll }
            | Self::Task { scroll, .. }
            | Self::Agent { scroll, .. }
            | Self::Permit { scroll, reply: None, .. }
            | Self::Acts { scroll }
            | Self::Document { scroll, .. } => Some(scroll),
            Self::Palette { .. }
            | Self::Leave { .. }
            | Self::Confirm { .. }
            | Self::Plan { .. }
            | Self::Permit { reply: Some(_), .. }
            | Self::Files { .. }
            | Self::Inbox { .. }
            | Self::Retry { .. }
            | Self::Search { .. }
            | Self::Find { .. } => None,
        }
    }

    /// The row under the hand, where it is a list that is gone through by the usual keys.
    pub fn selected_mut(&mut self) -> Option<&mut usize> {
        match self {
            Self::Files { selected, .. }
            | Self::Inbox { selected }
            | Self::Permit { reply: Some(Replying { row: selected, .. }), .. } => Some(selected),
            Self::Help { .. }
            | Self::Palette { .. }
            | Self::Leave { .. }
            | Self::Confirm { .. }
            | Self::Plan { .. }
            | Self::Task { .. }
            | Self::Agent { .. }
            | Self::Permit { reply: None, .. }
            | Self::Acts { .. }
            | Self::Document { .. }
            | Self::Retry { .. }
            | Self::Search { .. }
            | Self::Find { .. } => None,
        }
    }
}

/// A file of the stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Document {
    /// By its path, relative to the stage.
    Path(String),
    /// A task's own file, wherever it lies now.
    Task {
        /// Which task's.
        task: TaskRef,
        /// Its name in the inbox, where that is not the task's.
        file: Option<String>,
    },
}
