//! Pictures of one document, at the sizes of terminals that there are.
//!
//! Each picture was looked at, and stands in `pictures/`. A test that fails writes what it drew
//! into the target folder, and says where.

use std::fs;
use std::path::Path;

use offloop_top::canvas::Canvas;
use offloop_top::draw;
use offloop_top::look::{Look, Paint};
use offloop_top::print;
use offloop_top::state::{Key, State};
use offloop_views::document::Document;
use ratatui_core::backend::TestBackend;
use ratatui_core::terminal::Terminal;

const LETTERS: Look = Look {
    paint: Paint::Nothing,
    unicode: true,
};

fn document() -> Document {
    serde_json::from_str(include_str!("document.json")).expect("the sample is a document")
}

/// After a minute in which the loop was healthy, but for what the document tells.
fn state() -> State {
    let last = document();
    let mut state = State::default();
    state.is_attended = true;
    for ago in (3..60).rev() {
        let mut earlier = last.clone();
        earlier.process.now -= f64::from(ago);
        earlier.process.cpu_seconds = last
            .process
            .cpu_seconds
            .map(|all| all - f64::from(ago) * 0.4);
        let statistics = earlier.loops[0]
            .statistics
            .as_mut()
            .expect("there are some");
        statistics.age_seconds = 0.1;
        statistics.utilisation_1s = 0.3 + 0.2 * f64::from(ago % 5) / 4.0;
        for (index, bucket) in statistics.lag.buckets.iter_mut().enumerate() {
            let rate = [40, 60, 90, 70, 30, 10, 5, 2][index.min(7)] + 2 * u64::from(index < 6);
            let seconds = u64::try_from(ago).expect("positive");
            bucket.1 = bucket.1.saturating_sub(if index < 8 || ago % 9 == 0 {
                rate * seconds / (1 + index as u64 / 6)
            } else {
                0
            });
        }
        state.handle_document(earlier);
    }
    state.handle_document(last);
    state
}

/// What a terminal of this size shows.
fn screen(state: &State, columns: u16, rows: u16, look: Look) -> String {
    let backend = TestBackend::new(columns, rows);
    let mut terminal = Terminal::new(backend).expect("a terminal in memory");
    terminal
        .draw(|frame| {
            let area = frame.area();
            draw::draw(&mut Canvas::new(frame.buffer_mut(), area, look), state);
        })
        .expect("it cannot fail");
    print::text(terminal.backend().buffer())
}

fn compare(name: &str, drawn: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/pictures")
        .join(name);
    let expected = fs::read_to_string(&file).unwrap_or_default();
    if drawn != expected {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let other = folder.join(name);
        fs::write(&other, drawn).expect("the folder is there");
        panic!(
            "{} differs from {}:\n{drawn}",
            other.display(),
            file.display()
        );
    }
}

#[test]
fn a_terminal_of_80_columns() {
    compare("overview-80x24.txt", &screen(&state(), 80, 24, LETTERS));
}

#[test]
fn a_large_terminal() {
    compare("overview-120x40.txt", &screen(&state(), 120, 40, LETTERS));
}

#[test]
fn a_small_terminal_shows_what_is_urgent() {
    compare("overview-20x10.txt", &screen(&state(), 20, 10, LETTERS));
    compare("overview-50x16.txt", &screen(&state(), 50, 16, LETTERS));
}

#[test]
fn a_terminal_without_unicode() {
    compare("ascii-80x24.txt", &screen(&state(), 80, 24, Look::PLAIN));
}

#[test]
fn the_last_stack_of_a_culprit() {
    let mut state = state();
    state.handle_key(Key::Enter);
    compare("culprit-80x24.txt", &screen(&state, 80, 24, LETTERS));
}

#[test]
fn a_worker_and_a_task() {
    let mut state = state();
    state.handle_key(Key::Next);
    state.handle_key(Key::Enter);
    compare("worker-80x24.txt", &screen(&state, 80, 24, LETTERS));
    state.handle_key(Key::Escape);
    state.handle_key(Key::Next);
    state.handle_key(Key::Down);
    state.handle_key(Key::Enter);
    compare("task-80x24.txt", &screen(&state, 80, 24, LETTERS));
}

#[test]
fn questions_and_help() {
    let mut state = state();
    state.handle_key(Key::Next);
    state.handle_key(Key::Letter('k'));
    compare("question-80x24.txt", &screen(&state, 80, 24, LETTERS));
    state.handle_key(Key::Escape);
    state.handle_key(Key::Letter('?'));
    compare("help-80x24.txt", &screen(&state, 80, 24, LETTERS));
}

#[test]
fn a_picture_that_is_printed_is_as_high_as_it_needs() {
    let mut state = State::default();
    state.handle_document(document());
    compare(
        "printed-80.txt",
        &print::text(&draw::picture(&state, 80, LETTERS)),
    );
    let empty = State::default();
    compare(
        "printed-empty.txt",
        &print::text(&draw::picture(&empty, 80, LETTERS)),
    );
}

#[test]
fn nothing_is_too_small_or_too_large() {
    let mut state = state();
    for columns in [1, 2, 7, 19, 39, 40, 41, 59, 60, 71, 72, 80, 300] {
        for rows in [1, 2, 3, 9, 13, 14, 15, 24, 100] {
            for page in 0..3 {
                screen(&state, columns, rows, LETTERS);
                screen(&State::default(), columns, rows, Look::PLAIN);
                state.handle_key([Key::Enter, Key::Letter('?'), Key::Escape][page]);
            }
        }
    }
}
