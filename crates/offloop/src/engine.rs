//! The threads of what shows the program: they are started at the first use, and never needed by a
//! call or a loop.
//!
//! The *engine* answers whatever looks at the program, and never attaches to Python. The *reader*
//! asks the interpreter for what it alone knows; while a call of C keeps the GIL the reader waits
//! for it, and the engine answers with what was read last.
//!
//! Threads:    what is started here blocks every signal: a program may wait for its own.

use std::io;
use std::thread::{self, JoinHandle};

use offloop_sys::thread::block_signals;

/// Starts the thread that answers.
///
/// # Errors
/// The system's, when there is no room for a thread.
pub fn start(run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    named("offloop-engine", run)
}

/// Starts the thread that asks the interpreter.
///
/// # Errors
/// The system's, when there is no room for a thread.
pub fn start_reader(run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    named("offloop-reader", run)
}

fn named(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(move || {
        block_signals();
        run();
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_have_names_by_which_the_system_shows_them() {
        let named = || thread::current().name().map(str::to_owned);
        let (say, hear) = std::sync::mpsc::channel();
        for start in [start, start_reader] as [fn(Box<dyn FnOnce() + Send>) -> _; 2] {
            let say = say.clone();
            let thread: io::Result<JoinHandle<()>> = start(Box::new(move || {
                say.send(named()).expect("the test listens");
            }));
            thread.expect("a thread").join().expect("it ends");
        }
        let heard: Vec<_> = hear.try_iter().flatten().collect();
        assert_eq!(heard, ["offloop-engine", "offloop-reader"]);
    }
}
