//! Every verb of the screen in one table: its keys, its sentence, where it applies.
//!
//! The hint line, help, the palette and `docs/keys.md` are made from [`VERBS`] and [`COMPOSER`]; a key that is not here
//! does nothing.

use std::fmt::Write;

mod table;

pub use table::VERBS;

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
    /// The left column wider.
    Wider,
    /// The left column narrower.
    Narrower,
    /// The tasks taller.
    Taller,
    /// The tasks shorter.
    Shorter,
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
    /// Everything that waits for a person.
    Inbox,
    /// Go to what this waits for.
    Blocker,
    /// Mark a task.
    MarkTask,
    /// Mark all tasks that are shown, or none.
    MarkAll,
    /// Put off what waits.
    Snooze,
    /// Show again what was put off.
    Unsnooze,
    /// What was ordered lately.
    Acts,
    /// Sort the tasks by something else.
    Sort,
    /// Put the tasks into groups.
    Group,
    /// Fold a group, or what is behind a task of a plan.
    Fold,
    /// Unfold it.
    Unfold,
    /// A plan without what has ended, or whole.
    HideEnded,
    /// The graph of a plan as wide as the page, or beside its words.
    WideGraph,
    /// A plan over time, or as a graph.
    Timeline,
    /// What lies on the disk of a task.
    Files,
    /// Approve the plan.
    Approve,
    /// Deny the plan.
    Deny,
    /// Take an answer to what an agent wants to know, or take it back.
    Choose,
    /// Answer what an agent wants to know in own words.
    OwnWords,
    /// Allow what an agent asks for, for the rest of its task.
    Always,
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
    /// Follow up on a goal that has ended.
    FollowUp,
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
    /// Show the trash alone.
    Trash,
    /// End the task or the goal.
    Cancel,
    /// Pause the agent, or let it go on.
    Pause,
    /// Pause the task, or let it go on.
    PauseTask,
    /// Start the agent's workers.
    StartAgent,
    /// End the agent's workers.
    StopAgent,
    /// End the agent's workers after what they run.
    DrainAgent,
    /// Start the agent's workers anew.
    Restart,
    /// Open the agent's own CLI in its home.
    Attach,
    /// End the CLI that is open in the pane.
    CloseAttached,
    /// Look back at what it has printed.
    AttachedUp,
    /// And forward again.
    AttachedDown,
    /// Copy what is looked at.
    Copy,
    /// The mouse works, or selects text as the terminal does.
    Mouse,
    /// Let the tape play, or hold it.
    Play,
    /// One event on.
    StepOn,
    /// One event back.
    StepBack,
    /// Some seconds on.
    SeekOn,
    /// Some seconds back.
    SeekBack,
    /// Play twice as fast.
    Faster,
    /// Play half as fast.
    Slower,
    /// To the tape's beginning.
    TapeStart,
    /// To the tape's end.
    TapeEnd,
    /// Draw everything anew.
    Redraw,
    /// Leave.
    Leave,
}

/// Where a verb applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// Everywhere.
    Everywhere,
    /// Goals and their plans.
    Goals,
    /// The selected task.
    Tasks,
    /// The tasks' table, while it has the keys.
    Listing,
    /// A task's page, or an agent's.
    Page,
    /// An agent's page.
    AgentPage,
    /// A plan's page.
    Planning,
    /// What an agent asks for.
    Asking,
    /// What an agent wants to know.
    Choosing,
    /// The selected agent, or the agent of the selected task.
    Agents,
    /// An agent's own CLI, while it has the keys.
    Attached,
    /// The log.
    Log,
    /// The log while it has the keys.
    Reading,
    /// The log while a search is on.
    Found,
    /// The views.
    Views,
    /// A run that is over.
    Replay,
}

impl Place {
    /// All, in the order of help.
    pub const ALL: [Self; 16] = [
        Self::Everywhere,
        Self::Asking,
        Self::Choosing,
        Self::Goals,
        Self::Planning,
        Self::Tasks,
        Self::Listing,
        Self::Page,
        Self::Agents,
        Self::AgentPage,
        Self::Attached,
        Self::Log,
        Self::Reading,
        Self::Found,
        Self::Views,
        Self::Replay,
    ];

    /// Whether its verbs apply only while it has the keys, and then before all others.
    pub fn has_keys_of_its_own(self) -> bool {
        match self {
            Self::Asking
            | Self::Choosing
            | Self::Listing
            | Self::Page
            | Self::AgentPage
            | Self::Attached
            | Self::Planning
            | Self::Reading
            | Self::Found
            | Self::Replay => true,
            Self::Everywhere | Self::Goals | Self::Tasks | Self::Agents | Self::Log | Self::Views => false,
        }
    }

    /// The heading in help.
    pub fn word(self) -> &'static str {
        match self {
            Self::Everywhere => "Everywhere",
            Self::Goals => "Goals and plans",
            Self::Tasks => "The selected task",
            Self::Listing => "The tasks' table, while it has the keys",
            Self::Page => "A task's or an agent's page",
            Self::AgentPage => "An agent's page",
            Self::Planning => "A plan",
            Self::Asking => "The inbox, and what an agent asks for",
            Self::Choosing => "What an agent wants to know",
            Self::Agents => "The selected agent",
            Self::Attached => "An agent's own CLI, which has all other keys",
            Self::Log => "The log",
            Self::Reading => "The log, while it has the keys",
            Self::Found => "The log, while a search is on",
            Self::Views => "Views",
            Self::Replay => "A replay",
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

impl Verb {
    /// Its name in the operator's table of keys.
    pub fn id(&self) -> String {
        self.name.replace(' ', "-")
    }
}

/// Keys while a goal is written; every other key writes.
pub const COMPOSER: &[(&str, &str)] = &[
    ("enter, ctrl-enter", "Send."),
    ("alt-enter, ctrl-j", "A new line."),
    ("up, down", "At the first and last line: what was sent before."),
    ("ctrl-u, ctrl-w, ctrl-k", "Cut to the line's head, the word before, to the line's end."),
    ("ctrl-z, alt-z", "Undo, and do it after all."),
    ("ctrl-r", "Search what was sent before, also by former screens of this stage."),
    ("ctrl-t", "Templates: templates/*.md of the stage, and beside your podium.toml; {gaps} are for you to fill."),
    ("@", "First: one task for that agent. Later: a file of the stage; tab completes it."),
    ("ctrl-o", "The text in $EDITOR; podium waits and takes it back."),
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
        "# Keys\n\nMade from the table in `src/tui/action.rs`; a test compares. `UPDATE_DOCS=1 cargo nextest run keys_md` writes it.\n\n\
         Every key but Ctrl+C can be another: `[keys]` in `screen.toml` beside your `podium.toml` (`podium doctor` says where; \
         [a file to copy](../assets/screen.toml)) names verbs as here, with `-` for a blank: `retry-how = \"f5\"`.\n",
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
                let place = verb.place.has_keys_of_its_own().then_some(verb.place);
                assert!(seen.insert((chord, place)), "{key} twice");
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
