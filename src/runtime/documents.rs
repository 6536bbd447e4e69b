//! Files of the stage that the screen shows: reports, results, what agents made.
//!
//! Its one surprise: what an agent made may be anything, of any size. Only its beginning is read, and what is no text is
//! said to be none.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use crate::{queue::file::lies, tui::Document};

/// The most of a file that is read.
const BEGINNING: u64 = 1024 * 1024;

/// Reads it, or says why not.
pub(super) fn read(stage: &Path, document: &Document) -> Result<String, String> {
    let path = match document {
        Document::Path(path) => stage.join(path),
        Document::Task { task, file } => {
            lies(stage, task, file.as_deref()).ok_or("its file is not there; the result has its text")?
        }
    };
    beginning(&path).map_err(|error| error.to_string())?.map_err(|size| format!("no text: {size} bytes"))
}

/// The beginning of a text, or the size of what is none.
fn beginning(path: &Path) -> io::Result<Result<String, u64>> {
    // A pipe would hold whoever opens it for ever.
    let meta = std::fs::metadata(path)?;
    if !meta.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    file.take(BEGINNING).read_to_end(&mut bytes)?;
    if bytes.contains(&0) {
        return Ok(Err(meta.len()));
    }
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    if meta.len() > BEGINNING {
        // Writing into a string cannot fail.
        let _ok = write!(text, "\n\n… and {} bytes more\n", meta.len() - BEGINNING);
    }
    Ok(Ok(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_and_what_is_none_is_said_to_be() {
        let stage = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(stage.path().join(name), bytes).unwrap();
        let read = |name: &str| read(stage.path(), &Document::Path(name.to_owned()));
        write("a.md", "# yes\n".as_bytes());
        write("b.bin", &[7, 0, 7]);
        write("c.txt", "x".repeat(1024 * 1024 + 5).as_bytes());
        std::fs::create_dir(stage.path().join("d")).unwrap();
        assert_eq!(read("a.md").unwrap(), "# yes\n");
        assert_eq!(read("b.bin").unwrap_err(), "no text: 3 bytes");
        assert!(read("c.txt").unwrap().ends_with("… and 5 bytes more\n"));
        assert!(read("d").is_err() && read("gone").is_err());
    }

    #[test]
    fn a_task_is_found_wherever_it_lies() {
        let stage = tempfile::tempdir().unwrap();
        let task: crate::model::TaskRef = "marie/a".parse().unwrap();
        let document = Document::Task { task: task.clone(), file: Some("other.json".to_owned()) };
        assert!(read(stage.path(), &document).unwrap_err().contains("not there"));
        for place in ["tasks/marie/other.json", "tasks/marie/.claimed/a.json", "tasks/marie/.done/2026-11-22/a.json"] {
            let path = stage.path().join(place);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, place).unwrap();
            assert_eq!(read(stage.path(), &document).unwrap(), place);
            std::fs::remove_file(path).unwrap();
        }
    }
}
