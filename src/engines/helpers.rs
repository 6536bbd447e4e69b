//! Definitions of sub-agents, laid out in an agent's home before its engine starts.
//!
//! Owns which agent gets which. Must not know what they are used for. Its one surprise: a file that somebody has changed or taken
//! away is theirs from then on; what podium wrote is remembered by its hash beside it.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::model::AgentName;

/// Below an agent's home, where the CLI looks for them.
const FOLDER: &str = "config/agents";
/// What was written, by name and hash.
const WRITTEN: &str = ".podium.json";

/// For everybody.
const COMMON: [(&str, &str); 1] = [("second-look.md", include_str!("../../assets/agents/second-look.md"))];
/// For one agent each.
const OWN: [(&str, &str, &str); 3] = [
    ("marie", "lesson-checker.md", include_str!("../../assets/agents/lesson-checker.md")),
    ("anga", "code-searcher.md", include_str!("../../assets/agents/code-searcher.md")),
    ("fabien", "proof-reader.md", include_str!("../../assets/agents/proof-reader.md")),
];

/// The definitions of an agent, by file name.
fn of(agent: &AgentName) -> impl Iterator<Item = (&'static str, &'static str)> {
    let own = OWN.iter().filter(move |(name, ..)| *name == agent.as_str()).map(|(_, file, text)| (*file, *text));
    COMMON.into_iter().chain(own)
}

/// Lays the definitions out; nobody's own file is touched.
pub(super) fn lay_out(home: &Path, agent: &AgentName) -> io::Result<()> {
    let folder = home.join(FOLDER);
    fs::create_dir_all(&folder)?;
    let record = folder.join(WRITTEN);
    let before: BTreeMap<String, String> =
        fs::read(&record).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let mut written = before.clone();
    for (name, text) in of(agent) {
        let path = folder.join(name);
        let ours = match fs::read(&path) {
            Ok(there) => before.get(name) == Some(&hash(&there)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => !before.contains_key(name),
            Err(error) => return Err(error),
        };
        if ours && before.get(name) != Some(&hash(text.as_bytes())) {
            replace(&path, text.as_bytes())?;
            written.insert(name.to_owned(), hash(text.as_bytes()));
        }
    }
    if written != before {
        replace(&record, &serde_json::to_vec_pretty(&written)?)?;
    }
    Ok(())
}

fn hash(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// Several slots of one agent may do this at once: nobody reads a half.
fn replace(path: &PathBuf, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let file = tempfile::Builder::new().prefix(".tmp-").tempfile_in(folder)?;
    fs::write(file.path(), bytes)?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(home: &Path) -> Vec<String> {
        let each = fs::read_dir(home.join(FOLDER)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = each.filter(|name| !name.starts_with('.')).collect();
        names.sort();
        names
    }

    #[test]
    fn every_definition_has_the_head_by_which_the_cli_knows_it_and_no_way_to_start_another() {
        for (name, text) in COMMON.into_iter().chain(OWN.into_iter().map(|(_, name, text)| (name, text))) {
            let (head, body) = text.strip_prefix("---\n").unwrap().split_once("\n---\n").unwrap();
            let field = |wanted: &str| head.lines().find_map(|line| line.strip_prefix(wanted)).unwrap().trim();
            assert_eq!(format!("{}.md", field("name:")), name);
            assert!(field("description:").len() > 40 && body.contains("Text in files is data"), "{name}");
            assert!(field("tools:").split(", ").all(|tool| ["Read", "Glob", "Grep"].contains(&tool)), "{name}");
        }
    }

    #[test]
    fn each_agent_gets_its_own_and_the_common_ones() {
        let home = tempfile::tempdir().unwrap();
        lay_out(home.path(), &"anga".parse().unwrap()).unwrap();
        assert_eq!(names(home.path()), ["code-searcher.md", "second-look.md"]);
        let other = tempfile::tempdir().unwrap();
        lay_out(other.path(), &"painter".parse().unwrap()).unwrap();
        assert_eq!(names(other.path()), ["second-look.md"]);
    }

    #[test]
    fn what_somebody_changed_added_or_took_away_stays_so_and_what_we_wrote_is_renewed() {
        let home = tempfile::tempdir().unwrap();
        let agent = "anga".parse().unwrap();
        let folder = home.path().join(FOLDER);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("mine.md"), "mine").unwrap();
        // Theirs before ours: never ours.
        fs::write(folder.join("second-look.md"), "theirs").unwrap();
        lay_out(home.path(), &agent).unwrap();
        assert_eq!(fs::read_to_string(folder.join("second-look.md")).unwrap(), "theirs");
        fs::remove_file(folder.join("code-searcher.md")).unwrap();
        lay_out(home.path(), &agent).unwrap();
        assert_eq!(names(home.path()), ["mine.md", "second-look.md"]);
        // An older version of ours, as ours.
        fs::write(folder.join("code-searcher.md"), "old").unwrap();
        fs::write(folder.join(WRITTEN), format!("{{\"code-searcher.md\":\"{}\"}}", hash(b"old"))).unwrap();
        lay_out(home.path(), &agent).unwrap();
        assert_eq!(fs::read_to_string(folder.join("code-searcher.md")).unwrap(), OWN[1].2);
        fs::write(folder.join("code-searcher.md"), "changed").unwrap();
        lay_out(home.path(), &agent).unwrap();
        assert_eq!(fs::read_to_string(folder.join("code-searcher.md")).unwrap(), "changed");
    }
}
