//! The picture: a document on the cells of a screen.
//!
//! ```text
//! header     which program, how it does
//! loop       how late it ran, second by second; what it does now
//! culprits   which lines blocked it, the worst first
//! lanes      queues and workers
//! tasks      each below the one that awaits it
//! footer     keys, or a question
//! ```
//!
//! Each part has the least that it is drawn with; what is left of the screen goes where there is
//! more to show. Nothing here knows of a terminal: the same picture is printed by `--once`.

mod culprits;
mod footer;
mod header;
mod item;
mod loops;
mod narrow;
mod pools;
mod tasks;

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

use crate::canvas::{Canvas, Piece};
use crate::look::{Look, Meaning};
use crate::state::{Page, Section, State};

/// Columns and rows below which only the most urgent is drawn.
const COLUMNS_LEAST: usize = 40;
const ROWS_LEAST: usize = 14;

/// Rows of a picture that is as high as it likes.
const ROWS_MOST: usize = 200;

/// Draws on a screen.
pub fn draw(canvas: &mut Canvas<'_>, state: &State) {
    canvas.clear();
    let rows = canvas.rows();
    if canvas.columns() < COLUMNS_LEAST || rows < ROWS_LEAST {
        narrow::draw(canvas, state);
        return;
    }
    footer::draw(&mut canvas.part(rows - 1, 1), state);
    header::draw(&mut canvas.part(0, 2), state);
    let mut body = canvas.part(2, rows - 3);
    match &state.page {
        Page::Overview => overview(&mut body, state),
        Page::Item(found) => item::draw(&mut body, state, found),
        Page::Help => footer::help(&mut body, state),
    }
}

/// A picture of as many rows as it takes, of this width.
#[must_use]
pub fn picture(state: &State, columns: u16, look: Look) -> Buffer {
    let columns = columns.max(COLUMNS_LEAST as u16);
    let wanted = 2 + wanted(state).iter().map(|part| part.most).sum::<usize>();
    let rows = wanted.min(ROWS_MOST) as u16;
    let mut buffer = Buffer::empty(Rect::new(0, 0, columns, rows));
    let area = buffer.area;
    let mut canvas = Canvas::new(&mut buffer, area, look);
    header::draw(&mut canvas.part(0, 2), state);
    let rows = canvas.rows();
    overview(&mut canvas.part(2, rows - 2), state);
    buffer
}

/// Rows of a part.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    least: usize,
    most: usize,
}

/// Of the loop, the culprits, the lanes and the tasks.
fn wanted(state: &State) -> [Wanted; 4] {
    [
        Wanted {
            least: loops::ROWS_SHORT,
            most: loops::rows(state),
        },
        Wanted {
            least: 3,
            most: culprits::rows(state),
        },
        Wanted {
            least: 2,
            most: pools::rows(state),
        },
        Wanted {
            least: 2,
            most: tasks::rows(state),
        },
    ]
}

/// How many rows each part gets.
fn shared(rows: usize, wanted: [Wanted; 4]) -> [usize; 4] {
    let mut given = wanted.map(|part| part.least.min(part.most));
    let mut left = rows.saturating_sub(given.iter().sum());
    // The loop is drawn whole or short.
    let whole = wanted[0].most - given[0];
    if left >= whole + 2 {
        given[0] += whole;
        left -= whole;
    }
    let mut took = true;
    while left > 0 && took {
        took = false;
        for part in 1..given.len() {
            if left > 0 && given[part] < wanted[part].most {
                given[part] += 1;
                left -= 1;
                took = true;
            }
        }
    }
    given
}

fn overview(canvas: &mut Canvas<'_>, state: &State) {
    let [of_loop, of_culprits, of_pools, of_tasks] = shared(canvas.rows(), wanted(state));
    let mut row = 0;
    let mut part = |canvas: &mut Canvas<'_>, rows, draw: fn(&mut Canvas<'_>, &State)| {
        draw(&mut canvas.part(row, rows), state);
        row += rows;
    };
    part(canvas, of_loop, loops::draw);
    part(canvas, of_culprits, culprits::draw);
    part(canvas, of_pools, pools::draw);
    part(canvas, of_tasks, tasks::draw);
}

/// The title of a section, marked where keys move in it.
fn section_title(state: &State, section: Section, canvas: &Canvas<'_>, title: &str) -> Vec<Piece> {
    if state.section == section && state.page == Page::Overview && state.is_attended {
        let mark = format!("{} ", canvas.signs().chosen);
        vec![(Meaning::Key, mark), (Meaning::Title, title.to_owned())]
    } else {
        vec![(Meaning::Title, title.to_owned())]
    }
}

/// The first row that is drawn of a list, so that the chosen one is seen.
fn first_shown(chosen: usize, shown: usize, all: usize) -> usize {
    let last = all.saturating_sub(shown);
    chosen.saturating_sub(shown.saturating_sub(1) / 2).min(last)
}

/// What a title says of rows that were not drawn.
fn more(shown: usize, all: u64) -> Vec<Piece> {
    let left = all.saturating_sub(shown as u64);
    if left == 0 {
        Vec::new()
    } else {
        vec![(Meaning::Faint, format!("{left} more"))]
    }
}

/// How bad it is that a loop was kept for so long.
fn meaning_of(seconds: f64) -> Meaning {
    match crate::history::level_of(seconds) {
        0 | 1 => Meaning::Good,
        2 => Meaning::Warning,
        _ => Meaning::Bad,
    }
}
