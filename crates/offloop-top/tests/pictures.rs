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

/// Writes all that differ before it fails.
fn compare(pictures: &[(&str, String)]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pictures");
    let other = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let mut differing = Vec::new();
    for (name, drawn) in pictures {
        let expected = fs::read_to_string(folder.join(name)).unwrap_or_default();
        if *drawn != expected {
            fs::write(other.join(name), drawn).expect("the folder is there");
            differing.push(format!("{name}:\n{drawn}"));
        }
    }
    assert!(
        differing.is_empty(),
        "these are not as in {}, and stand in {} now:\n{}",
        folder.display(),
        other.display(),
        differing.join("\n")
    );
}

#[test]
fn terminals_of_many_sizes() {
    let state = state();
    compare(&[
        ("overview-80x24.txt", screen(&state, 80, 24, LETTERS)),
        ("overview-120x40.txt", screen(&state, 120, 40, LETTERS)),
        ("overview-50x16.txt", screen(&state, 50, 16, LETTERS)),
        ("overview-20x10.txt", screen(&state, 20, 10, LETTERS)),
        ("ascii-80x24.txt", screen(&state, 80, 24, Look::PLAIN)),
    ]);
}

#[test]
fn what_keys_open() {
    let mut state = state();
    let mut after = |keys: &[Key]| {
        for &key in keys {
            state.handle_key(key);
        }
        screen(&state, 80, 24, LETTERS)
    };
    let mut helped = self::state();
    helped.handle_key(Key::Letter('?'));
    compare(&[
        ("help-50x16.txt", screen(&helped, 50, 16, LETTERS)),
        ("culprit-80x24.txt", after(&[Key::Enter])),
        (
            "worker-80x24.txt",
            after(&[Key::Escape, Key::Next, Key::Enter]),
        ),
        ("question-80x24.txt", after(&[Key::Letter('k')])),
        ("sure-80x24.txt", after(&[Key::Letter('y')])),
        ("help-80x24.txt", after(&[Key::Escape, Key::Letter('?')])),
        (
            "task-80x24.txt",
            after(&[Key::Escape, Key::Next, Key::Down, Key::Enter]),
        ),
    ]);
}

#[test]
fn a_picture_that_is_printed_is_as_high_as_it_needs() {
    let mut state = State::default();
    state.handle_document(document());
    let printed = |state| print::text(&draw::picture(state, 80, LETTERS));
    compare(&[
        ("printed-80.txt", printed(&state)),
        ("printed-empty.txt", printed(&State::default())),
    ]);
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
