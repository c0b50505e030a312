//! Files that are written while records come, and what is left when something goes wrong.

use std::fs;

use super::*;
use crate::journal::Event;
use crate::recorder::{CallEnd, CallNote, What};

fn about() -> About {
    About {
        pid: 7,
        program: "a test".into(),
        python: "3".into(),
        offloop: "0".into(),
        began: 0.0,
        threshold: 0.05,
    }
}

/// A folder of this test's own, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("offloop-recorded-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn tape(recorder: &Arc<Recorder>, files: &[(Format, PathBuf)]) -> io::Result<Tape> {
    Tape::start(recorder, Arc::default(), about(), files)
}

fn record_some(recorder: &Recorder) {
    let now = Instant::from_nanos(monotonic_ns());
    let mut note = CallNote::new(Some("work".into()), 1, now);
    (note.worker, note.started, note.finished) = (Some(9), Some(now), Some(now));
    let (note, fleet, end) = (Box::new(note), 1, CallEnd::Returned);
    recorder.record(now, What::Event(Event::Start { fleet: 1, pid: 9 }));
    recorder.record(now, What::Call { note, fleet, end });
}

#[test]
fn all_files_are_written_and_end_as_they_should() {
    let folder = Folder::new("all");
    let recorder = Arc::new(Recorder::default());
    let files = [
        (Format::Trace, folder.file("trace.json")),
        (Format::Speedscope, folder.file("stalls.json")),
        (Format::Journal, folder.file("journal")),
    ];
    let tape = tape(&recorder, &files).expect("files");
    assert!(recorder.is_on());
    record_some(&recorder);
    assert!(tape.finish());
    assert!(!recorder.is_on());
    let trace = fs::read_to_string(&files[0].1).expect("text");
    assert!(
        trace.starts_with("[\n{") && trace.ends_with("}\n]\n"),
        "{trace}"
    );
    assert!(trace.contains("worker 9 of fleet 1") && trace.contains("\"submit work\""));
    let stalls = fs::read_to_string(&files[1].1).expect("text");
    assert!(stalls.contains("\"samples\":[]"), "{stalls}");
    let (lines, damaged) = read_journal(&files[2].1).expect("a journal");
    let kinds = ["offloop-journal", "worker-start", "call", "lag", "end"];
    assert_eq!((lines.len(), damaged), (kinds.len(), 0), "{lines:?}");
    for (line, kind) in lines.iter().zip(kinds) {
        assert!(
            line.starts_with(&format!("{{\"kind\":\"{kind}\"")),
            "{line}"
        );
    }
}

#[test]
fn a_full_disk_ends_one_file_and_not_the_rest() {
    let folder = Folder::new("full");
    let recorder = Arc::new(Recorder::default());
    let error = tape(&recorder, &[(Format::Journal, "/dev/full".into())]).expect_err("no room");
    let text = error.to_string();
    assert!(text.starts_with("the journal /dev/full cannot be written: No space left"));
    let files = [
        (Format::Speedscope, PathBuf::from("/dev/full")),
        (Format::Journal, folder.file("journal")),
    ];
    let tape = tape(&recorder, &files).expect("nothing is written yet");
    record_some(&recorder);
    assert!(tape.finish());
    assert_eq!(read_journal(&files[1].1).expect("a journal").0.len(), 5);
}

#[test]
fn what_is_no_journal_or_of_another_version_is_refused() {
    let folder = Folder::new("refused");
    let path = folder.file("journal");
    let first = "{\"kind\":\"offloop-journal\",\"version\":1}";
    let second = "{\"kind\":\"end\",\"at\":1}";
    let line = journal_file::tests::line;
    for (text, expected) in [
        (String::new(), "it is no journal of offloop"),
        ("hello\n".into(), "it is no journal of offloop"),
        (line(second), "it is no journal of offloop"),
        (
            line(&first.replace('1', "9")),
            "it is of version 9, and this offloop reads version 1",
        ),
    ] {
        fs::write(&path, text).expect("it is written");
        let error = read_journal(&path).expect_err(expected);
        assert_eq!(error.to_string(), expected);
    }
    let cut = line(second);
    let text = line(first) + &line(second).replace("end", "and") + &cut[..cut.len() - 4];
    fs::write(&path, text).expect("it is written");
    assert_eq!(
        read_journal(&path).expect("a journal"),
        (vec![first.into()], 2)
    );
    assert!(matches!(
        read_journal(&folder.file("none")),
        Err(JournalError::Io(_))
    ));
}
