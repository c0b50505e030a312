//! What viewers are answered, whatever they came by.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;

use crate::building;
use crate::document::{Document, State, VERSION};
use crate::program::Program;
use crate::reading::Reader;

/// How long a task's end may take to be asked for: until the interpreter has time.
const CANCEL: Duration = Duration::from_secs(2);

/// Answers questions about one program.
pub(crate) struct Answers {
    program: Arc<dyn Program>,
    pub(crate) reader: Arc<Reader>,
}

/// The answer to an action.
#[derive(Serialize)]
struct Answer<'a> {
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

impl Answers {
    pub(crate) fn new(program: Arc<dyn Program>) -> Self {
        let reader = Reader::new(Arc::clone(&program));
        Self { program, reader }
    }

    /// The document, as a line.
    pub(crate) async fn document(&self, after: u64) -> Vec<u8> {
        line(&self.look(after).await)
    }

    pub(crate) async fn look(&self, after: u64) -> Document {
        self.reader.refresh().await;
        building::document(&*self.program, &self.reader.last(), after)
    }

    /// What loops do now, if one is blocked, or `was_blocked` when a viewer was told last.
    pub(crate) fn state(&self, was_blocked: bool) -> Option<State> {
        building::loops_now(&*self.program, &self.reader.last(), was_blocked)
    }

    /// Ends the worker of this process id, with the call that it runs.
    pub(crate) fn kill_call(&self, pid: i32) -> Vec<u8> {
        let runtime = self.program.runtime();
        if runtime.is_some_and(|runtime| runtime.kill_worker(pid)) {
            done()
        } else {
            failure(&format!("process {pid} is no worker of this program"))
        }
    }

    /// Asks for the end of a task.
    pub(crate) async fn cancel_task(&self, id: String, name: String) -> Vec<u8> {
        match timeout(CANCEL, self.reader.cancel(id, name)).await {
            Ok(Ok(Ok(()))) => done(),
            Ok(Ok(Err(reason))) => failure(&reason),
            Ok(Err(_)) => failure("the program ends"),
            Err(_) => failure("the interpreter has no time now: it is asked for once it has"),
        }
    }
}

fn done() -> Vec<u8> {
    line(&Answer {
        version: VERSION,
        done: Some(true),
        error: None,
    })
}

/// A refusal, as a line.
pub(crate) fn failure(reason: &str) -> Vec<u8> {
    line(&Answer {
        version: VERSION,
        done: None,
        error: Some(reason),
    })
}

fn line(value: &impl Serialize) -> Vec<u8> {
    // Texts, numbers and lists: none of them can fail.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}
