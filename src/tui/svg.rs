//! A frame as a picture that any browser shows, in the columns of a terminal.
//!
//! Its one surprise: frames, gauges and bars are drawn as shapes and not as letters, because fonts leave gaps between
//! lines; and each piece of text says how long it is, so that a font of another width breaks no column.

use std::{collections::BTreeMap, fmt::Write as _};

use ratatui::{
    buffer::{Buffer, Cell},
    style::{Color, Modifier},
};

use super::{taste::colour, text};

/// A cell, in pixels.
const CELL: (u32, u32) = (8, 17);
/// Around the picture.
const MARGIN: u32 = 10;

/// The sixteen on a dark ground, ink and ground first.
const DARK: Paper = Paper {
    ink: (216, 222, 233),
    ground: (30, 34, 42),
    sixteen: [
        (30, 34, 42),
        (224, 108, 117),
        (152, 195, 121),
        (229, 192, 123),
        (97, 175, 239),
        (198, 140, 221),
        (96, 194, 204),
        (200, 206, 216),
        (118, 128, 146),
        (240, 130, 138),
        (175, 215, 145),
        (240, 210, 145),
        (130, 195, 250),
        (215, 165, 235),
        (125, 212, 222),
        (245, 248, 252),
    ],
};

type Rgb = (u8, u8, u8);
/// Left, top, width, height.
type Rect = [u32; 4];

/// Where the terminal's own colours come from.
struct Paper {
    ink: Rgb,
    ground: Rgb,
    sixteen: [Rgb; 16],
}

impl Paper {
    fn rgb(&self, color: Color, usual: Rgb) -> Rgb {
        if let Some(n) = colour::NAMES.iter().position(|(_, named)| *named == color) {
            return self.sixteen.get(n).copied().unwrap_or(usual);
        }
        colour::rgb(color).unwrap_or(usual)
    }

    /// Ink and ground of a cell.
    fn of(&self, cell: &Cell, ground: Rgb) -> (Rgb, Rgb) {
        let (mut ink, mut under) = (self.rgb(cell.fg, self.ink), self.rgb(cell.bg, ground));
        if cell.modifier.contains(Modifier::REVERSED) {
            (ink, under) = (under, ink);
        }
        if cell.modifier.contains(Modifier::DIM) {
            let half = |a: u8, b: u8| u8::try_from((u16::from(a) * 3 + u16::from(b) * 2) / 5).unwrap_or(a);
            ink = (half(ink.0, under.0), half(ink.1, under.1), half(ink.2, under.2));
        }
        (ink, under)
    }
}

