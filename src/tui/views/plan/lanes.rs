//! A graph as lines of text: one row per task, a lane for each task whose dependents are still to come.
//!
//! Owns which lane a task gets and which strokes its row has. Must not know plans. Its one surprise: a row has only one
//! task, so every turned or branching stroke in it is an arrow into that task; a lane that is only passed by stays `│`.
//! What is wider than the screen lets it be is looked at through a window around the task under the hand.

use crate::orchestrator::graph::Graph;

/// The widest that lanes usually are: a wider graph has a window that goes with the hand.
pub(super) const WIDEST: usize = 24;

/// Up to so many lanes there is a gap between them.
const ROOMY: usize = 8;

/// The lanes of a row, and of a row of text below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lanes {
    /// With its task.
    pub(super) here: String,
    /// Below it.
    pub(super) below: String,
    /// The column of its task.
    pub(super) mark: usize,
}

/// The columns of a graph that are shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    from: usize,
    wide: usize,
}

impl Window {
    /// So many columns around a task's own; all where there are no more.
    pub(super) fn around(lanes: &Lanes, wide: usize) -> Self {
        let whole = lanes.here.chars().count();
        let wide = wide.min(whole);
        Self { from: lanes.mark.saturating_sub(wide / 2).min(whole - wide), wide }
    }

    /// What is seen of a row; an arrow where there is more.
    pub(super) fn cut(self, row: &str) -> String {
        let whole = row.chars().count();
        let last = (self.from + self.wide).min(whole);
        let seen = row.chars().enumerate().skip(self.from).take(self.wide).map(|(at, cell)| match at {
            at if at == self.from && self.from > 0 => '‹',
            at if at + 1 == last && last < whole => '›',
            _ => cell,
        });
        seen.collect()
    }
}

/// A row before it is cut: its strokes, and the columns between which a stroke goes across.
struct Row {
    cells: Vec<char>,
    across: (usize, usize),
    column: usize,
}

/// Draws tasks in this order, which has each behind all that it needs; needs that are not in it are not drawn.
pub(super) fn draw(order: &[usize], graph: &Graph, critical: &[usize]) -> Vec<Lanes> {
    let mut shown = vec![false; graph.len()];
    for &task in order {
        shown[task] = true;
    }
    let mut waiting: Vec<usize> =
        (0..graph.len()).map(|i| graph.dependents(i).iter().filter(|d| shown[**d]).count()).collect();
    let mut lanes: Vec<Option<usize>> = Vec::new();
    let mut rows: Vec<(Row, Vec<bool>)> = Vec::new();
    for &task in order {
        let from: Vec<usize> =
            (0..lanes.len()).filter(|c| lanes[*c].is_some_and(|of| graph.needs(task).contains(&of))).collect();
        for &need in graph.needs(task).iter().filter(|need| shown[**need]) {
            waiting[need] -= 1;
        }
        let ends = |c: usize| lanes[c].is_some_and(|of| waiting[of] == 0);
        let column = from.iter().copied().find(|c| ends(*c)).unwrap_or_else(|| {
            // Under a stroke that goes on downwards it would look as if it came after that.
            let hangs = |c: usize| rows.last().is_some_and(|(row, _)| goes_down(row, c));
            let above = rows.last().map_or(0, |(row, _)| row.cells.len());
            let free = |c: &usize| lanes.get(*c).copied().flatten().is_none() && !hangs(*c);
            (0..lanes.len().max(above)).find(free).unwrap_or(lanes.len().max(above))
        });
        let first = from.first().copied().unwrap_or(column).min(column);
        let last = from.last().copied().unwrap_or(column).max(column);
        let width = lanes.len().max(column + 1);
        let cells = (0..width).map(|c| {
            let within = first < c && c < last;
            if c == column {
                return if critical.contains(&task) { '●' } else { '○' };
            }
            match (from.contains(&c), lanes.get(c).copied().flatten().is_some()) {
                (true, _) => match (ends(c), within, c > column) {
                    (true, true, _) => '┴',
                    (false, true, _) => '┼',
                    (true, false, true) => '╯',
                    (false, false, true) => '┤',
                    (true, false, false) => '╰',
                    (false, false, false) => '├',
                },
                (false, true) => '│',
                (false, false) if within => '─',
                (false, false) => ' ',
            }
        });
        let cells = cells.collect();
        for c in from {
            if lanes[c].is_some_and(|of| waiting[of] == 0) {
                lanes[c] = None;
            }
        }
        if lanes.len() <= column {
            lanes.resize(column + 1, None);
        }
        lanes[column] = (waiting[task] > 0).then_some(task);
        rows.push((Row { cells, across: (first, last), column }, lanes.iter().map(Option::is_some).collect()));
    }
    let width = rows.iter().map(|(row, below)| row.cells.len().max(below.len())).max().unwrap_or(0);
    rows.iter()
        .map(|(row, below)| {
            let below: Vec<char> = below.iter().map(|goes_on| if *goes_on { '│' } else { ' ' }).collect();
            let mark = if width <= ROOMY { row.column * 2 } else { row.column };
            Lanes { here: line(&row.cells, row.across, width), below: line(&below, (0, 0), width), mark }
        })
        .collect()
}

