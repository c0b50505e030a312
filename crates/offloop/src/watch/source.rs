//! The text of source files, for a watch that must not wait for a disk.
//!
//! A read of a file cannot be given up: a server of a network folder may never answer. So files are
//! read by a thread of their own, and the watch waits for its answer only so long. A late answer is
//! kept for the next time. While the thread does not answer, what is kept is given as it is.
//!
//! Shape:      [`SourceFiles`] is the watch's side: it asks, and keeps texts · `Reader` is the
//!             thread: it looks whether a file is as it was, and reads it if not.
//! Invariants: 1. `text` waits no longer than its patience, whatever the file system does.
//!             2. Only regular files of at most `FILE_BYTES_MAX` are read.
//!             3. At most `FILES_MAX` texts and `BYTES_MAX` bytes are kept, and one question is
//!                under way.
//! Threads:    the one that asks, and the reader. The reader is not joined: it may wait for ever.
//!             It ends when `SourceFiles` is dropped, or does not come back from the file system.
//!             A child that is forked has no reader, and makes `SourceFiles` anew.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use offloop_core::watch::{Sources, Text};

/// How long a watch waits for a text: a cached file takes some 50 us, and a stall is to be told
/// within 10 ms.
pub const PATIENCE: Duration = Duration::from_millis(5);

/// Bytes of a file that is read. The largest sources that people write have 1 MiB.
pub const FILE_BYTES_MAX: u64 = 4 << 20;

/// Texts that are kept. A stall names three files or so.
const FILES_MAX: usize = 32;

/// Bytes of all texts that are kept.
const BYTES_MAX: usize = 16 << 20;

/// What tells one state of a file from another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            seconds: metadata.mtime(),
            nanoseconds: metadata.mtime_nsec(),
        }
    }
}

/// What the watch wants to know of a file.
struct Question {
    filename: Arc<str>,
    /// The state whose text is kept.
    known: Option<Stamp>,
}

/// What the reader has found.
enum Found {
    /// The file is as it was.
    Same,
    /// Another text than the one that is kept.
    Text(Stamp, Arc<Text>),
    /// There is no such file, or it is not one to be read.
    Nothing,
}

struct Answer {
    filename: Arc<str>,
    found: Found,
}

/// A text that is kept.
#[derive(Debug)]
struct Kept {
    filename: Arc<str>,
    stamp: Stamp,
    text: Arc<Text>,
}

/// The reader as the watch sees it.
#[derive(Debug)]
struct Reader {
    questions: Sender<Question>,
    answers: Receiver<Answer>,
    /// A question was given up, and has no answer yet.
    owes: bool,
}

/// Source files, for one watch.
#[derive(Debug)]
pub struct SourceFiles {
    patience: Duration,
    reader: Option<Reader>,
    /// The one that was asked for least lately is first.
    kept: Vec<Kept>,
}

impl Default for SourceFiles {
    fn default() -> Self {
        Self::new(PATIENCE)
    }
}

impl SourceFiles {
    /// Nothing was read yet. Each text is waited for as long as given.
    #[must_use]
    pub const fn new(patience: Duration) -> Self {
        Self {
            patience,
            reader: None,
            kept: Vec::new(),
        }
    }

    /// A line of a file, from 1.
    #[cfg(test)]
    fn line(&mut self, filename: &str, line: u32) -> Option<String> {
        self.text(filename)?.line(line).map(str::to_owned)
    }

    /// Asks the reader, and waits for its answer as long as there is patience.
    fn ask(&mut self, filename: &str) -> Option<Found> {
        let known = self.place(filename).map(|place| self.kept[place].stamp);
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => self.reader.insert(Reader::start().ok()?),
        };
        let late = reader.late_answer();
        let is_owed = reader.owes;
        let found = if is_owed {
            None
        } else {
            reader.ask(filename, known, self.patience)
        };
        if let Some(late) = late {
            self.keep(&late.filename, &late.found);
        }
        found
    }

    fn place(&self, filename: &str) -> Option<usize> {
        self.kept
            .iter()
            .position(|kept| &*kept.filename == filename)
    }

    fn keep(&mut self, filename: &str, found: &Found) {
        let place = self.place(filename);
        match found {
            Found::Same => {
                // It was asked for last.
                let kept = place.map(|place| self.kept.remove(place));
                self.kept.extend(kept);
            }
            Found::Nothing => {
                place.map(|place| self.kept.remove(place));
            }
            Found::Text(stamp, text) => {
                place.map(|place| self.kept.remove(place));
                self.kept.push(Kept {
                    filename: filename.into(),
                    stamp: *stamp,
                    text: Arc::clone(text),
                });
            }
        }
        let bytes = |kept: &[Kept]| kept.iter().map(|kept| kept.text.bytes()).sum::<usize>();
        while self.kept.len() > 1 && (self.kept.len() > FILES_MAX || bytes(&self.kept) > BYTES_MAX)
        {
            self.kept.remove(0);
        }
    }
}

