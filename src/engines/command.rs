//! Any program as an engine: the prompt on standard input, plain text or stream-json out.
//!
//! Owns how it is started and how plain text becomes an answer. Its one surprise: with text output the whole output is
//! the answer; of a very long one the beginning and the end are kept.

use std::{collections::VecDeque, ffi::OsString, time::Duration};

use super::{Engine, Exit, Finding, Job, Launch, Progress, Reader, claude::Stream, prepare_home};
use crate::{
    claude::verdict::stderr_line,
    model::{Ending, OutputKind, text},
};

/// Bytes kept of the beginning of a text answer, and as many of its end.
const KEPT: usize = 120 * 1024;

/// Bytes looked at for the newest line.
const NEWEST: usize = 2_000;

/// Any program.
#[derive(Debug)]
pub struct Command {
    argv: Vec<String>,
    output: OutputKind,
}

impl Command {
    /// Program and arguments, and what it prints.
    pub fn new(argv: Vec<String>, output: OutputKind) -> Self {
        Self { argv, output }
    }
}

impl Engine for Command {
    fn launch(&self, job: &Job<'_>) -> Result<Launch, Ending> {
        let Some((program, args)) = self.argv.split_first().filter(|(program, _)| !program.is_empty()) else {
            return Err(Ending::Config { message: format!("agents.{}.command is empty", job.agent.name) });
        };
        prepare_home(&job.agent.home)?;
        let mut env = job.environment();
        env.push(("HOME".into(), job.agent.home.join("home").into()));
        env.extend(job.gateway_environment());
        Ok(Launch {
            program: program.into(),
            args: args.iter().map(OsString::from).collect(),
            env,
            cwd: job.agent.workspace.clone(),
            stdin: job.prompt.as_bytes().to_vec(),
            dialogue: false,
            session_id: None,
            interruptible: false,
        })
    }

    fn reader(&self) -> Box<dyn Reader> {
        match self.output {
            OutputKind::Text => Box::new(Text::default()),
            OutputKind::StreamJson => Box::new(Stream::default()),
        }
    }
}

/// Reads plain text.
#[derive(Debug, Default)]
pub struct Text {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    dropped: u64,
    newest: Vec<u8>,
}

impl Text {
    fn answer(&self) -> String {
        let mut bytes = self.head.clone();
        if self.dropped > 0 {
            bytes.extend_from_slice(format!("\n… {} bytes left out …\n", self.dropped).as_bytes());
        }
        bytes.extend(&self.tail);
        text::scrub(&String::from_utf8_lossy(&bytes)).trim().to_owned()
    }
}

impl Reader for Text {
    fn feed(&mut self, bytes: &[u8]) {
        let room = KEPT.saturating_sub(self.head.len()).min(bytes.len());
        let (head, rest) = bytes.split_at(room);
        self.head.extend_from_slice(head);
        self.tail.extend(rest);
        let over = self.tail.len().saturating_sub(KEPT);
        self.tail.drain(..over);
        self.dropped += over as u64;
        let newest = bytes.split_at(bytes.len().saturating_sub(NEWEST)).1;
        self.newest.extend_from_slice(newest);
        let old = self.newest.len().saturating_sub(NEWEST);
        self.newest.drain(..old);
    }

    fn settled(&self) -> bool {
        false
    }

    fn hopeless(&self) -> Option<Ending> {
        None
    }

    fn announced(&self) -> Duration {
        Duration::ZERO
    }

    fn progress(&self) -> Progress {
        let lossy = String::from_utf8_lossy(&self.newest);
        let clean = text::scrub(&lossy);
        let line = clean.lines().rev().map(str::trim).find(|l| !l.is_empty()).unwrap_or_default();
        Progress { doing: text::fit(line, 100), ..Progress::default() }
    }

    fn finding(&mut self, exit: Exit, stderr: &str) -> Finding {
        let summary = self.answer();
        let ending = match exit {
            Exit::Code(0) | Exit::Settled if summary.is_empty() => Ending::EmptyAnswer,
            Exit::Code(0) | Exit::Settled => Ending::Done,
            Exit::Code(code) => Ending::ExitCode { code, message: stderr_line(stderr) },
            Exit::Signal(signal) => Ending::Signal { signal },
        };
        Finding::plain(ending, summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_done_only_with_exit_0_and_something_said() {
        let ending = |out: &[u8], exit| {
            let mut reader = Text::default();
            reader.feed(out);
            reader.finding(exit, "warning\nboom\n").ending
        };
        assert_eq!(ending(b"hello\n", Exit::Code(0)), Ending::Done);
        assert_eq!(ending(b" \n\x1b[0m\n", Exit::Code(0)), Ending::EmptyAnswer);
        assert_eq!(ending(b"hello", Exit::Code(3)), Ending::ExitCode { code: 3, message: "boom".into() });
        assert_eq!(ending(b"hello", Exit::Signal(11)), Ending::Signal { signal: 11 });
    }

    #[test]
    fn of_a_very_long_answer_both_ends_are_kept_and_the_gap_is_named() {
        let mut reader = Text::default();
        reader.feed(b"begin ");
        for _ in 0..40 {
            reader.feed(&[b'x'; 10_000]);
        }
        reader.feed(b"\nend\n");
        let answer = reader.finding(Exit::Code(0), "").summary;
        assert!(answer.starts_with("begin x") && answer.ends_with("x\nend"), "{}", answer.len());
        assert!(answer.contains("bytes left out") && answer.len() < 3 * KEPT);
        assert_eq!(reader.progress().doing, "end");
    }

    #[test]
    fn doing_is_the_newest_line_even_when_it_comes_in_pieces() {
        let mut reader = Text::default();
        reader.feed(b"one\ntw");
        assert_eq!(reader.progress().doing, "tw");
        reader.feed(b"o\n");
        assert_eq!(reader.progress().doing, "two");
        reader.feed(b"\x1b[2Jthree\n\n");
        assert_eq!(reader.progress().doing, "three");
    }
}
