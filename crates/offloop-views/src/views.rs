//! The engine: one thread that waits for viewers, and answers them.
//!
//! Sockets are bound by the thread that asks for them, so that it gets the system's errors; the
//! engine is handed what is bound.
//!
//! Threads:    any may hold [`Views`]; the engine's thread alone serves.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle as TaskHandle;

use crate::answers::Answers;
use crate::page::{self, PageOptions};
use crate::program::Program;
use crate::socket::{self, SocketFile};

/// Commands that wait: each is a call of the program's.
const COMMANDS_MAX: usize = 16;

/// How long the end of the views waits for the engine, and how often it looks.
const END_BOUND: Duration = Duration::from_secs(1);
const END_SLICE: Duration = Duration::from_millis(1);

enum Command {
    Socket(Option<Box<socket::Bound>>),
    Page(Option<Box<page::Bound>>),
}

/// Views that are on, until they are stopped.
pub struct Views {
    commands: Sender<Command>,
    answers: Arc<Answers>,
    thread: JoinHandle<()>,
    file: Option<SocketFile>,
}

impl Views {
    /// Starts the engine, which serves nothing yet.
    ///
    /// # Errors
    /// The system's, when there is no descriptor or no room for a thread.
    pub fn start(program: Arc<dyn Program>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let answers = Arc::new(Answers::new(program));
        let (commands, received) = channel(COMMANDS_MAX);
        let of_engine = Arc::clone(&answers);
        let thread = offloop::engine::start(move || runtime.block_on(run(received, of_engine)))?;
        Ok(Self {
            commands,
            answers,
            thread,
            file: None,
        })
    }

    /// Listens on the private socket from now on; its path.
    ///
    /// # Errors
    /// The system's, or why there is no folder for it.
    pub fn open_socket(&mut self) -> io::Result<PathBuf> {
        // Its file makes way for another one of the same name.
        self.file = None;
        let (file, bound) = socket::bind()?;
        let path = file.path.clone();
        self.command(Command::Socket(Some(Box::new(bound))))?;
        self.file = Some(file);
        Ok(path)
    }

    /// Listens no more on the private socket.
    pub fn close_socket(&mut self) {
        self.file = None;
        // An engine that has ended has closed it.
        let _ = self.command(Command::Socket(None));
    }

    /// Serves the live page from now on, in place of the one that it serves; its address, with the
    /// token. What happens in the runtime is recorded for it.
    ///
    /// # Errors
    /// The system's, as when the port is taken.
    pub fn open_page(
        &self,
        options: &PageOptions,
        runtime: Option<&offloop::Runtime>,
    ) -> io::Result<String> {
        let (url, bound) = page::bind(options, runtime)?;
        self.command(Command::Page(Some(Box::new(bound))))?;
        Ok(url)
    }

    /// Serves the live page no more.
    pub fn close_page(&self) {
        // An engine that has ended has closed it.
        let _ = self.command(Command::Page(None));
    }

    fn command(&self, command: Command) -> io::Result<()> {
        self.commands
            .try_send(command)
            .map_err(|_| io::Error::new(io::ErrorKind::WouldBlock, "the engine takes no command"))
    }

    /// Ends the engine, within a second.
    pub fn stop(self) {
        let Self {
            commands,
            answers,
            thread,
            file,
        } = self;
        drop(file);
        answers.reader.stop();
        drop(commands);
        let until = Instant::now() + END_BOUND;
        while !thread.is_finished() && Instant::now() < until {
            thread::park_timeout(END_SLICE);
        }
    }
}

/// Carries out the commands until there is nothing to come.
async fn run(mut commands: Receiver<Command>, answers: Arc<Answers>) {
    let (mut socket, mut page) = (Service::default(), Service::default());
    while let Some(command) = commands.recv().await {
        match command {
            Command::Socket(bound) => {
                socket.stop().await;
                if let Some(bound) = bound {
                    socket.begin(socket::serve(*bound, Arc::clone(&answers)));
                }
            }
            Command::Page(bound) => {
                page.stop().await;
                if let Some(bound) = bound {
                    page.begin(page::serve(*bound, Arc::clone(&answers)));
                }
            }
        }
    }
    socket.stop().await;
    page.stop().await;
}

/// Something that is served, or not.
#[derive(Default)]
struct Service(Option<TaskHandle<()>>);

impl Service {
    fn begin(&mut self, serve: impl Future<Output = ()> + Send + 'static) {
        self.0 = Some(tokio::spawn(serve));
    }

    /// Ends it; all that it has is closed then.
    async fn stop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
            // It ends as aborted.
            let _ = task.await;
        }
    }
}
