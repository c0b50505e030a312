//! The private socket: a line of JSON asks, a line of JSON answers.
//!
//! Shape:      drawn in docs/format/document.md.
//! Invariants: 1. Only this user and root are answered; the file's mode and folder say the same.
//!             2. A line, a wait, the viewers and the pace of each have a limit, which stands here.
//! Threads:    the engine's.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use offloop_sys::fork::{self, ForkGuard};
use offloop_sys::identity::effective_user;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::address;
use crate::answers::{Answers, failure};
use crate::document::VERSION;

/// Viewers at once: terminals of one person.
const VIEWERS_MAX: usize = 16;
/// Bytes of a question.
const LINE_BYTES_MAX: u64 = 4096;
/// How long a viewer may ask nothing.
const IDLE: Duration = Duration::from_secs(600);
/// How long an answer may take to be taken.
const WRITE: Duration = Duration::from_secs(5);
/// How far the documents of one viewer are apart, at least.
const PACE: Duration = Duration::from_millis(20);
/// How long nothing is accepted after the system had no descriptor for it.
const PAUSE: Duration = Duration::from_millis(200);

/// A socket that is bound, and the file that stands for it.
pub(crate) struct Bound {
    listener: StdListener,
    guard: ForkGuard,
}

/// The file is removed with this, by the process that made it.
#[derive(Debug)]
pub(crate) struct SocketFile {
    pub(crate) path: PathBuf,
    generation: u32,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.generation == fork::generation() {
            // It may have been removed by hand.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds the socket of this process.
///
/// # Errors
/// The system's, or why there is no folder for it.
pub(crate) fn bind() -> io::Result<(SocketFile, Bound)> {
    for path in address::own()? {
        path.parent().into_iter().for_each(address::sweep);
        // What is left there is of a process of this id that was killed.
        let _ = fs::remove_file(&path);
        match bind_at(&path) {
            // A process of another container, with the same id, was quicker.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            outcome => return outcome,
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        "containers that share the folder for sockets have taken all names of this process id",
    ))
}

fn bind_at(path: &Path) -> io::Result<(SocketFile, Bound)> {
    let listener = StdListener::bind(path)?;
    let file = SocketFile {
        path: path.to_owned(),
        generation: fork::generation(),
    };
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    let guard = ForkGuard::new(listener.as_fd())?;
    Ok((file, Bound { listener, guard }))
}

/// Answers until it is dropped.
pub(crate) async fn serve(bound: Bound, answers: Arc<Answers>) {
    let Bound {
        listener,
        guard: _guard,
    } = bound;
    let Ok(listener) = UnixListener::from_std(listener) else {
        return;
    };
    let mut viewers = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        while viewers.try_join_next().is_some() {}
        let is_ours = stream
            .peer_cred()
            .is_ok_and(|peer| peer.uid() == effective_user() || peer.uid() == 0);
        if !is_ours {
            continue;
        }
        if viewers.len() >= VIEWERS_MAX {
            let refusal = failure(&format!(
                "{VIEWERS_MAX} viewers are attached, limit {VIEWERS_MAX}"
            ));
            // Its buffer is empty: what does not fit was not meant for it.
            let _ = stream.try_write(&refusal);
            continue;
        }
        let answers = Arc::clone(&answers);
        viewers.spawn(async move { attend(stream, &answers).await });
    }
}

/// What a viewer asks.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Request {
    version: u32,
    ask: String,
    after: u64,
    pid: Option<i32>,
    task: Option<String>,
    name: Option<String>,
}

async fn attend(mut stream: UnixStream, answers: &Arc<Answers>) {
    // Without room for a guard, a forked child would keep the viewer waiting.
    let Ok(guard) = ForkGuard::new(stream.as_fd()) else {
        return;
    };
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    let mut next = Instant::now();
    loop {
        line.clear();
        let mut limited = (&mut read).take(LINE_BYTES_MAX);
        let taken = timeout(IDLE, limited.read_until(b'\n', &mut line)).await;
        if !matches!(taken, Ok(Ok(count)) if count > 0) {
            break;
        }
        let is_whole = line.ends_with(b"\n");
        let answer = if is_whole {
            sleep_until(next).await;
            next = Instant::now() + PACE;
            answer(&line, answers).await
        } else {
            failure(&format!(
                "a question of more than {LINE_BYTES_MAX} bytes, or without a line's end"
            ))
        };
        let written = timeout(WRITE, write.write_all(&answer)).await;
        if !is_whole || !matches!(written, Ok(Ok(()))) {
            break;
        }
    }
    drop(guard);
}

async fn answer(line: &[u8], answers: &Arc<Answers>) -> Vec<u8> {
    let request: Request = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => return failure(&format!("this is no question: {error}")),
    };
    if request.version != VERSION {
        let asked = request.version;
        return failure(&format!(
            "version {asked} is asked for, this process speaks {VERSION}"
        ));
    }
    match (request.ask.as_str(), request.pid, request.task) {
        ("document", ..) => answers.document(request.after).await,
        ("kill_call", Some(pid), _) => answers.kill_call(pid),
        ("kill_call", None, _) => failure("kill_call needs the pid of a worker"),
        ("cancel_task", _, Some(task)) => {
            let name = request.name.unwrap_or_default();
            answers.cancel_task(task, name).await
        }
        ("cancel_task", ..) => failure("cancel_task needs the id of a task"),
        (other, ..) => failure(&format!(
            "{other:?} is asked for; document, kill_call and cancel_task are known"
        )),
    }
}
