//! Where everything is, from the size of the screen alone.
//!
//! Its one surprise: keys need sizes too (a page, the end of a list), so this is worked out again for each key and each
//! frame and stored nowhere.

use ratatui::layout::Rect;
use serde::{Deserialize, Serialize};

/// A pane of the stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pane {
    /// The agents.
    Agents,
    /// The tasks.
    Tasks,
    /// Limits and money.
    Limits,
    /// The log of what is selected.
    Log,
    /// The orchestrator's lines.
    Orchestrator,
}

impl Pane {
    /// All, in the order of the tab key.
    pub const ALL: [Self; 5] = [Self::Agents, Self::Tasks, Self::Log, Self::Limits, Self::Orchestrator];

    /// The pane before or after, going round.
    #[must_use]
    pub fn step(self, forward: bool) -> Self {
        let at = Self::ALL.iter().position(|p| *p == self).unwrap_or_default();
        let n = Self::ALL.len();
        let next = if forward { at + 1 } else { at + n - 1 } % n;
        Self::ALL.get(next).copied().unwrap_or(self)
    }
}

/// The smallest screen that shows anything but a sentence.
pub const FLOOR: (u16, u16) = (60, 16);
/// The smallest screen that shows all panes at once.
pub const WIDE: (u16, u16) = (100, 30);

/// The rectangles of one frame. A pane that is not shown has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Layout {
    /// The first line.
    pub header: Rect,
    /// One line of agents, where their pane is not shown.
    pub agents_strip: Option<Rect>,
    /// One line of limits, where their pane is not shown.
    pub limits_strip: Option<Rect>,
    /// The agents.
    pub agents: Option<Rect>,
    /// The tasks.
    pub tasks: Option<Rect>,
    /// Limits and money.
    pub limits: Option<Rect>,
    /// The log.
    pub log: Option<Rect>,
    /// The orchestrator's lines; with a frame when `framed`.
    pub orchestrator: Option<Rect>,
    /// The plan that waits; one line or none.
    pub ask: Rect,
    /// The composer.
    pub composer: Rect,
    /// The last line.
    pub hint: Rect,
    /// All panes are shown: the composer lies inside the orchestrator's frame.
    pub all: bool,
}

impl Layout {
    /// Where a pane is.
    pub fn pane(&self, pane: Pane) -> Option<Rect> {
        match pane {
            Pane::Agents => self.agents,
            Pane::Tasks => self.tasks,
            Pane::Limits => self.limits,
            Pane::Log => self.log,
            Pane::Orchestrator => self.orchestrator,
        }
    }
}

/// How far the operator has moved the borders between panes, from where they are by themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shape {
    /// Columns more for the left side.
    pub left: i16,
    /// Rows more for the tasks.
    pub tasks: i16,
}

/// What the layout depends on besides the size.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// The pane with the keys.
    pub focus: Pane,
    /// Only that one.
    pub zoom: bool,
    /// Rows of the text in the composer.
    pub composer: u16,
    /// The keys write there: it may take more of the screen.
    pub writing: bool,
    /// A plan waits.
    pub ask: bool,
    /// Rows the agents' pane would like.
    pub agents: u16,
    /// Where the operator wants the borders.
    pub shape: Shape,
}

