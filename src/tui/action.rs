//! Every verb of the screen in one table: its keys, its sentence, where it applies.
//!
//! The hint line, help, the palette and `docs/keys.md` are made from [`VERBS`] and [`COMPOSER`]; a key that is not here
//! does nothing.

use std::fmt::Write;

/// What the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// The keys go to the next pane.
    FocusNext,
    /// The keys go to the pane before.
    FocusPrevious,
    /// Look at what is selected.
    Open,
    /// One step back: close what is open, end a search, leave the large view.
    Back,
    /// One row up.
    Up,
    /// One row down.
    Down,
    /// One page up.
    PageUp,
    /// One page down.
    PageDown,
    /// To the first row.
    Top,
    /// To the last row.
    Bottom,
    /// The stage: all panes.
    Stage,
    /// The tasks alone.
    TasksView,
    /// The plan of the goal.
    PlanView,
    /// The log alone.
    LogView,
    /// Limits and money alone.
    LimitsView,
    /// The focused pane alone, or all again.
    Zoom,
    /// Write a goal.
    Compose,
    /// Find a verb by its name.
    Palette,
    /// Help.
    Help,
    /// Search in the log, or narrow the tasks.
    Search,
    /// The next hit.
    SearchNext,
    /// The hit before.
    SearchPrevious,
    /// Follow the log's end, or stand still.
    Follow,
    /// Show only entries of some kinds.
    Kinds,
    /// Search in all logs on disk.
    SearchAll,
    /// Wrap long lines, or cut them.
    Wrap,
    /// Move cut lines to the left.
    Leftwards,
    /// Move cut lines to the right.
    Rightwards,
    /// The log as it lies on disk.
    Raw,
    /// Read more logs together.
    Broaden,
    /// The attempt before.
    AttemptBefore,
    /// The attempt after.
    AttemptAfter,
    /// Begin a range of lines, or give it up.
    Range,
    /// Mark a line.
    Mark,
    /// Go to the next mark.
    NextMark,
    /// Show the log in the pager.
    Pager,
    /// Show the log in the editor.
    Editor,
    /// Go to the next thing that waits for a person.
    NextNeed,
    /// Approve the plan.
    Approve,
    /// Deny the plan.
    Deny,
    /// Approve the plan up to a sum.
    ApproveUpTo,
    /// Change the plan's task.
    EditPlanned,
    /// Put a task into the plan.
    AddPlanned,
    /// Make one task of two.
    MergePlanned,
    /// Read the newest report.
    Report,
    /// Start the task again.
    Retry,
    /// Start the task again, and say how.
    RetryHow,
    /// Let a silent attempt live longer.
    Extend,
    /// A step more urgent.
    Sooner,
    /// A step less urgent.
    Later,
    /// Throw what is selected away.
    Remove,
    /// Take back what was done last.
    Undo,
    /// Show the dead letters alone.
    Dead,
    /// End the task or the goal.
    Cancel,
    /// Pause the agent, or let it go on.
    Pause,
    /// Copy what is looked at.
    Copy,
    /// The mouse works, or selects text as the terminal does.
    Mouse,
    /// Draw everything anew.
    Redraw,
    /// Leave.
    Leave,
}

/// Where a verb applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Everywhere.
    Everywhere,
    /// Goals and their plans.
    Goals,
    /// The selected task.
    Tasks,
    /// The selected agent, or the agent of the selected task.
    Agents,
    /// The log.
    Log,
    /// The log while it has the keys.
    Reading,
    /// The log while a search is on.
    Found,
    /// The views.
    Views,
}

impl Place {
    /// All, in the order of help.
    pub const ALL: [Self; 8] =
        [Self::Everywhere, Self::Goals, Self::Tasks, Self::Agents, Self::Log, Self::Reading, Self::Found, Self::Views];

