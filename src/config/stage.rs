//! The stage as a folder: how it is found, what lies where, and how it is laid out.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::{ConfigError, Env, Source};
use crate::model::AgentName;

/// The file that makes a folder a stage.
pub const FILE: &str = "podium.toml";

/// Finds the stage: the flag, `PODIUM_STAGE`, the nearest parent holding a `podium.toml`, the default stage.
pub fn discover(flag: Option<&Path>, env: &Env) -> Result<(PathBuf, Source), ConfigError> {
    let named = flag
        .map(|path| (path.to_owned(), Source::Flag("--stage")))
        .or_else(|| env.os("PODIUM_STAGE").map(|p| (p.into(), Source::Env("PODIUM_STAGE".to_owned()))));
    if let Some((path, named_by)) = named {
        // `--stage x/podium.toml` means the folder it lies in.
        let path = env.cwd.join(path);
        let folder = if path.is_file() && path.ends_with(FILE) { path.parent().unwrap_or(&path) } else { &path };
        return match fs::canonicalize(folder) {
            Ok(folder) if folder.is_dir() => Ok((folder, named_by)),
            Ok(_) | Err(_) => Err(ConfigError::NoStage { path, named_by }),
        };
    }
    let cwd = fs::canonicalize(&env.cwd).unwrap_or_else(|_| env.cwd.clone());
    if let Some(found) = cwd.ancestors().find(|dir| dir.join(FILE).is_file()) {
        return Ok((found.to_owned(), Source::Found));
    }
    let data = env.data_dir.as_ref().ok_or(ConfigError::NoHome)?;
    Ok((data.join("stage"), Source::Default))
}

/// Where everything of a stage lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The stage.
    pub root: PathBuf,
}

impl Layout {
    /// The layout of the stage at `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// `podium.toml`.
    pub fn file(&self) -> PathBuf {
        self.root.join(FILE)
    }

    /// `prompts/`.
    pub fn prompts(&self) -> PathBuf {
        self.root.join("prompts")
    }

    /// `logs/`, where podium's own log lies too.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// `logs/{agent}/`.
    pub fn agent_logs(&self, agent: &AgentName) -> PathBuf {
        self.logs().join(agent.as_str())
    }

    /// `results/goals/`.
    pub fn reports(&self) -> PathBuf {
        self.root.join("results/goals")
    }

    /// `.podium/`, podium's own, 0700.
    pub fn private(&self) -> PathBuf {
        self.root.join(".podium")
    }

    /// One row per model call.
    pub fn ledger(&self) -> PathBuf {
        self.private().join("ledger")
    }
}

/// What laying out a stage did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Laid {
    /// Paths made, relative to the stage; folders end in `/`.
    pub made: Vec<String>,
    /// Paths that were there already.
    pub kept: Vec<String>,
}

impl Laid {
    pub(super) fn folder(&mut self, root: &Path, name: &str, mode: u32) -> io::Result<()> {
        let path = root.join(name);
        let shown = format!("{name}/");
        if path.is_dir() {
            self.kept.push(shown);
            return Ok(());
        }
        fs::DirBuilder::new().recursive(true).mode(mode).create(&path).map_err(|e| named(&path, &e))?;
        // The umask may have taken bits away from a shared folder, never from a private one.
        if mode == 0o700 {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(|e| named(&path, &e))?;
        }
        self.made.push(shown);
        Ok(())
    }

    /// Writes a file that is not there; an existing one is never touched, whatever it is.
    pub(super) fn file(&mut self, root: &Path, name: &str, text: &str) -> io::Result<()> {
        use io::Write;
        let path = root.join(name);
        let made = fs::OpenOptions::new().write(true).create_new(true).open(&path);
        match made {
            Ok(mut file) => {
                file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|e| named(&path, &e))?;
                self.made.push(name.to_owned());
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.kept.push(name.to_owned());
                Ok(())
            }
            Err(error) => Err(named(&path, &error)),
        }
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_parent_with_a_file_is_the_stage_and_a_name_wins_over_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        fs::create_dir_all(root.join("other")).unwrap();
        fs::write(root.join("a").join(FILE), "").unwrap();
        let mut env = Env::at(&root, &[]);
        env.cwd = root.join("a/b/c");
        assert_eq!(discover(None, &env).unwrap(), (root.join("a"), Source::Found));
        let flag = root.join("other");
        assert_eq!(discover(Some(&flag), &env).unwrap().0, flag);
        let mut env = Env::at(&root, &[("PODIUM_STAGE", flag.to_str().unwrap())]);
        env.cwd = root.join("a/b/c");
        assert_eq!(discover(None, &env).unwrap(), (flag, Source::Env("PODIUM_STAGE".into())));
        env.cwd = root.clone();
        let gone = discover(Some(Path::new("gone")), &env).unwrap_err().to_string();
        assert!(gone.contains("--stage") && gone.contains("podium init"), "{gone}");
    }

    #[test]
    fn without_any_stage_there_is_the_default_one() {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::at(dir.path(), &[]);
        let (stage, source) = discover(None, &env).unwrap();
        assert_eq!((stage, source), (dir.path().join("data/podium/stage"), Source::Default));
    }
}
