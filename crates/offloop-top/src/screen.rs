//! The terminal: its whole screen is taken over, and given back whatever happens.
//!
//! Source:     crossterm; termios(3).

use std::io::{self, BufWriter, Stdout, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use crossterm::cursor::{Hide, Show};
use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::execute;
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use offloop_sys::hangup::EndsWithTerminal;
use offloop_sys::suspending::{Stops, Suspending};
use offloop_sys::terminal::wait_for_input;
use ratatui_core::terminal::Terminal;
use ratatui_crossterm::CrosstermBackend;

use crate::canvas::Canvas;
use crate::draw;
use crate::look::Look;
use crate::state::{Key, State};

/// What happened at the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// A key was pressed.
    Key(Key),
    /// Ctrl-C was.
    Interrupt,
    /// Ctrl-Z was.
    Suspend,
    /// It has another size, or shows something else.
    Changed,
    /// Nothing of importance.
    Nothing,
}

/// A terminal whose screen is ours.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
    look: Look,
    suspending: Suspending,
    /// What reads the keys would read the end of a terminal for ever.
    _ends: EndsWithTerminal,
}

impl Screen {
    /// Takes it over.
    ///
    /// # Errors
    /// The system's, if it is no terminal.
    pub fn open(look: Look) -> io::Result<Self> {
        let suspending = Suspending::begin()?;
        let ends = EndsWithTerminal::begin()?;
        enable_raw_mode()?;
        let entered = execute!(io::stdout(), EnterAlternateScreen, Hide);
        let backend = CrosstermBackend::new(BufWriter::new(io::stdout()));
        match entered.and_then(|()| Terminal::new(backend)) {
            Ok(terminal) => Ok(Self {
                terminal,
                look,
                suspending,
                _ends: ends,
            }),
            Err(error) => {
                give_back();
                Err(error)
            }
        }
    }

    /// Shows a picture.
    ///
    /// # Errors
    /// The system's.
    pub fn show(&mut self, state: &State) -> io::Result<()> {
        let look = self.look;
        self.terminal.draw(|frame| {
            let area = frame.area();
            draw::draw(&mut Canvas::new(frame.buffer_mut(), area, look), state);
        })?;
        Ok(())
    }

    /// Draws all of it anew the next time.
    ///
    /// # Errors
    /// The system's.
    pub fn forget(&mut self) -> io::Result<()> {
        // To clear would ask the terminal where its cursor is, and not every one answers.
        let size = self.terminal.size()?;
        self.terminal.resize(size.into())
    }

    /// Gives the terminal back, stops, and takes it again once the process goes on.
    fn suspend(&self, which: Stops) -> io::Result<Happened> {
        give_back();
        self.suspending.stop(which)?;
        take_again()
    }

    /// Waits for a key, at most so long. Stops, and goes on, where the user wants that.
    ///
    /// # Errors
    /// The system's, if the terminal is gone.
    pub fn wait(&self, limit: Duration) -> io::Result<Happened> {
        let happened = self.wait_for_key(limit)?;
        if self.suspending.is_wanted() {
            return self.suspend(Stops::Process);
        }
        if self.suspending.went_on() {
            // It was stopped without a word; the shell has written, and has its own modes.
            return take_again();
        }
        match happened {
            Happened::Suspend => self.suspend(Stops::Job),
            happened => Ok(happened),
        }
    }

    fn wait_for_key(&self, limit: Duration) -> io::Result<Happened> {
        // What reads the keys does not tell of the end of a terminal.
        wait_for_input(io::stdin().as_fd(), Duration::ZERO)?;
        if !event::poll(Duration::ZERO)? {
            wait_for_input(io::stdin().as_fd(), limit)?;
            if !event::poll(Duration::ZERO)? {
                return Ok(Happened::Nothing);
            }
        }
        Ok(match event::read()? {
            Event::Key(key) if key.kind == KeyEventKind::Release => Happened::Nothing,
            Event::Key(key) if key.modifiers.contains(KeyModifiers::CONTROL) => match key.code {
                KeyCode::Char('c') => Happened::Interrupt,
                KeyCode::Char('l') => Happened::Changed,
                KeyCode::Char('z') => Happened::Suspend,
                _ => Happened::Nothing,
            },
            Event::Key(key) => key_of(key.code).map_or(Happened::Nothing, Happened::Key),
            Event::Resize(..) => Happened::Changed,
            _ => Happened::Nothing,
        })
    }
}

fn key_of(code: KeyCode) -> Option<Key> {
    Some(match code {
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Tab | KeyCode::Right => Key::Next,
        KeyCode::BackTab | KeyCode::Left => Key::Previous,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc | KeyCode::Backspace => Key::Escape,
        KeyCode::Char(letter) => Key::Letter(letter),
        _ => return None,
    })
}

/// Whatever its modes are now.
fn take_again() -> io::Result<Happened> {
    disable_raw_mode()?;
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, Hide)?;
    Ok(Happened::Changed)
}

/// A terminal that is gone takes nothing back; there is nothing to do about it.
fn give_back() {
    let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
    let _ = io::stdout().flush();
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}
