//! A line of JSON on several lines, as it lies on disk: nothing is sorted, added or left out but blanks.

/// A longer line stays one line.
const LONGEST: usize = 256 * 1024;

/// Hands out the lines of `text` with their depth. What is no JSON is one line.
pub(super) fn lines(text: &str, mut take: impl FnMut(u8, &str)) {
    let whole = text.trim();
    if !whole.starts_with('{') || whole.len() > LONGEST || serde_json::from_str::<serde::de::IgnoredAny>(whole).is_err()
    {
        return take(0, text);
    }
    let mut line = String::new();
    let (mut depth, mut quoted, mut escaped) = (0_u8, false, false);
    let mut letters = whole.chars().peekable();
    while let Some(letter) = letters.next() {
        if quoted {
            line.push(letter);
            quoted = escaped || letter != '"';
            escaped = !escaped && letter == '\\';
            continue;
        }
        match letter {
            '{' | '[' => {
                line.push(letter);
                while letters.peek().is_some_and(char::is_ascii_whitespace) {
                    letters.next();
                }
                // What is empty stays on its line.
                if let Some(end) = letters.next_if(|c| matches!(c, '}' | ']')) {
                    line.push(end);
                    continue;
                }
                take(depth, &line);
                line.clear();
                depth = depth.saturating_add(1);
            }
            '}' | ']' => {
                if !line.is_empty() {
                    take(depth, &line);
                    line.clear();
                }
                depth = depth.saturating_sub(1);
                line.push(letter);
            }
            ',' => {
                line.push(letter);
                take(depth, &line);
                line.clear();
            }
            ':' => line.push_str(": "),
            blank if blank.is_ascii_whitespace() => {}
            letter => {
                quoted = letter == '"';
                line.push(letter);
            }
        }
    }
    if !line.is_empty() {
        take(depth, &line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_told_line_by_line_and_anything_else_as_it_is() {
        let mut out = Vec::new();
        lines(r#"{"b":[1,{"a":"x, {\" y"}],"e":{}, "n": null}"#, |depth, line| {
            out.push(format!("{}{line}", " ".repeat(depth.into())));
        });
        let expected = [
            "{",
            " \"b\": [",
            "  1,",
            "  {",
            "   \"a\": \"x, {\\\" y\"",
            "  }",
            " ],",
            " \"e\": {},",
            " \"n\": null",
            "}",
        ];
        assert_eq!(out, expected);
        for plain in ["text", "{broken", "{}", ""] {
            let mut one = Vec::new();
            lines(plain, |_, line| one.push(line.to_owned()));
            assert_eq!(one, [plain]);
        }
    }
}
