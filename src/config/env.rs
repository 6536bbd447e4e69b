//! The environment as a value, so that a test can own it. Printing it shows names only: values may be secrets.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt,
    path::{Path, PathBuf},
};

/// Variables, folders of the user, and where podium was called.
#[derive(Clone, Default)]
pub struct Env {
    vars: BTreeMap<OsString, OsString>,
    /// Where podium was called.
    pub cwd: PathBuf,
    /// `<data dir>/podium`.
    pub data_dir: Option<PathBuf>,
    /// `<config dir>/podium`.
    pub config_dir: Option<PathBuf>,
}

impl Env {
    /// The environment of this process.
    pub fn of_process() -> std::io::Result<Self> {
        let dirs = directories::ProjectDirs::from("", "", "podium");
        Ok(Self {
            vars: std::env::vars_os().collect(),
            cwd: std::env::current_dir()?,
            data_dir: dirs.as_ref().map(|d| d.data_dir().to_owned()),
            config_dir: dirs.as_ref().map(|d| d.config_dir().to_owned()),
        })
    }

    /// An environment with these variables and everything else below `root`.
    pub fn at(root: &Path, vars: &[(&str, &str)]) -> Self {
        Self {
            vars: vars.iter().map(|(k, v)| (OsString::from(k), OsString::from(v))).collect(),
            cwd: root.to_owned(),
            data_dir: Some(root.join("data/podium")),
            config_dir: Some(root.join("config/podium")),
        }
    }

    /// A variable that is set and not empty.
    pub fn os(&self, name: &str) -> Option<&OsStr> {
        self.vars.get(OsStr::new(name)).map(OsString::as_os_str).filter(|v| !v.is_empty())
    }

    /// A variable that is set, not empty and readable as text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.os(name)?.to_str()
    }

    /// Every variable, for building a child's environment.
    pub fn vars(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.vars.iter().map(|(k, v)| (k.as_os_str(), v.as_os_str()))
    }

    /// The first program of this name: a path as it is, a bare name looked up in `PATH`.
    pub fn find_program(&self, name: &OsStr) -> Option<PathBuf> {
        let path = Path::new(name);
        if path.components().count() > 1 {
            let path = self.cwd.join(path);
            return is_program(&path).then_some(path);
        }
        std::env::split_paths(self.os("PATH")?).map(|dir| dir.join(path)).find(|p| is_program(p))
    }
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env").field("names", &self.vars.keys()).field("cwd", &self.cwd).finish_non_exhaustive()
    }
}