/// Lays the screen out; `None` when it is too small.
pub fn of((width, height): (u16, u16), wanted: Wanted) -> Option<Layout> {
    if width < FLOOR.0 || height < FLOOR.1 {
        return None;
    }
    let row = |y: u16, rows: u16| Rect::new(0, y, width, rows);
    let mut layout = Layout { header: row(0, 1), hint: row(height - 1, 1), ..Layout::default() };
    let alone = wanted.zoom || width < WIDE.0 || height < WIDE.1;
    let most = match (wanted.writing, alone) {
        (false, _) => height / 5,
        (true, false) => height / 3,
        (true, true) => height / 2,
    };
    let composer = wanted.composer.clamp(1, most.max(1));
    let ask = u16::from(wanted.ask);
    if alone {
        layout.agents_strip = Some(row(1, 1));
        layout.limits_strip = Some(row(2, 1));
        layout.composer = row(height - 1 - composer, composer);
        layout.ask = row(height - 1 - composer - ask, ask);
        let pane = Some(row(3, height - 1 - composer - ask - 3));
        match wanted.focus {
            Pane::Agents => layout.agents = pane,
            Pane::Tasks => layout.tasks = pane,
            Pane::Limits => layout.limits = pane,
            Pane::Log => layout.log = pane,
            Pane::Orchestrator => layout.orchestrator = pane,
        }
        return Some(layout);
    }
    layout.all = true;
    let lines = (height / 10).clamp(2, 8);
    let below = 2 + lines + ask + composer;
    let body = height - 2 - below;
    let usual: u16 = if width >= 140 { 40 } else { 36 };
    // Both sides keep enough for a row that says something.
    let left = usual.saturating_add_signed(wanted.shape.left).clamp(24, width - 40);
    let right = width - left;
    let agents = wanted.agents.clamp(5, body.saturating_sub(11).max(5));
    layout.agents = Some(Rect::new(0, 1, left, agents));
    layout.limits = Some(Rect::new(0, 1 + agents, left, body - agents));
    let tasks = (body * 11 / 20).saturating_add_signed(wanted.shape.tasks).clamp(5, (body - 5).max(5));
    layout.tasks = Some(Rect::new(left, 1, right, tasks));
    layout.log = Some(Rect::new(left, 1 + tasks, right, body - tasks));
    let top = 1 + body;
    layout.orchestrator = Some(row(top, below));
    layout.ask = Rect::new(1, top + 1 + lines, width - 2, ask);
    layout.composer = Rect::new(1, top + 1 + lines + ask, width - 2, composer);
    Some(layout)
}

/// All but the first line and the last: where an agent's own CLI is.
pub fn between((width, height): (u16, u16)) -> Rect {
    Rect::new(0, 1, width, height.saturating_sub(2)).intersection(Rect::new(0, 0, width, height))
}

/// The largest window over the stage that holds a page of text.
pub fn page((width, height): (u16, u16)) -> Rect {
    if width < WIDE.0 {
        // What would be left of the stage beside it is not worth its columns.
        return between((width, height));
    }
    let w = width.saturating_sub(4).min(110);
    let h = height.saturating_sub(2);
    Rect::new((width - w) / 2, (height - h) / 2, w, h)
}

/// A small window of this many columns and rows, frame included.
pub fn dialog((width, height): (u16, u16), columns: u16, rows: u16) -> Rect {
    let (w, h) = (columns.min(width), rows.min(height));
    Rect::new((width - w) / 2, (height - h) / 3, w, h)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_overlaps_and_nothing_leaves_the_screen(
            width in 1_u16..300, height in 1_u16..200, composer in 0_u16..200, writing: bool, agents in 0_u16..400,
            ask: bool, zoom: bool, focus in 0_usize..5, left in -300_i16..300, tasks in -200_i16..200,
        ) {
            let shape = Shape { left, tasks };
            let wanted = Wanted { focus: Pane::ALL[focus], zoom, composer, writing, ask, agents, shape };
            let screen = Rect::new(0, 0, width, height);
            if let Some(layout) = of((width, height), wanted) {
                let mut panes: Vec<Rect> = Pane::ALL.iter().filter_map(|p| layout.pane(*p)).collect();
                panes.extend([layout.header, layout.hint]);
                panes.extend(layout.agents_strip);
                panes.extend(layout.limits_strip);
                if !layout.all {
                    panes.extend([layout.composer, layout.ask]);
                }
                for (n, a) in panes.iter().enumerate() {
                    prop_assert_eq!(a.intersection(screen), *a);
                    for b in &panes[..n] {
                        prop_assert!(a.intersection(*b).is_empty(), "{:?} {:?}", a, b);
                    }
                }
                prop_assert!(!layout.composer.is_empty());
            } else {
                prop_assert!(width < FLOOR.0 || height < FLOOR.1);
            }
            prop_assert_eq!(page((width, height)).intersection(screen), page((width, height)));
            prop_assert_eq!(dialog((width, height), 50, 9).intersection(screen), dialog((width, height), 50, 9));
        }
    }
}
