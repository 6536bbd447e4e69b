//! A small file that others read at any moment: it is replaced, never written in place.

use std::{fs, io, path::Path};

use serde::Serialize;

/// Writes a record in the place of the former one.
pub(super) fn replace(path: &Path, record: &impl Serialize) -> io::Result<()> {
    let fresh = path.with_extension("tmp");
    fs::write(&fresh, serde_json::to_vec(record)?)?;
    fs::rename(fresh, path)
}
