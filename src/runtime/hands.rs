//! What a screen has read of a stage's files: logs, searches, copies, texts. All of it in threads of their own.
//!
//! Owns who reads: hands here, or hands on the machine where the files lie, which are asked over a stream and answer with the
//! same words. Must not know how anything is shown. Its one surprise: whoever asks from another machine may name any path, so
//! there each is looked at before it is followed; here the operator's own rights are the rule.

use std::{
    fs,
    path::{Component, Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context as _;
use futures_util::{SinkExt as _, StreamExt as _};
use serde::{Deserialize, Serialize};
use tokio::{net::UnixStream, sync::mpsc, task::JoinSet};
use tokio_util::codec::{Framed, LinesCodec};

use super::{
    documents,
    logs::{self, Eyes},
    refs,
};
use crate::{
    attach::wire::LONGEST_LINE,
    logs::{context, copy},
    model::{
        LogId, LogPlace, LogScope, TaskRef,
        log::{LogHit, LogPart, LogRange, TimedLine},
    },
    queue::{Queue as _, file::FileQueue},
    room::Order,
    tui::{
        Ask, Document, Guest, Search,
        composer::{Entry, Template},
    },
};

/// Lines before and after a hit that are shown beside a list of hits.
const BESIDE: usize = 6;
/// Where copies of logs go, below the stage.
const COPIES: &str = ".podium/copies";
/// The longest question from another machine, in bytes; an order holds a task's text.
const LONGEST_ASK: usize = 4 * 1024 * 1024;
/// Bytes of a copy that are sent at once.
const PIECE: usize = 256 * 1024;
/// Readings at once for another machine; who wants more waits.
const AT_ONCE: usize = 16;

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask", content = "it")]
pub(super) enum Asked {
    Log(Option<Ask>),
    Search(Option<Search>),
    Beside(Box<LogHit>),
    Copy(LogRange, Option<Guest>),
    Document(Document),
    Task(TaskRef),
    List(String),
    /// The order with its references as paths.
    Resolve(Box<Order>),
}

/// What was read.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "read", content = "it")]
pub(super) enum Heard {
    Log(u64, LogPart),
    Found(u64, logs::News),
    Beside(LogPlace, Vec<TimedLine>, usize),
    /// Some of the copy that follows, where it was made on another machine.
    Piece(String),
    Copied(Option<Guest>, Result<copy::Copied, String>),
    Document(Document, Result<String, String>),
    Task(TaskRef, Result<String, String>),
    Listed(String, Vec<Entry>),
    /// As it was given, and as it is to be sent.
    Resolved(Box<Order>, Box<Order>),
    #[serde(skip)]
    Templates(Vec<Template>),
    /// Nobody reads any more.
    #[serde(skip)]
    Gone,
}

/// Whoever reads.
pub(super) enum Hands {
    Here(Here),
    There(There),
}

impl Hands {
    /// Has something read; false where nobody is there to read it.
    pub(super) fn ask(&mut self, asked: Asked) -> bool {
        match self {
            Self::Here(here) => {
                here.ask(asked);
                true
            }
            Self::There(there) => there.asks.send(asked).is_ok(),
        }
    }

    /// Whether somebody is there to read.
    pub(super) fn is_there(&self) -> bool {
        match self {
            Self::Here(_) => true,
            Self::There(there) => !there.asks.is_closed(),
        }
    }
}

/// Hands where the files lie.
pub(super) struct Here {
    stage: PathBuf,
    /// Where logs are read from: the stage, or a tape's copy of it.
    folder: PathBuf,
    /// Where the whole text of a task is found.
    queue: Option<FileQueue>,
    /// Copies of logs stay with the stage.
    keeps: bool,
    tell: mpsc::Sender<Heard>,
    reading: JoinSet<()>,
    /// What reads for the log view.
    eyes: Eyes,
    /// Ends the search that runs.
    search: Arc<AtomicBool>,
}

/// Copies into a new folder of the temporary directory, which nobody else can have prepared.
fn copy_elsewhere(stage: &Path, range: &LogRange, gone: &dyn Fn() -> bool) -> std::io::Result<copy::Copied> {
    copy::copy(stage, range, &folder_elsewhere()?, gone)
}

fn folder_elsewhere() -> std::io::Result<PathBuf> {
    Ok(tempfile::Builder::new().prefix("podium-copy-").tempdir()?.keep())
}

impl Here {
    pub(super) fn new(
        stage: &Path,
        folder: &Path,
        queue: Option<FileQueue>,
        tell: mpsc::Sender<Heard>,
    ) -> anyhow::Result<Self> {
        let eyes = eyes_on(folder, &tell)?;
        let (stage, folder) = (stage.to_owned(), folder.to_owned());
        Ok(Self { stage, folder, queue, keeps: true, tell, reading: JoinSet::new(), eyes, search: Arc::default() })
    }

    /// Reads logs below another folder from now on.
    pub(super) fn turn_to(&mut self, folder: &Path) -> anyhow::Result<()> {
        self.eyes = eyes_on(folder, &self.tell)?;
        folder.clone_into(&mut self.folder);
        Ok(())
    }

    fn ask(&mut self, asked: Asked) {
        while self.reading.try_join_next().is_some() {}
        match asked {
            Asked::Log(ask) => self.eyes.read(ask),
            Asked::Search(asked) => self.find(asked),
            Asked::Beside(hit) => {
                let folder = self.folder.clone();
                self.read(move || {
                    let place = hit.place();
                    let (lines, here) = context(&folder, &hit.log, &place, &hit.text, BESIDE);
                    Heard::Beside(place, lines, here)
                });
            }
            Asked::Copy(range, guest) => {
                let (folder, keeps, tell) = (self.folder.clone(), self.keeps, self.tell.clone());
                self.read(move || {
                    let gone = || tell.is_closed();
                    let kept = || copy::copy(&folder, &range, &folder.join(COPIES), &gone);
                    let elsewhere = || copy_elsewhere(&folder, &range, &gone);
                    // A stage that cannot be written to still has logs that can be read.
                    let copied = if keeps { kept().or_else(|_| elsewhere()) } else { elsewhere() };
                    Heard::Copied(guest, copied.map_err(|error| error.to_string()))
                });
            }
            Asked::Document(document) => {
                let stage = self.stage.clone();
                self.read(move || {
                    let read = documents::read(&stage, &document);
                    Heard::Document(document, read)
                });
            }
            // The whole text of a task, which its file alone has.
            Asked::Task(task) => {
                let (queue, tell) = (self.queue.clone(), self.tell.clone());
                self.reading.spawn(async move {
                    let read = match queue {
                        Some(queue) => queue.spec(&task).await.map(|s| s.description).map_err(|e| e.to_string()),
                        None => Err("the stage's tasks are not here".to_owned()),
                    };
                    let _left = tell.send(Heard::Task(task, read)).await;
                });
            }
            Asked::List(folder) => {
                let stage = self.stage.clone();
                self.read(move || {
                    let entries = refs::list(&stage, &folder);
                    Heard::Listed(folder, entries)
                });
            }
            Asked::Resolve(order) => {
                let stage = self.stage.clone();
                self.read(move || {
                    let resolved = refs::resolve(&stage, (*order).clone());
                    Heard::Resolved(order, Box::new(resolved))
                });
            }
        }
    }

    fn read(&mut self, read: impl FnOnce() -> Heard + Send + 'static) {
        let tell = self.tell.clone();
        self.reading.spawn_blocking(move || {
            let _left = tell.blocking_send(read());
        });
    }

    fn find(&mut self, asked: Option<Search>) {
        self.search.store(true, Ordering::Relaxed);
        let Some(asked) = asked else { return };
        self.search = Arc::default();
        let (folder, stop, tell) = (self.folder.clone(), self.search.clone(), self.tell.clone());
        self.reading.spawn_blocking(move || {
            let id = asked.id;
            logs::find(&folder, &asked, &stop, &|news| tell.blocking_send(Heard::Found(id, news)).is_ok());
        });
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        self.search.store(true, Ordering::Relaxed);
    }
}

/// Starts the thread that reads the logs below a folder.
fn eyes_on(folder: &Path, tell: &mpsc::Sender<Heard>) -> anyhow::Result<Eyes> {
    let told = tell.clone();
    Eyes::open(folder, move |ask, part| told.blocking_send(Heard::Log(ask, part)).is_ok())
        .context("could not start the thread that reads logs")
}

/// Hands on the machine where the files lie.
pub(super) struct There {
    asks: mpsc::UnboundedSender<Asked>,
    _carrying: JoinSet<()>,
}

impl There {
    /// Over a stream at whose other end is [`serve`].
    pub(super) fn over(stream: UnixStream, tell: mpsc::Sender<Heard>) -> Self {
        let (asks, mut asked) = mpsc::unbounded_channel::<Asked>();
        let mut carrying = JoinSet::new();
        carrying.spawn(async move {
            let (mut sink, mut source) =
                Framed::new(stream, LinesCodec::new_with_max_length(LONGEST_LINE)).split::<String>();
            let asks = async {
                while let Some(asked) = asked.recv().await {
                    let Ok(line) = serde_json::to_string(&asked) else { continue };
                    if sink.send(line).await.is_err() {
                        break;
                    }
                }
            };
            let tells = async {
                let mut copy = String::new();
                while let Some(Ok(line)) = source.next().await {
                    let heard = match serde_json::from_str(&line) {
                        Ok(Heard::Piece(piece)) => {
                            copy.push_str(&piece);
                            continue;
                        }
                        Ok(Heard::Copied(guest, copied)) => {
                            let text = std::mem::take(&mut copy);
                            Heard::Copied(guest, copied.and_then(|copied| lay_down(copied, &text)))
                        }
                        Ok(heard) => heard,
                        Err(error) => {
                            tracing::warn!(%error, "what was read could not be understood");
                            break;
                        }
                    };
                    if tell.send(heard).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = asks => {}
                () = tells => {}
            }
            // Who hears that nobody reads finds it so.
            asked.close();
            let _left = tell.send(Heard::Gone).await;
        });
        Self { asks, _carrying: carrying }
    }
}

/// Puts a copy that was made on another machine where programs of this one find it.
fn lay_down(copied: copy::Copied, text: &str) -> Result<copy::Copied, String> {
    let name = copied.path.file_name().context("it has no name").map_err(|error| error.to_string())?;
    let path = folder_elsewhere().map_err(|error| error.to_string())?.join(name);
    fs::write(&path, text).map_err(|error| error.to_string())?;
    Ok(copy::Copied { path, ..copied })
}

/// Reads a copy that goes to another machine, and leaves none here.
fn take_up(path: &Path) -> std::io::Result<String> {
    let text = fs::read_to_string(path)?;
    if let Some(folder) = path.parent() {
        fs::remove_dir_all(folder)?;
    }
    Ok(text)
}

/// The path below the stage that is meant, or why it is not read for another machine.
fn below(stage: &Path, path: &str) -> Result<String, String> {
    let inside = Path::new(path).strip_prefix(stage).unwrap_or_else(|_| Path::new(path));
    let inside = inside.to_str().filter(|inside| refs::is_inside(inside));
    let inside = inside.ok_or("it lies outside of the stage, on the machine of the room alone")?;
    let names = Path::new(inside).components().filter(|part| matches!(part, Component::Normal(_)));
    let names: Vec<_> = names.take(2).map(Component::as_os_str).collect();
    match names.as_slice() {
        // What attempts made is kept there. The rest is podium's own.
        [own, kept] if *own == ".podium" && *kept == "runs" => Ok(inside.to_owned()),
        [own, ..] if *own == ".podium" => {
            Err("it is podium's own, and is read on the machine of the room alone".to_owned())
        }
        _ => Ok(inside.to_owned()),
    }
}

/// Whether this is the name of a file, without a way to it.
fn is_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
}

fn is_log(stage: &Path, log: &LogId) -> bool {
    below(stage, &log.path).is_ok() && log.task.as_deref().is_none_or(is_name)
}

fn is_scope(stage: &Path, scope: &LogScope) -> bool {
    match scope {
        LogScope::One(log) => is_log(stage, log),
        LogScope::Task(_) | LogScope::Agent(_) | LogScope::All => true,
    }
}

impl Asked {
    /// What another machine asks, as it may be read; otherwise what is said to it, where anything is.
    fn of(self, stage: &Path) -> Result<Self, Option<Box<Heard>>> {
        let is_fit = match &self {
            Self::Log(ask) => ask.as_ref().is_none_or(|ask| is_scope(stage, &ask.reading.scope)),
            Self::Search(asked) => asked.as_ref().is_none_or(|asked| is_scope(stage, &asked.scope)),
            Self::Beside(hit) => is_log(stage, &hit.log),
            Self::Copy(range, _) => is_scope(stage, &range.reading.scope),
            Self::List(folder) => folder.is_empty() || below(stage, folder).is_ok(),
            Self::Document(Document::Path(path)) => {
                let document = Document::Path(path.clone());
                return match below(stage, path) {
                    // A room's paths may be whole ones; they are told as they were asked for.
                    Ok(_) => Ok(self),
                    Err(why) => Err(Some(Box::new(Heard::Document(document, Err(why))))),
                };
            }
            Self::Document(Document::Task { file, .. }) => file.as_deref().is_none_or(is_name),
            Self::Task(_) | Self::Resolve(_) => true,
        };
        if is_fit {
            return Ok(self);
        }
        tracing::warn!("a screen on another machine asks for what lies outside of the stage");
        Err(None)
    }
}

/// Reads for a screen on another machine, for as long as the stream lasts.
pub(super) async fn serve(stage: &Path, queue: FileQueue, stream: UnixStream) -> anyhow::Result<()> {
    let (tell, mut heard) = mpsc::channel(4);
    let mut here = Here::new(stage, stage, Some(queue), tell.clone())?;
    here.keeps = false;
    let (mut sink, mut source) = Framed::new(stream, LinesCodec::new_with_max_length(LONGEST_ASK)).split::<String>();
    let asks = async {
        while let Some(line) = source.next().await {
            let asked: Asked = serde_json::from_str(&line?).context("this is no question")?;
            match asked.of(stage) {
                Ok(asked) => {
                    while here.reading.len() >= AT_ONCE && here.reading.join_next().await.is_some() {}
                    here.ask(asked);
                }
                Err(refused) => {
                    if let Some(refused) = refused {
                        tell.send(*refused).await.context("nobody listens")?;
                    }
                }
            }
        }
        anyhow::Ok(())
    };
    let tells = async {
        while let Some(heard) = heard.recv().await {
            if let Heard::Copied(_, Ok(copied)) = &heard {
                let path = copied.path.clone();
                let text =
                    tokio::task::spawn_blocking(move || take_up(&path)).await?.context("could not read a copy")?;
                let mut rest = text.as_str();
                while !rest.is_empty() {
                    let (piece, more) = rest.split_at(rest.floor_char_boundary(PIECE));
                    sink.send(serde_json::to_string(&Heard::Piece(piece.to_owned()))?).await?;
                    rest = more;
                }
            }
            sink.send(serde_json::to_string(&heard)?).await?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        ended = asks => ended,
        ended = tells => ended,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::{
        model::{
            Approval, Clock, Terms,
            log::{LogFrom, LogReading, Show},
        },
        queue,
    };

    fn stage() -> tempfile::TempDir {
        let stage = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = stage.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("stage/logs/marie/t.1.log", "one\ntwo\n");
        put("stage/tasks/marie/t.json", r#"{"description": "All of it."}"#);
        put("stage/results/marie/t.json", "{}");
        put("stage/notes/week.md", "Monday");
        put("stage/.podium/runs/marie/t/1/made.md", "made");
        put("stage/.podium/journal.jsonl", "secret");
        put("beside.log", "secret");
        stage
    }

    /// Hands there, and what they tell.
    fn there(stage: &Path) -> (There, mpsc::Receiver<Heard>, JoinSet<()>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let agents = vec!["marie".parse().unwrap()];
        let settings = queue::file::Settings::new(stage, agents, Clock::fixed(Timestamp::UNIX_EPOCH));
        let (stage, queue) = (stage.to_owned(), FileQueue::reader(settings));
        let mut serving = JoinSet::new();
        serving.spawn(async move { drop(serve(&stage, queue, theirs).await) });
        let (tell, heard) = mpsc::channel(16);
        (There::over(ours, tell), heard, serving)
    }

    async fn next(heard: &mut mpsc::Receiver<Heard>) -> Heard {
        tokio::time::timeout(Duration::from_secs(20), heard.recv()).await.unwrap().unwrap()
    }

    fn log(path: &str) -> LogId {
        LogId { agent: "marie".parse().unwrap(), task: Some("t".to_owned()), attempt: Some(1), path: path.to_owned() }
    }

    fn reading(path: &str) -> LogReading {
        LogReading { scope: LogScope::One(log(path)), raw: false, show: Show::All }
    }

    #[tokio::test]
    async fn what_lies_on_another_machine_is_read_as_if_it_lay_here() {
        let root = stage();
        let stage = root.path().join("stage");
        let (there, mut heard, _serving) = there(&stage);
        let mut hands = Hands::There(there);
        assert!(hands.ask(Asked::Log(Some(Ask { id: 7, reading: reading("logs/marie/t.1.log"), from: LogFrom::End }))));
        let Heard::Log(7, part) = next(&mut heard).await else { panic!("no log") };
        let lines: Vec<_> = part.lines.iter().map(|line| line.line.text.as_str()).collect();
        assert_eq!((lines, part.whole), (vec!["one", "two"], true));
        // It goes on as it grows.
        let path = stage.join("logs/marie/t.1.log");
        fs::write(&path, "one\ntwo\nthree\n").unwrap();
        let Heard::Log(7, part) = next(&mut heard).await else { panic!("no more of the log") };
        assert_eq!(part.lines[0].line.text, "three");
        assert!(hands.ask(Asked::Log(None)));

        let search = Search { id: 3, scope: LogScope::All, pattern: "tw".to_owned() };
        assert!(hands.ask(Asked::Search(Some(search))));
        let mut hits = Vec::new();
        loop {
            match next(&mut heard).await {
                Heard::Found(3, logs::News::Hits(found)) => hits.extend(found),
                Heard::Found(3, logs::News::Ended(sum)) => break assert_eq!(sum.hits, 1),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((hits.len(), hits[0].text.as_str()), (1, "two"));
        assert!(hands.ask(Asked::Beside(Box::new(hits[0].clone()))));
        let Heard::Beside(place, lines, here) = next(&mut heard).await else { panic!("no neighbours") };
        assert_eq!((place, lines.len(), here), (hits[0].place(), 3, 1));

        let range =
            LogRange { reading: reading("logs/marie/t.1.log"), from: None, to: None, here: None, headed: false };
        assert!(hands.ask(Asked::Copy(range, Some(Guest::Pager))));
        let Heard::Copied(Some(Guest::Pager), Ok(copied)) = next(&mut heard).await else { panic!("no copy") };
        assert!(!copied.path.starts_with(&stage));
        assert_eq!((fs::read_to_string(&copied.path).unwrap().as_str(), copied.lines), ("one\ntwo\nthree\n", 3));
        fs::remove_dir_all(copied.path.parent().unwrap()).unwrap();
        assert!(!stage.join(".podium/copies").exists(), "none is left there");

        let task: TaskRef = "marie/t".parse().unwrap();
        assert!(hands.ask(Asked::Task(task.clone())));
        let Heard::Task(of, Ok(text)) = next(&mut heard).await else { panic!("no text") };
        assert_eq!((of, text.as_str()), (task, "All of it."));
        assert!(hands.ask(Asked::List("notes".to_owned())));
        let Heard::Listed(_, entries) = next(&mut heard).await else { panic!("no list") };
        assert_eq!(entries, [Entry { name: "week.md".to_owned(), folder: false }]);
        let goal = |text: String| Order::Goal { text, approval: Approval::Ask, terms: Terms::default() };
        assert!(hands.ask(Asked::Resolve(Box::new(goal("Read @notes/week.md now.".to_owned())))));
        let Heard::Resolved(given, resolved) = next(&mut heard).await else { panic!("no order") };
        assert_eq!(*given, goal("Read @notes/week.md now.".to_owned()));
        assert_eq!(*resolved, goal(format!("Read {}/notes/week.md now.", stage.display())));
    }

    #[tokio::test]
    async fn another_machine_reads_below_the_stage_and_nothing_of_podiums_own() {
        let root = stage();
        let stage = root.path().join("stage");
        let (there, mut heard, mut serving) = there(&stage);
        let mut hands = Hands::There(there);
        let whole = stage.join("notes/week.md").display().to_string();
        for (path, wanted) in [
            ("results/marie/t.json", Ok("{}")),
            (whole.as_str(), Ok("Monday")),
            (".podium/runs/marie/t/1/made.md", Ok("made")),
            ("./notes/week.md", Ok("Monday")),
            ("../beside.log", Err("outside of the stage")),
            ("notes/../../beside.log", Err("outside of the stage")),
            ("/etc/hostname", Err("outside of the stage")),
            (".podium/journal.jsonl", Err("podium's own")),
            ("./.podium/./journal.jsonl", Err("podium's own")),
            (".podium/runs/../journal.jsonl", Err("outside of the stage")),
            (".podium", Err("podium's own")),
        ] {
            assert!(hands.ask(Asked::Document(Document::Path(path.to_owned()))));
            let Heard::Document(_, read) = next(&mut heard).await else { panic!("no answer for {path}") };
            match (read, wanted) {
                (Ok(text), Ok(wanted)) => assert_eq!(text, wanted, "{path}"),
                (Err(why), Err(wanted)) => assert!(why.contains(wanted), "{path}: {why}"),
                (read, _) => panic!("{path}: {read:?}"),
            }
        }
        // What no screen of ours asks is not answered, and what comes after it is.
        let task: TaskRef = "marie/t".parse().unwrap();
        let one = |path: &str| LogScope::One(log(path));
        let mut odd = log("logs/marie/gone.log");
        odd.task = Some("../../../..".to_owned());
        for asked in [
            Asked::Log(Some(Ask { id: 1, reading: reading("../beside.log"), from: LogFrom::Start })),
            Asked::Search(Some(Search { id: 1, scope: one("/etc/hostname"), pattern: ".".to_owned() })),
            Asked::Search(Some(Search { id: 1, scope: LogScope::One(odd), pattern: ".".to_owned() })),
            Asked::Document(Document::Task { task: task.clone(), file: Some("../../../beside.log".to_owned()) }),
            Asked::List("..".to_owned()),
            Asked::List(".podium".to_owned()),
        ] {
            assert!(hands.ask(asked));
        }
        assert!(hands.ask(Asked::Task(task)));
        assert!(matches!(next(&mut heard).await, Heard::Task(_, Ok(_))), "only that");
        // Nonsense ends it, and whoever listens hears that.
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let settings = queue::file::Settings::new(&stage, Vec::new(), Clock::fixed(Timestamp::UNIX_EPOCH));
        tokio::io::AsyncWriteExt::write_all(&mut ours, b"{\"ask\":\"everything\"}\n").await.unwrap();
        assert!(serve(&stage, FileQueue::reader(settings), theirs).await.is_err());
        serving.shutdown().await;
        assert!(matches!(next(&mut heard).await, Heard::Gone));
        assert!(!hands.is_there());
    }
}