    /// The heading in help.
    pub fn word(self) -> &'static str {
        match self {
            Self::Everywhere => "Everywhere",
            Self::Goals => "Goals and plans",
            Self::Tasks => "The selected task",
            Self::Agents => "The selected agent",
            Self::Log => "The log",
            Self::Reading => "The log, while it has the keys",
            Self::Found => "The log, while a search is on",
            Self::Views => "Views",
        }
    }
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Verb {
    /// What it does.
    pub action: Action,
    /// Its name in the palette and in the hint line.
    pub name: &'static str,
    /// Its keys, as [`super::keymap`] reads them.
    pub keys: &'static [&'static str],
    /// Where it applies.
    pub place: Place,
    /// One sentence.
    pub help: &'static str,
    /// In the hint line.
    pub hint: bool,
}

const fn verb(
    action: Action,
    name: &'static str,
    keys: &'static [&'static str],
    place: Place,
    hint: bool,
    help: &'static str,
) -> Verb {
    Verb { action, name, keys, place, help, hint }
}

/// Every verb. Where two share a key, the first that applies wins.
pub const VERBS: &[Verb] = &[
    verb(Action::FocusNext, "pane", &["tab"], Place::Everywhere, true, "The keys go to the next pane."),
    verb(
        Action::FocusPrevious,
        "pane before",
        &["shift-tab"],
        Place::Everywhere,
        false,
        "The keys go to the pane before.",
    ),
    verb(
        Action::Open,
        "open",
        &["enter"],
        Place::Everywhere,
        true,
        "Look at what is selected: task, agent, plan, report.",
    ),
    verb(
        Action::Retry,
        "retry",
        &["r"],
        Place::Tasks,
        true,
        "Start the task again; its result makes room for the next.",
    ),
    verb(
        Action::RetryHow,
        "retry how",
        &["R"],
        Place::Tasks,
        false,
        "Start the task again with another text, on another agent, or in its last session.",
    ),
    verb(
        Action::Extend,
        "extend",
        &["e"],
        Place::Tasks,
        false,
        "Let the running task be silent for 10 minutes longer before it is ended for that.",
    ),
    verb(
        Action::Sooner,
        "sooner",
        &["+"],
        Place::Tasks,
        false,
        "Make the task more urgent by a step: low, normal, high, critical. What runs is not interrupted.",
    ),
    verb(Action::Later, "later", &["-"], Place::Tasks, false, "Make the task less urgent by a step."),
    verb(
        Action::Remove,
        "remove",
        &["x", "delete"],
        Place::Tasks,
        false,
        "Throw the task away, or a file that was set aside; asks once. It stays in the trash for 14 days.",
    ),
    verb(
        Action::Undo,
        "undo",
        &["u"],
        Place::Everywhere,
        false,
        "For 30 seconds: take back a removal, or the cancel of a task that did not run.",
    ),
    verb(
        Action::Dead,
        "dead letters",
        &["D"],
        Place::Tasks,
        false,
        "Show only the tasks whose attempts are used up; r starts one with fresh attempts. Again: all tasks.",
    ),
    verb(
        Action::Cancel,
        "cancel",
        &["c"],
        Place::Tasks,
        true,
        "End the task with everything it started, or the goal with all its tasks; asks once.",
    ),
    verb(Action::Approve, "approve", &["a"], Place::Goals, true, "Approve the plan that waits; its tasks start."),
    verb(
        Action::Deny,
        "deny",
        &["d"],
        Place::Goals,
        false,
        "Deny the plan that waits; the goal ends there. Asks once.",
    ),
    verb(Action::Pager, "pager", &["o"], Place::Reading, false, "Read the log in $PAGER; podium waits and comes back."),
    verb(
        Action::Editor,
        "editor",
        &["E"],
        Place::Reading,
        false,
        "Open a copy of the log in $EDITOR; podium waits and comes back.",
    ),
    verb(
        Action::Range,
        "range",
        &["v"],
        Place::Reading,
        false,
        "A range of lines begins here: move to its other end, y copies it. Again: none.",
    ),
    verb(Action::Mark, "mark", &["b"], Place::Reading, false, "Mark the line, or take its mark away."),
    verb(Action::NextMark, "next mark", &["'"], Place::Reading, false, "The next mark, whichever log it is in."),
    verb(
        Action::Broaden,
        "more logs",
        &["A"],
        Place::Reading,
        false,
        "One attempt, all of the task, all of the agent, all there is, in the order of time; in turn.",
    ),
    verb(Action::AttemptBefore, "attempt before", &["["], Place::Reading, false, "The attempt before."),
    verb(Action::AttemptAfter, "attempt after", &["]"], Place::Reading, false, "The attempt after."),
    verb(Action::Wrap, "wrap", &["w"], Place::Reading, false, "Wrap long lines, or cut them at the edge."),
    verb(Action::Leftwards, "left", &["left", "h"], Place::Reading, false, "Cut lines: back to their beginning."),
    verb(Action::Rightwards, "right", &["right", "l"], Place::Reading, false, "Cut lines: further to the right."),
    verb(Action::Raw, "raw", &["J"], Place::Reading, false, "The log as it lies on disk, or as a person reads it."),
    verb(
        Action::ApproveUpTo,
        "approve up to",
        &["$"],
        Place::Goals,
        false,
        "Approve the plan that waits under a ceiling that you write: when it has cost that, nothing more starts.",
    ),
    verb(
        Action::EditPlanned,
        "edit",
        &["E"],
        Place::Goals,
        false,
        "In a plan: change the task under the hand as a text: agent, dependencies, priority, timeout, effort, model, words. \
         x leaves it out.",
    ),
    verb(Action::AddPlanned, "add", &["A"], Place::Goals, false, "In a plan: write one more task."),
    verb(
        Action::MergePlanned,
        "merge",
        &["M"],
        Place::Goals,
        false,
        "In a plan: make one task of the one under the hand and the one above it; asks once.",
    ),
    verb(Action::Report, "report", &["o"], Place::Goals, false, "Read the report of the newest goal that has one."),
    verb(Action::SearchNext, "next hit", &["n"], Place::Found, false, "The next hit; after the last comes the first."),
    verb(Action::SearchPrevious, "previous hit", &["N"], Place::Found, false, "The hit before."),
    verb(
        Action::NextNeed,
        "needs you",
        &["n"],
        Place::Everywhere,
        true,
        "Go to the next thing that waits for a person: a task that asks, a plan to approve, a failed task.",
    ),
    verb(
        Action::Pause,
        "pause",
        &["p"],
        Place::Agents,
        true,
        "Start nothing more on this agent, or go on; where its account waits for your word, let that go on. What runs goes on running. In the limits: the same for an account.",
    ),
    verb(
        Action::Search,
        "search",
        &["/"],
        Place::Log,
        true,
        "Search the log by regular expression; in the tasks, show only those that hold the text, or stand so: `is:dead`.",
    ),
    verb(
        Action::SearchAll,
        "search all logs",
        &["S"],
        Place::Log,
        false,
        "Search every log on disk, all agents and attempts, as you type; enter opens the log at the hit.",
    ),
    verb(Action::Follow, "follow", &["f"], Place::Log, false, "Follow the log's end, or stand still."),
    verb(
        Action::Kinds,
        "kinds",
        &["t"],
        Place::Log,
        false,
        "Everything, what is said, tools, sub-agents, errors; in turn.",
    ),
    verb(
        Action::Compose,
        "goal",
        &["g", "i"],
        Place::Goals,
        true,
        "Write a goal in plain words. `@marie ...` makes it one task for marie.",
    ),
    verb(Action::Palette, "commands", &[":"], Place::Everywhere, true, "Find a verb by its name."),
    verb(Action::Help, "help", &["?", "f1"], Place::Everywhere, true, "This page."),
    verb(
        Action::Leave,
        "leave",
        &["q", "ctrl-c"],
        Place::Everywhere,
        true,
        "Leave: the agents go on (enter), or everything stops. Asks first.",
    ),
    verb(Action::Back, "back", &["esc"], Place::Everywhere, false, "Close what is open, end a search, show all panes."),
    verb(Action::Up, "up", &["up", "k"], Place::Everywhere, false, "One row up."),
    verb(Action::Down, "down", &["down", "j"], Place::Everywhere, false, "One row down."),
    verb(Action::PageUp, "page up", &["pgup", "ctrl-b"], Place::Everywhere, false, "One page up."),
    verb(Action::PageDown, "page down", &["pgdn", "ctrl-f", "space"], Place::Everywhere, false, "One page down."),
    verb(Action::Top, "first", &["home"], Place::Everywhere, false, "To the first row."),
    verb(Action::Bottom, "last", &["end", "G"], Place::Everywhere, false, "To the last row; the log follows its end."),
    verb(Action::Stage, "stage", &["1"], Place::Views, false, "All panes."),
    verb(Action::TasksView, "tasks", &["2"], Place::Views, false, "The tasks alone."),
    verb(Action::PlanView, "plan", &["3"], Place::Views, false, "The plan of the newest goal."),
    verb(Action::LogView, "log", &["4"], Place::Views, false, "The log alone."),
    verb(Action::LimitsView, "limits", &["5"], Place::Views, false, "Limits and money alone."),
    verb(Action::Zoom, "zoom", &["z"], Place::Views, false, "The focused pane alone, or all panes again."),
    verb(
        Action::Copy,
        "copy",
        &["y"],
        Place::Everywhere,
        false,
        "Copy what is looked at: report, result, a task's name; in the log a range, a hit, or what is seen, also into a file.",
    ),
    verb(
        Action::Mouse,
        "mouse",
        &["m"],
        Place::Everywhere,
        false,
        "The mouse moves focus and scrolls; again: it selects text as the terminal does.",
    ),
    verb(Action::Redraw, "redraw", &["ctrl-l"], Place::Everywhere, false, "Clear the terminal and draw everything."),
];

