//! What lies over the stage: a stack of one enum.

use crate::{
    model::{AgentName, GoalId, TaskRef},
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
        order: Order,
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
    },
    /// A goal's report.
    Report {
        /// Of which goal.
        goal: GoalId,
        /// The file, relative to the stage.
        path: String,
        /// Its text, or why it cannot be read; `None` until it has been read.
        text: Option<Result<String, String>>,
        /// First row shown.
        scroll: usize,
    },
    /// How a task starts again.
    Retry {
        /// Which.
        task: TaskRef,
        /// How it can.
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
            | Self::Report { scroll, .. } => Some(scroll),
            Self::Palette { .. }
            | Self::Leave { .. }
            | Self::Confirm { .. }
            | Self::Plan { .. }
            | Self::Retry { .. }
            | Self::Search { .. }
            | Self::Find { .. } => None,
        }
    }
}
