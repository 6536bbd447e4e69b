//! The operator's own prices: `prices.toml` in the user's folder, then in the stage.
//!
//! A row of the stage wins over one of the user's, and both over the built-in one. A file with a fault starts nothing.

use std::path::Path;

use super::{
    ConfigError, Fault, Place, Setting, Source,
    fault::{from_toml, position},
};
use crate::ledger::{Prices, PricesError};

/// The file's name.
const FILE: &str = "prices.toml";

/// The prices in force.
pub(super) fn read(stage: &Path, user: Option<&Path>) -> Result<Setting<Prices>, ConfigError> {
    let mut prices = Setting { value: Prices::embedded(), source: Source::Default };
    for (folder, whose) in user.map(|dir| (dir, "the user's")).into_iter().chain([(stage, "the stage's")]) {
        let path = folder.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => return Err(ConfigError::Io { path, source }),
        };
        prices.value.put(&text).map_err(|error| ConfigError::Invalid(vec![fault(&path, &text, &error)]))?;
        prices.source = Source::Prices(whose);
    }
    Ok(prices)
}

fn fault(path: &Path, text: &str, error: &PricesError) -> Fault {
    if let PricesError::Toml(error) = error {
        return from_toml(path.to_owned(), text, error);
    }
    let at = error.span().unwrap_or_default().start;
    let (line, column) = position(text, at);
    let key = text.lines().nth(line - 1).and_then(|line| line.split_once('=')).map_or("", |(key, _)| key.trim());
    let message = if key.is_empty() { error.to_string() } else { format!("{key}: {error}") };
    Fault { place: Place::File { path: path.to_owned(), line, column }, message, nearest: None }
}