/// Draws a frame. `title` is what a reader who sees no pictures is told.
pub fn svg(buffer: &Buffer, title: &str) -> String {
    let paper = &DARK;
    let (columns, lines) = (buffer.area.width, buffer.area.height);
    // A theme with a ground of its own has it everywhere.
    let ground = most(buffer).map_or(paper.ground, |color| paper.rgb(color, paper.ground));
    let (width, height) = (u32::from(columns) * CELL.0 + 2 * MARGIN, u32::from(lines) * CELL.1 + 2 * MARGIN);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         font-family=\"ui-monospace,'JetBrains Mono',Menlo,Consolas,'DejaVu Sans Mono',monospace\" font-size=\"13\">\n\
         <title>{}</title>\n<rect width=\"{width}\" height=\"{height}\" rx=\"6\" fill=\"{}\"/>\n",
        escaped(title),
        hex(ground)
    );
    let mut shapes: BTreeMap<Rgb, Vec<Rect>> = BTreeMap::new();
    let mut texts = String::new();
    for (row, cells) in (0_u32..).zip(buffer.content.chunks(usize::from(columns).max(1))) {
        let y = MARGIN + row * CELL.1;
        let mut piece: Option<Piece> = None;
        let mut skip = 0;
        for (column, cell) in (0_u32..).zip(cells) {
            if skip > 0 {
                skip -= 1;
                continue;
            }
            let wide = u32::try_from(text::width(cell.symbol())).unwrap_or(1).max(1);
            skip = wide - 1;
            let x = MARGIN + column * CELL.0;
            let (ink, under) = paper.of(cell, ground);
            if under != ground {
                rect(shapes.entry(under).or_default(), (x, y), (wide * CELL.0, CELL.1));
            }
            let shape = shapes.entry(ink).or_default();
            if drawn(shape, cell.symbol(), (x, y)) || cell.symbol().trim().is_empty() {
                let inside =
                    cell.symbol().trim().is_empty() && piece.as_ref().is_some_and(|p| p.style == style(cell, ink));
                if inside && let Some(piece) = &mut piece {
                    piece.push(cell.symbol(), wide);
                } else if let Some(piece) = piece.take() {
                    piece.draw(&mut texts, y);
                }
                continue;
            }
            if let Some(done) = piece.take_if(|piece| piece.style != style(cell, ink)) {
                done.draw(&mut texts, y);
            }
            let piece =
                piece.get_or_insert_with(|| Piece { x, columns: 0, text: String::new(), style: style(cell, ink) });
            piece.push(cell.symbol(), wide);
        }
        if let Some(piece) = piece {
            piece.draw(&mut texts, y);
        }
    }
    // Grounds first: an ink that is drawn on one of them is never below it.
    shapes.retain(|_, rects| !rects.is_empty());
    let is_ground = |color: &Rgb| buffer.content.iter().any(|cell| paper.of(cell, ground).1 == *color);
    let (under, over): (Vec<_>, Vec<_>) = shapes.iter().partition(|(color, _)| is_ground(color));
    for (color, rects) in under.into_iter().chain(over) {
        // Writing into a string cannot fail.
        let _ok = write!(out, "<path fill=\"{}\" d=\"", hex(*color));
        for [x, y, w, h] in rects {
            let _ok = write!(out, "M{x} {y}h{w}v{h}h-{w}z");
        }
        out.push_str("\"/>\n");
    }
    out.push_str(&texts);
    out.push_str("</svg>\n");
    out
}

/// The ground that most cells have, where a theme has given them one.
fn most(buffer: &Buffer) -> Option<Color> {
    let with = buffer.content.iter().filter(|cell| cell.bg != Color::Reset).count();
    let first = buffer.content.iter().rev().map(|cell| cell.bg).find(|bg| *bg != Color::Reset)?;
    let of_first = buffer.content.iter().filter(|cell| cell.bg == first).count();
    (with == buffer.content.len() || of_first * 2 > buffer.content.len()).then_some(first)
}

/// What makes two neighbours one piece of text.
#[derive(PartialEq, Eq)]
struct Style {
    ink: Rgb,
    bold: bool,
    italic: bool,
    underlined: bool,
}

fn style(cell: &Cell, ink: Rgb) -> Style {
    Style {
        ink,
        bold: cell.modifier.contains(Modifier::BOLD),
        italic: cell.modifier.contains(Modifier::ITALIC),
        underlined: cell.modifier.contains(Modifier::UNDERLINED),
    }
}

struct Piece {
    x: u32,
    columns: u32,
    text: String,
    style: Style,
}

impl Piece {
    fn push(&mut self, symbol: &str, columns: u32) {
        self.text.push_str(symbol);
        self.columns += columns;
    }

    fn draw(self, out: &mut String, y: u32) {
        let text = self.text.trim_end();
        let blanks = u32::try_from(self.text.len() - text.len()).unwrap_or(0);
        let Style { ink, bold, italic, underlined } = self.style;
        let mut more = String::new();
        more.push_str(if bold { " font-weight=\"bold\"" } else { "" });
        more.push_str(if italic { " font-style=\"italic\"" } else { "" });
        more.push_str(if underlined { " text-decoration=\"underline\"" } else { "" });
        let _ok = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" textLength=\"{}\" lengthAdjust=\"spacingAndGlyphs\" fill=\"{}\"{more} \
             xml:space=\"preserve\">{}</text>",
            self.x,
            y + 13,
            (self.columns - blanks) * CELL.0,
            hex(ink),
            escaped(text)
        );
    }
}