/// Whether the stroke at `column` goes on downwards.
fn goes_down(row: &Row, column: usize) -> bool {
    row.cells.get(column).is_some_and(|cell| matches!(cell, '│' | '├' | '┤' | '┼' | '○' | '●'))
}

fn line(cells: &[char], (first, last): (usize, usize), width: usize) -> String {
    let mut out = String::new();
    for c in 0..width {
        out.push(cells.get(c).copied().unwrap_or(' '));
        if width <= ROOMY && c + 1 < width {
            out.push(if first <= c && c < last { '─' } else { ' ' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Which edges somebody sees who follows the strokes with a finger.
    fn seen(order: &[usize], rows: &[Lanes], step: usize) -> BTreeSet<(usize, usize)> {
        let rows: Vec<Vec<char>> = rows.iter().map(|row| row.here.chars().step_by(step).collect()).collect();
        let at = |r: usize, c: usize| rows[r].get(c).copied().unwrap_or(' ');
        // Whose lane it is that comes down to here.
        let owner = |r: usize, c: usize| {
            let mut r = r;
            loop {
                r = r.checked_sub(1).expect("a lane begins at a task");
                match at(r, c) {
                    '○' | '●' => return order[r],
                    '│' | '├' | '┤' | '┼' => {}
                    other => panic!("a lane goes through {other:?}"),
                }
            }
        };
        let mut edges = BTreeSet::new();
        for (r, row) in rows.iter().enumerate() {
            for (c, cell) in row.iter().enumerate() {
                match cell {
                    '╯' | '╰' | '┴' | '┤' | '├' | '┼' => drop(edges.insert((owner(r, c), order[r]))),
                    '○' | '●' if r > 0 && matches!(at(r - 1, c), '│' | '├' | '┤' | '┼' | '○' | '●') => {
                        edges.insert((owner(r, c), order[r]));
                    }
                    _ => {}
                }
            }
        }
        edges
    }

    proptest! {
        #[test]
        fn the_strokes_say_what_the_graph_says(needs in proptest::collection::vec(proptest::collection::vec(0_usize..12, 0..4), 1..13)) {
            let needs: Vec<Vec<usize>> = needs.into_iter().enumerate().map(|(i, n)| n.into_iter().filter(|to| *to < i).collect()).collect();
            let graph = Graph::new(needs).unwrap();
            let order = super::super::chart::order(&graph, &vec![true; graph.len()]);
            let rows = draw(&order, &graph, &[]);
            let edges: BTreeSet<_> = (0..graph.len()).flat_map(|i| graph.needs(i).iter().map(move |n| (*n, i))).collect();
            let width = rows.iter().map(|row| row.here.chars().count()).max().unwrap_or(0);
            let roomy = rows.iter().all(|row| row.here.chars().skip(1).step_by(2).all(|c| matches!(c, ' ' | '─')));
            let step = if roomy && width > 1 { 2 } else { 1 };
            prop_assert_eq!(seen(&order, &rows, step), edges, "{:#?}", rows);
        }
    }

    /// A hundred tasks side by side, then one that needs all of them.
    fn fan() -> (Vec<usize>, Vec<Lanes>) {
        let needs = |i| if i == 99 { (0..99).collect() } else { Vec::new() };
        let order: Vec<usize> = (0..100).collect();
        let rows = draw(&order, &Graph::new((0..100).map(needs).collect()).unwrap(), &[]);
        (order, rows)
    }

    #[test]
    fn a_graph_of_a_hundred_lanes_says_all_its_edges() {
        let (order, rows) = fan();
        assert_eq!(seen(&order, &rows, 1), (0..99).map(|need| (need, 99)).collect());
    }

    #[test]
    fn the_window_goes_with_the_hand_and_shows_all_there_is_bit_by_bit() {
        let (_, rows) = fan();
        let mut found = vec![false; rows[98].here.chars().count()];
        for (n, row) in rows.iter().enumerate() {
            let window = Window::around(row, WIDEST);
            let shown: Vec<char> = window.cut(&row.here).chars().collect();
            assert!(shown.len() == WIDEST && matches!(shown[row.mark - window.from], '○' | '●'), "{n}: {shown:?}");
            // Each stroke of each row is seen from where the hand is somewhere.
            for (at, cell) in window.cut(&rows[98].here).chars().enumerate() {
                let whole = rows[98].here.chars().nth(window.from + at).unwrap();
                found[window.from + at] |= cell == whole;
                assert!(cell == whole || matches!(cell, '‹' | '›'));
            }
        }
        assert!(found.iter().all(|seen| *seen), "{found:?}");
        assert_eq!(
            Window::around(&rows[99], WIDEST).cut(&rows[99].here).chars().last(),
            Some('›'),
            "more to the right"
        );
    }
}
