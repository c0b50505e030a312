//! A program that answers on its private socket: a line of JSON asks, a line answers.
//!
//! Units:      a line, which ends with a line feed.
//! Invariants: 1. Questions are answered in their order, so at most `ASKED_MAX` wait.
//!             2. A line has at most `LINE_BYTES_MAX` bytes.
//! Source:     docs/format/document.md.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;

use super::{Answer, Source};
use crate::state::Act;
use crate::trouble::Trouble;
use crate::words;
use offloop_views::document::{Document, VERSION};

/// Bytes of an answer: ten times the longest document.
const LINE_BYTES_MAX: usize = 16 << 20;

/// Questions that wait for their answers.
const ASKED_MAX: usize = 4;

/// Bytes that are read at once.
const READ_BYTES: usize = 64 << 10;

/// What a question was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Document,
    Act,
}

/// A connection to a program.
#[derive(Debug)]
pub struct Attached {
    pid: u32,
    stream: UnixStream,
    asked: VecDeque<(Asked, Instant)>,
    received: Vec<u8>,
    /// How much of `received` has no line feed.
    looked_at: usize,
    last_event: u64,
}

/// An answer that is no document.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Outcome {
    version: u32,
    error: Option<String>,
}

impl Attached {
    /// Connects to the socket of the process that listens at this path. A file may have the name of
    /// another one, that of a container with process ids of its own: the system knows which it is.
    ///
    /// # Errors
    /// The system's: `ConnectionRefused` if the process that made the file is gone.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        let pid = offloop_sys::socket::listening_process(stream.as_fd())?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            pid,
            stream,
            asked: VecDeque::new(),
            received: Vec::new(),
            looked_at: 0,
            last_event: 0,
        })
    }

    fn ask(&mut self, asked: Asked, question: &serde_json::Value) -> Result<(), Trouble> {
        if self.asked.len() >= ASKED_MAX {
            return Ok(());
        }
        let line = format!("{question}\n");
        match self.stream.write(line.as_bytes()) {
            Ok(written) if written == line.len() => {
                self.asked.push_back((asked, Instant::now()));
                Ok(())
            }
            // A socket takes a few questions, so it is not read at all.
            Ok(_) => Err(self.silent()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(self.silent()),
            Err(_) => Err(self.farewell()),
        }
    }

    /// Why it takes no questions: what it said before it closed, if it said anything.
    fn farewell(&mut self) -> Trouble {
        match self.poll() {
            Err(trouble) => trouble,
            Ok(_) => self.ended(),
        }
    }

    fn silent(&self) -> Trouble {
        Trouble::Silent {
            pid: self.pid,
            seconds: self.waits_for().unwrap_or_default().as_secs_f64(),
        }
    }

    fn ended(&self) -> Trouble {
        Trouble::Ended { pid: self.pid }
    }

    fn nonsense(&self, reason: impl ToString) -> Trouble {
        Trouble::Nonsense {
            pid: self.pid,
            reason: reason.to_string(),
        }
    }

    /// The next whole line, if it has come.
    fn line(&mut self) -> Result<Option<Vec<u8>>, Trouble> {
        loop {
            let new = &self.received[self.looked_at..];
            if let Some(end) = new.iter().position(|&byte| byte == b'\n') {
                let rest = self.received.split_off(self.looked_at + end + 1);
                self.looked_at = 0;
                return Ok(Some(std::mem::replace(&mut self.received, rest)));
            }
            self.looked_at = self.received.len();
            if self.looked_at > LINE_BYTES_MAX {
                let reason = format!("a line of more than {LINE_BYTES_MAX} bytes");
                return Err(self.nonsense(reason));
            }
            let mut piece = vec![0; READ_BYTES];
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(self.ended()),
                Ok(read) => self.received.extend_from_slice(&piece[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(self.ended()),
            }
        }
    }

    fn document(&mut self, line: &[u8]) -> Result<Answer, Trouble> {
        // The version is looked at first: of another one nothing else is known.
        let outcome: Outcome =
            serde_json::from_slice(line).map_err(|error| self.nonsense(error))?;
        if outcome.version != VERSION {
            return Err(Trouble::Document {
                pid: self.pid,
                theirs: outcome.version,
                ours: VERSION,
            });
        }
        if let Some(reason) = outcome.error {
            return Err(Trouble::Refused {
                pid: self.pid,
                reason: words::clean(&reason),
            });
        }
        let document: Document =
            serde_json::from_slice(line).map_err(|error| self.nonsense(error))?;
        self.last_event = document.events.last;
        Ok(Answer::Document(Box::new(document)))
    }

    fn outcome(&self, line: &[u8]) -> Result<Answer, Trouble> {
        let outcome: Outcome =
            serde_json::from_slice(line).map_err(|error| self.nonsense(error))?;
        let said = outcome.error.unwrap_or_else(|| "done".to_owned());
        Ok(Answer::Said(said))
    }
}

impl Source for Attached {
    fn ask_for_document(&mut self) -> Result<(), Trouble> {
        let question = json!({"version": VERSION, "ask": "document", "after": self.last_event});
        self.ask(Asked::Document, &question)
    }

    fn ask_for_act(&mut self, act: &Act) -> Result<(), Trouble> {
        let question = match act {
            Act::Kill { pid, .. } => {
                json!({"version": VERSION, "ask": "kill_call", "pid": pid})
            }
            Act::Cancel { id, name } => {
                json!({"version": VERSION, "ask": "cancel_task", "task": id, "name": name})
            }
        };
        self.ask(Asked::Act, &question)
    }

    fn poll(&mut self) -> Result<Option<Answer>, Trouble> {
        let Some(line) = self.line()? else {
            return Ok(None);
        };
        match self.asked.pop_front() {
            Some((Asked::Act, _)) => self.outcome(&line).map(Some),
            // A refusal may come without a question: there are too many viewers.
            _ => self.document(&line).map(Some),
        }
    }

    fn waits_for(&self) -> Option<Duration> {
        self.asked.front().map(|(_, since)| since.elapsed())
    }

    fn pid(&self) -> u32 {
        self.pid
    }

    fn only_read(&self) -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A source, and its program's end.
    fn pair(name: &str) -> (Attached, UnixStream) {
        let path = std::env::temp_dir().join(format!("top-{}-{name}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("a socket");
        let mut attached = Attached::connect(&path).expect("it listens");
        assert_eq!(attached.pid, std::process::id());
        attached.pid = 7;
        let (stream, _) = listener.accept().expect("it was connected");
        std::fs::remove_file(&path).expect("it is there");
        (attached, stream)
    }

    fn question(stream: &UnixStream) -> String {
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("a line");
        line
    }

    #[test]
    fn questions_are_lines_and_so_are_answers() {
        let (mut source, mut program) = pair("lines");
        source.ask_for_document().expect("it is asked");
        assert_eq!(
            question(&program),
            "{\"after\":0,\"ask\":\"document\",\"version\":1}\n"
        );
        assert!(source.waits_for().is_some());
        program
            .write_all(b"{\"version\": 1, \"process\"")
            .expect("there is room");
        assert!(source.poll().expect("it goes on").is_none());
        program
            .write_all(b": {\"pid\": 9}, \"events\": {\"last\": 4}}\n{\"version\": 1")
            .expect("there is room");
        let Ok(Some(Answer::Document(document))) = source.poll() else {
            panic!("a document has come");
        };
        assert_eq!(document.process.pid, 9);
        assert!(source.poll().expect("it goes on").is_none());
        program
            .write_all(b", \"done\": true}\n")
            .expect("there is room");
        source
            .ask_for_act(&Act::Kill {
                pid: 8,
                function: String::new(),
                started: 0.0,
            })
            .expect("it is asked");
        let Ok(Some(Answer::Said(said))) = source.poll() else {
            panic!("an outcome has come");
        };
        assert_eq!(said, "done");
        assert!(source.waits_for().is_none());
    }

    #[test]
    fn what_is_wrong_is_said_in_a_line() {
        for (answer, said, status) in [
            (
                "{\"version\": 2}\n",
                "process 7 speaks version 2 of the document",
                3,
            ),
            (
                "7\n",
                "process 7 answers with something else than a document",
                3,
            ),
            (
                "{\"version\": 1, \"error\": \"full\"}\n",
                "process 7 answers no question now: full",
                3,
            ),
            ("{\"version\": 1, \"loops\": 7}\n", "than a document", 3),
        ] {
            let (mut source, mut program) = pair("wrong");
            source.ask_for_document().expect("it is asked");
            program.write_all(answer.as_bytes()).expect("there is room");
            let trouble = source.poll().expect_err("it is wrong");
            assert!(trouble.to_string().contains(said), "{trouble}");
            assert!(!trouble.to_string().contains('\n'), "{trouble}");
            assert_eq!(trouble.status(), status);
        }
    }

    #[test]
    fn a_refusal_that_came_before_the_question_is_told() {
        let (mut source, mut program) = pair("refusal");
        let refusal = b"{\"version\": 1, \"error\": \"16 viewers are attached, limit 16\"}\n";
        program.write_all(refusal).expect("there is room");
        drop(program);
        let trouble = source.ask_for_document().expect_err("it is closed");
        let said = "process 7 answers no question now: 16 viewers are attached, limit 16";
        assert_eq!(trouble.to_string(), said);
    }

    #[test]
    fn a_program_that_ends_or_writes_without_end_is_told() {
        let (mut source, program) = pair("ends");
        source.ask_for_document().expect("it is asked");
        drop(program);
        assert_eq!(source.poll().expect_err("it has ended").status(), 5);

        let (mut source, program) = pair("endless");
        source.received = vec![b'x'; LINE_BYTES_MAX + 1];
        let trouble = source.poll().expect_err("it is too long");
        assert!(
            trouble.to_string().contains("a line of more than"),
            "{trouble}"
        );
        drop(program);
    }

    #[test]
    fn a_program_that_does_not_read_is_asked_a_few_times() {
        let (mut source, _program) = pair("silent");
        for _ in 0..100 {
            source.ask_for_document().expect("it may answer later");
        }
        assert_eq!(source.asked.len(), ASKED_MAX);
    }
}
