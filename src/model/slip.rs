//! What a person wrote and did not mean: where it stands, and the word that was probably meant.

use std::fmt;

/// One thing wrong in a file that is read with the rest of it in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slip {
    /// Which file, as it is shown.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// The key, with its table: `keys.retry`; empty where there is none.
    pub key: String,
    /// What is wrong with it.
    pub message: String,
    /// The word that was probably meant.
    pub nearest: Option<String>,
}

impl fmt::Display for Slip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        match &self.nearest {
            Some(nearest) => write!(f, "; did you mean `{nearest}`?"),
            None => Ok(()),
        }
    }
}

/// Line and column of a byte offset, both from 1, the column in characters.
pub fn position(text: &str, offset: usize) -> (usize, usize) {
    let before: String = text.char_indices().take_while(|(at, _)| *at < offset).map(|(_, c)| c).collect();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// The known word closest to `word`, when it is close enough to be a slip.
pub fn nearest<S: AsRef<str>>(word: &str, known: &[S]) -> Option<String> {
    let (distance, best) = known.iter().map(|k| (distance(word, k.as_ref()), k.as_ref())).min()?;
    let prefix = !word.is_empty() && (best.starts_with(word) || word.starts_with(best));
    (distance <= 1 + word.chars().count() / 3 || prefix).then(|| best.to_owned())
}

/// Edits (insert, delete, replace, swap of neighbours) between two words.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_another_word_finds_nothing() {
        let known = ["engine", "model", "prompt", "workspace"];
        assert_eq!(nearest("promt", &known).as_deref(), Some("prompt"));
        assert_eq!(nearest("engien", &known).as_deref(), Some("engine"));
        assert_eq!(nearest("colour", &known), None);
    }

    #[test]
    fn columns_count_characters_and_lines_start_at_one() {
        assert_eq!(position("é = 1\nab = 2", 0), (1, 1));
        assert_eq!(position("é = 1\nab = 2", 3), (1, 3));
        assert_eq!(position("é = 1\nab = 2", 7), (2, 1));
    }
}