/// Draws what is a shape and no letter; false for everything else.
fn drawn(path: &mut Vec<Rect>, symbol: &str, (x, y): (u32, u32)) -> bool {
    let (w, h) = CELL;
    let (mid, low) = (x + w / 2, y + h / 2);
    let (left, right, up, down) = match symbol {
        "─" | "━" => (true, true, false, false),
        "│" | "┃" => (false, false, true, true),
        "┌" | "┏" => (false, true, false, true),
        "┐" | "┓" => (true, false, false, true),
        "└" | "┗" => (false, true, true, false),
        "┘" | "┛" => (true, false, true, false),
        "├" => (false, true, true, true),
        "┤" => (true, false, true, true),
        "┬" => (true, true, false, true),
        "┴" => (true, true, true, false),
        "┼" => (true, true, true, true),
        "█" => {
            rect(path, (x, y + 3), (w, h - 6));
            return true;
        }
        "▌" => {
            rect(path, (x, y), (w / 2, h));
            return true;
        }
        "░" => {
            rect(path, (x, y + h / 2 - 1), (w, 2));
            return true;
        }
        bar => {
            let eighths = (1_u32..).zip("▁▂▃▄▅▆▇".chars()).find(|(_, c)| bar.starts_with(*c)).map(|(n, _)| n);
            let Some(eighths) = eighths else { return false };
            let high = (h - 4) * eighths / 8;
            rect(path, (x, y + h - 2 - high), (w - 1, high));
            return true;
        }
    };
    if left {
        rect(path, (x, low), (w / 2 + 1, 1));
    }
    if right {
        rect(path, (mid, low), (w - w / 2, 1));
    }
    if up {
        rect(path, (mid, y), (1, h / 2 + 1));
    }
    if down {
        rect(path, (mid, low), (1, h - h / 2));
    }
    true
}

/// Adds a shape; one that goes on to the right of the last makes that one longer.
fn rect(path: &mut Vec<Rect>, (x, y): (u32, u32), (w, h): (u32, u32)) {
    if let Some([left, top, wide, high]) = path.last_mut()
        && (*top, *high) == (y, h)
        && (*left..=*left + *wide).contains(&x)
    {
        *wide = (*wide).max(x + w - *left);
    } else {
        path.push([x, y, w, h]);
    }
}

fn hex((r, g, b): Rgb) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use ratatui::{layout, style::Style};

    use super::*;

    #[test]
    fn text_stands_in_its_columns_and_nothing_in_it_is_markup() {
        let mut buffer = Buffer::empty(layout::Rect::new(0, 0, 12, 2));
        buffer.set_string(0, 0, "│a<b> & 漢x│", Style::new().fg(Color::Red));
        buffer.set_string(0, 1, "└──────────┘", Style::new());
        let picture = svg(&buffer, "a & b");
        assert!(picture.contains("<title>a &amp; b</title>"));
        // Eight columns of letters and one that is two wide, after the border.
        assert!(picture.contains("x=\"18\" y=\"23\" textLength=\"80\""), "{picture}");
        assert!(picture.contains(">a&lt;b&gt; &amp; 漢x</text>"), "{picture}");
        assert_eq!(picture.matches("<text").count(), 1, "borders are shapes: {picture}");
        assert_eq!(svg(&buffer, "a & b"), picture);
    }

    #[test]
    fn a_row_under_the_hand_has_a_ground() {
        let mut buffer = Buffer::empty(layout::Rect::new(0, 0, 4, 1));
        buffer.set_string(0, 0, "hand", Style::new().add_modifier(Modifier::REVERSED));
        let picture = svg(&buffer, "");
        assert!(picture.contains(&format!("<path fill=\"{}\"", hex(DARK.ink))), "{picture}");
        assert!(picture.contains(&format!("fill=\"{}\" xml", hex(DARK.ground))), "{picture}");
    }
}