impl Sources for SourceFiles {
    fn text(&mut self, filename: &str) -> Option<Arc<Text>> {
        if filename.is_empty() || filename.starts_with('<') || filename.contains('\0') {
            return None;
        }
        if let Some(found) = self.ask(filename) {
            self.keep(filename, &found);
        }
        let place = self.place(filename)?;
        Some(Arc::clone(&self.kept[place].text))
    }
}

impl Reader {
    fn start() -> io::Result<Self> {
        let (questions, asked) = channel::<Question>();
        let (answering, answers) = channel();
        std::thread::Builder::new()
            .name("offloop-source".into())
            .spawn(move || {
                for Question { filename, known } in asked {
                    let found = look(&filename, known).unwrap_or(Found::Nothing);
                    if answering.send(Answer { filename, found }).is_err() {
                        break;
                    }
                }
            })?;
        Ok(Self {
            questions,
            answers,
            owes: false,
        })
    }

    /// The answer to a question that was given up, if it has come.
    fn late_answer(&mut self) -> Option<Answer> {
        if !self.owes {
            return None;
        }
        let answer = self.answers.try_recv().ok()?;
        self.owes = false;
        Some(answer)
    }

    fn ask(&mut self, filename: &str, known: Option<Stamp>, patience: Duration) -> Option<Found> {
        let filename = filename.into();
        let asked = self.questions.send(Question { filename, known });
        asked.ok()?;
        match self.answers.recv_timeout(patience) {
            Ok(answer) => Some(answer.found),
            Err(RecvTimeoutError::Timeout) => {
                self.owes = true;
                None
            }
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }
}

/// Looks at a file, and reads it if it is not as it was.
fn look(filename: &str, known: Option<Stamp>) -> io::Result<Found> {
    // Opening a pipe would wait for a writer, and opening a device may have an effect.
    let metadata = std::fs::metadata(filename)?;
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return Ok(Found::Nothing);
    }
    if known == Some(Stamp::of(&metadata)) {
        return Ok(Found::Same);
    }
    let file = File::open(filename)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(Found::Nothing);
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Ok(Found::Nothing);
    }
    Ok(Found::Text(
        Stamp::of(&metadata),
        Arc::new(Text::new(&bytes)),
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;

    /// Longer than any file of a test takes on a busy machine.
    const LONG: Duration = Duration::from_secs(60);

    /// A folder of one test, which is removed at its end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("offloop-source-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).expect("a folder");
            Self(path)
        }

        fn path(&self, name: &str) -> String {
            let path = self.0.join(name);
            path.to_str().expect("plain letters").to_owned()
        }

        fn write(&self, name: &str, bytes: &[u8]) -> String {
            fs::write(self.0.join(name), bytes).expect("written");
            self.path(name)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).expect("removed");
        }
    }

    #[test]
    fn lines_are_read_and_read_again_when_the_file_has_changed() {
        let folder = Folder::new("changed");
        let path = folder.write("a.py", b"one\ntwo\n");
        let mut sources = SourceFiles::new(LONG);
        assert_eq!(sources.line(&path, 2).as_deref(), Some("two"));
        assert_eq!(sources.line(&path, 3), None);
        let before = sources.text(&path).expect("a text");
        let again = sources.text(&path).expect("a text");
        assert!(Arc::ptr_eq(&before, &again), "what is kept is given");
        folder.write("a.py", b"one\nzwei!\n");
        assert_eq!(sources.line(&path, 2).as_deref(), Some("zwei!"));
        fs::remove_file(&path).expect("removed");
        assert_eq!(sources.line(&path, 2), None);
        assert!(sources.kept.is_empty());
    }

    #[test]
    fn a_file_of_the_same_length_is_told_by_its_time() {
        let folder = Folder::new("time");
        let path = folder.write("a.py", b"one\n");
        let mut sources = SourceFiles::new(LONG);
        assert_eq!(sources.line(&path, 1).as_deref(), Some("one"));
        let mut file = File::options().write(true).open(&path).expect("open");
        file.write_all(b"two\n").expect("written");
        let later = fs::metadata(&path)
            .expect("facts")
            .modified()
            .expect("a time");
        file.set_modified(later + Duration::from_secs(2))
            .expect("set");
        assert_eq!(sources.line(&path, 1).as_deref(), Some("two"));
    }

    #[test]
    fn what_is_no_regular_file_of_bounded_size_is_not_read() {
        let folder = Folder::new("kinds");
        let mut sources = SourceFiles::new(LONG);
        let large = vec![b'\n'; usize::try_from(FILE_BYTES_MAX).expect("small") + 1];
        let large = folder.write("large.py", &large);
        let pipe = folder.path("pipe.py");
        let made = Command::new("mkfifo").arg(&pipe).status().expect("run");
        assert!(made.success());
        let socket = folder.path("socket.py");
        let _listener = UnixListener::bind(&socket).expect("bound");
        let nowhere = folder.path("nowhere.py");
        let directory = folder.path("");
        for name in [
            &*large,
            &pipe,
            &socket,
            &nowhere,
            &directory,
            "/dev/zero",
            "",
            "<string>",
            "a\0b",
        ] {
            assert_eq!(sources.text(name), None, "{name}");
        }
        let exact = vec![b'x'; usize::try_from(FILE_BYTES_MAX).expect("small")];
        let exact = folder.write("exact.py", &exact);
        assert!(sources.text(&exact).is_some());
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        let folder = Folder::new("bytes");
        let path = folder.write("a.py", b"# -*- coding: latin-1 -*-\nname = 'caf\xe9'\n");
        let line = SourceFiles::new(LONG).line(&path, 2);
        assert_eq!(line.as_deref(), Some("name = 'caf\u{fffd}'"));
    }

    #[test]
    fn a_file_system_that_does_not_answer_is_not_waited_for() {
        // The reader is a pair of channels here, whose other ends the test holds.
        let folder = Folder::new("late");
        let path = folder.write("a.py", b"one\n");
        let (questions, asked) = channel();
        let (answering, answers) = channel();
        let mut sources = SourceFiles::new(Duration::from_millis(1));
        sources.reader = Some(Reader {
            questions,
            answers,
            owes: false,
        });
        assert_eq!(sources.text(&path), None);
        assert_eq!(sources.text(&path), None);
        let question: Question = asked.recv().expect("a question");
        assert!(asked.try_recv().is_err(), "one question is under way");
        let filename = question.filename;
        let found = look(&filename, question.known).expect("found");
        answering.send(Answer { filename, found }).expect("sent");
        // The late answer is kept, and given though the next question has no answer either.
        assert_eq!(sources.line(&path, 1).as_deref(), Some("one"));
        assert_eq!(sources.line(&path, 1).as_deref(), Some("one"));
        drop(answering);
        assert_eq!(sources.line("/nowhere.py", 1), None);
    }

    #[test]
    fn texts_are_kept_within_bounds_the_latest_ones_first() {
        let folder = Folder::new("bounds");
        let mut sources = SourceFiles::new(LONG);
        let paths: Vec<String> = (0..FILES_MAX + 1)
            .map(|number| folder.write(&format!("{number}.py"), b"x\n"))
            .collect();
        for path in &paths[..FILES_MAX] {
            assert!(sources.text(path).is_some());
        }
        assert!(sources.text(&paths[0]).is_some());
        assert!(sources.text(&paths[FILES_MAX]).is_some());
        assert_eq!(sources.kept.len(), FILES_MAX);
        assert!(sources.place(&paths[0]).is_some(), "asked for lately");
        assert!(sources.place(&paths[1]).is_none());
        let large = vec![b'x'; usize::try_from(FILE_BYTES_MAX).expect("small")];
        for number in 0..6 {
            let path = folder.write(&format!("large-{number}.py"), &large);
            assert!(sources.text(&path).is_some());
        }
        let bytes: usize = sources.kept.iter().map(|kept| kept.text.bytes()).sum();
        assert!(bytes <= BYTES_MAX);
    }
}