/// Keys while a goal is written; every other key writes.
pub const COMPOSER: &[(&str, &str)] = &[
    ("enter, ctrl-enter", "Send."),
    ("alt-enter, ctrl-j", "A new line."),
    ("up, down", "At the first and last line: what was sent before."),
    ("ctrl-u, ctrl-w, ctrl-k", "Cut to the line's head, the word before, to the line's end."),
    ("ctrl-z", "Undo."),
    ("tab", "The keys go to the next pane; the text stays."),
    ("esc", "The same."),
];

/// The verb of an action.
pub fn of(action: Action) -> Option<&'static Verb> {
    VERBS.iter().find(|v| v.action == action)
}

/// `docs/keys.md`.
pub fn markdown() -> String {
    let mut out = String::from(
        "# Keys\n\nMade from the table in `src/tui/action.rs`; a test compares. `UPDATE_DOCS=1 cargo nextest run keys_md` writes it.\n",
    );
    for place in Place::ALL {
        // Writing into a string cannot fail.
        let _ok = write!(out, "\n## {}\n\n| Key | Verb | What it does |\n|---|---|---|\n", place.word());
        for verb in VERBS.iter().filter(|v| v.place == place) {
            let keys: Vec<_> = verb.keys.iter().map(|k| format!("`{k}`")).collect();
            let _ok = writeln!(out, "| {} | {} | {} |", keys.join(" "), verb.name, verb.help);
        }
    }
    out.push_str("\n## While a goal is written\n\n| Key | What it does |\n|---|---|\n");
    for (keys, help) in COMPOSER {
        let keys: Vec<_> = keys.split(", ").map(|k| format!("`{k}`")).collect();
        let _ok = writeln!(out, "| {} | {help} |", keys.join(" "));
    }
    out.push_str("\nPasted text goes into the goal as text, never as keys.\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::keymap::Chord;

    #[test]
    fn every_key_can_be_read_and_no_key_has_two_meanings_in_one_place() {
        let mut seen = std::collections::HashSet::new();
        for verb in VERBS {
            for key in verb.keys {
                let chord = Chord::parse(key).unwrap_or_else(|| panic!("{key}"));
                let special = matches!(verb.place, Place::Found | Place::Reading);
                assert!(seen.insert((chord, special)), "{key} twice");
            }
        }
    }

    #[test]
    fn keys_md_is_what_the_table_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/keys.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let there = std::fs::read_to_string(path).unwrap_or_default();
        assert!(there == markdown(), "docs/keys.md differs: UPDATE_DOCS=1 cargo nextest run keys_md");
    }
}
