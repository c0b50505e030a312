//! What `offloop top` does: finds the program, and shows it once or until a key ends it.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::draw;
use crate::look::Look;
use crate::print;
use crate::screen::{Happened, Screen};
use crate::source::{Answer, Source, open};
use crate::state::{State, Wish};
use crate::trouble::Trouble;
use offloop_views::document::Document;

/// How often it is looked whether the caller wants to go on.
const LOOK: Duration = Duration::from_millis(200);
/// How often it is looked for an answer that is waited for.
const ANSWER_LOOK: Duration = Duration::from_millis(10);
/// After this time without an answer it is said.
const SILENCE: Duration = Duration::from_secs(2);
/// How long a first answer is waited for.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// How far apart pictures are at least that are printed one below another.
const PRINTED_APART: Duration = Duration::from_secs(2);
/// Columns of a picture that is no terminal's.
const COLUMNS: u16 = 80;

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The process; the only one under offloop if none is named.
    pub pid: Option<u32>,
    /// The caller's own Python, in the form of `PY_VERSION_HEX`.
    pub version: u64,
    /// One document, printed.
    pub once: bool,
    /// As JSON.
    pub as_json: bool,
    /// How far apart documents are.
    pub every: Duration,
}

/// Runs it; `goes_on` is asked a few times per second whether it should.
///
/// # Errors
/// Why there is nothing to see, or not any more.
pub fn top(options: Options, goes_on: &dyn Fn() -> bool) -> Result<(), Trouble> {
    let mut source = open(options.pid, options.version)?;
    let look = Look::of_environment(|name| std::env::var(name).ok());
    if options.once {
        let Some(document) = first(&mut *source, goes_on)? else {
            return Ok(());
        };
        return if options.as_json {
            print_json(&document)
        } else {
            let mut state = new_state(&*source);
            state.handle_document(*document);
            print_picture(&state, look)
        };
    }
    let on_terminal = io::stdout().is_terminal() && io::stdin().is_terminal();
    if on_terminal && std::env::var("TERM").is_ok_and(|term| !matches!(&*term, "" | "dumb")) {
        watch(&mut *source, look, options.every, goes_on)
    } else {
        print_on(
            &mut *source,
            look,
            options.every.max(PRINTED_APART),
            goes_on,
        )
    }
}

fn new_state(source: &dyn Source) -> State {
    let mut state = State::default();
    state.only_read = source.only_read();
    state
}

/// The first document; `None` if the caller does not want to go on.
fn first(
    source: &mut dyn Source,
    goes_on: &dyn Fn() -> bool,
) -> Result<Option<Box<Document>>, Trouble> {
    let begin = Instant::now();
    source.ask_for_document()?;
    while goes_on() {
        if let Some(Answer::Document(document)) = source.poll()? {
            return Ok(Some(document));
        }
        let waited = begin.elapsed();
        if waited > FIRST_ANSWER {
            return Err(Trouble::Silent {
                pid: source.pid(),
                seconds: waited.as_secs_f64(),
            });
        }
        std::thread::sleep(ANSWER_LOOK);
    }
    Ok(None)
}

fn print_json(document: &Document) -> Result<(), Trouble> {
    let text = serde_json::to_string(document).map_err(io::Error::from)?;
    print_text(&format!("{text}\n"))
}

fn print_picture(state: &State, look: Look) -> Result<(), Trouble> {
    let stdout = io::stdout();
    let is_terminal = stdout.is_terminal();
    let asked = std::env::var("COLUMNS")
        .ok()
        .and_then(|columns| columns.parse().ok());
    let columns = asked.or_else(|| offloop_sys::terminal::columns(stdout.as_fd()));
    let look = if is_terminal {
        look
    } else {
        look.without_paint()
    };
    let picture = draw::picture(state, columns.unwrap_or(COLUMNS), look);
    print_text(&print::text(&picture))
}

fn print_text(text: &str) -> Result<(), Trouble> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        // What reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => Ok(outcome?),
    }
}

/// Pictures below one another, where there is no screen to draw on.
fn print_on(
    source: &mut dyn Source,
    look: Look,
    every: Duration,
    goes_on: &dyn Fn() -> bool,
) -> Result<(), Trouble> {
    let mut state = new_state(source);
    loop {
        let next = Instant::now() + every;
        let Some(document) = first(source, goes_on)? else {
            return Ok(());
        };
        state.handle_document(*document);
        print_picture(&state, look)?;
        print_text("\n")?;
        while Instant::now() < next {
            if !goes_on() {
                return Ok(());
            }
            std::thread::sleep(LOOK.min(next.saturating_duration_since(Instant::now())));
        }
    }
}

fn watch(
    source: &mut dyn Source,
    look: Look,
    every: Duration,
    goes_on: &dyn Fn() -> bool,
) -> Result<(), Trouble> {
    let mut state = new_state(source);
    state.is_attended = true;
    // Before the screen is taken over, so that a first trouble is a plain line.
    match first(source, goes_on)? {
        Some(document) => state.handle_document(*document),
        None => return Ok(()),
    }
    let mut screen = Screen::open(look)?;
    let mut next = Instant::now() + every;
    let mut is_changed = true;
    while goes_on() {
        if Instant::now() >= next && source.waits_for().is_none() {
            source.ask_for_document()?;
            next = Instant::now() + every;
        }
        is_changed |= take_answers(source, &mut state)?;
        if is_changed {
            screen.show(&state)?;
        }
        let until_next = next.saturating_duration_since(Instant::now());
        let limit = match source.waits_for() {
            Some(_) => ANSWER_LOOK,
            None => until_next.min(LOOK),
        };
        let wish = match screen.wait(limit)? {
            Happened::Nothing | Happened::Suspend => {
                is_changed = false;
                continue;
            }
            Happened::Interrupt => return Ok(()),
            Happened::Changed => {
                screen.forget()?;
                Wish::Look
            }
            Happened::Key(key) => state.handle_key(key),
        };
        match wish {
            Wish::Look => {}
            Wish::Quit => return Ok(()),
            Wish::Do(act) => {
                state.said = Some("asked for it".to_owned());
                source.ask_for_act(&act)?;
            }
        }
        is_changed = true;
    }
    Ok(())
}

/// Whether something is to be drawn anew.
fn take_answers(source: &mut dyn Source, state: &mut State) -> Result<bool, Trouble> {
    let mut is_changed = false;
    while let Some(answer) = source.poll()? {
        match answer {
            Answer::Document(document) => state.handle_document(*document),
            Answer::Said(said) => state.said = Some(said),
        }
        is_changed = true;
    }
    if let Some(waited) = source.waits_for().filter(|&waited| waited >= SILENCE) {
        let silent = Some(format!("no answer for {} s", waited.as_secs()));
        is_changed |= silent != state.silent;
        state.silent = silent;
    }
    Ok(is_changed)
}
