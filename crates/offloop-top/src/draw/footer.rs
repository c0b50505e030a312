//! The keys, what came of them, and questions.

use super::item;
use crate::canvas::{Canvas, Piece};
use crate::look::Meaning;
use crate::state::{Act, Page, Question, State};
use crate::words;

/// Columns of a key in the help.
const KEY_COLUMNS: usize = 12;

pub(super) fn draw(canvas: &mut Canvas<'_>, state: &State) {
    if let Some(question) = &state.question {
        canvas.write(0, 0, &asked(question));
        return;
    }
    if let Some(said) = &state.said {
        canvas.write(0, 1, &[(Meaning::Warning, said.clone())]);
        return;
    }
    let mut pieces: Vec<Piece> = Vec::new();
    for (key, what) in fitting(keys(state), canvas.columns()) {
        pieces.push((Meaning::Key, format!(" {key}")));
        pieces.push((Meaning::Faint, format!(" {what} ")));
    }
    canvas.write(0, 0, &pieces);
}

/// A key, what it does, and how early it makes way where there is no room for all.
type Told = (&'static str, &'static str, u32);

fn keys(state: &State) -> Vec<Told> {
    let mut keys = vec![("q", "quit", 0)];
    if state.page == Page::Overview {
        keys.extend([
            ("tab", "next", 5),
            ("up/down", "move", 7),
            ("enter", "open", 4),
        ]);
    } else {
        keys.extend([("esc", "back", 1), ("up/down", "scroll", 7)]);
    }
    if state.only_read.is_none() {
        keys.extend([("k", "kill", 2), ("c", "cancel", 3)]);
    }
    if state.document.loops.len() > 1 {
        keys.push(("l", "loop", 6));
    }
    keys.extend([("p", "pause", 1), ("?", "help", 0)]);
    keys
}

/// As many as there is room for: the help tells of all.
fn fitting(
    mut keys: Vec<Told>,
    columns: usize,
) -> impl Iterator<Item = (&'static str, &'static str)> {
    let width = |keys: &[Told]| {
        let each = keys.iter().map(|(key, what, _)| key.len() + what.len() + 3);
        each.sum::<usize>()
    };
    while width(&keys) > columns {
        let Some(first) = keys.iter().map(|(.., early)| *early).max() else {
            break;
        };
        if first == 0 {
            break;
        }
        keys.retain(|(.., early)| *early != first);
    }
    keys.into_iter().map(|(key, what, _)| (key, what))
}

/// The first question says what would be done, the second one what would come of it.
fn asked(question: &Question) -> Vec<Piece> {
    let (text, key) = match (&question.act, question.is_second) {
        (Act::Kill { pid, function, .. }, false) => {
            (format!(" Kill {function}, which worker {pid} runs? "), "y")
        }
        (Act::Kill { .. }, true) => (
            " The call is lost and its worker restarted. Kill it now? ".to_owned(),
            "k",
        ),
        (Act::Cancel { name, .. }, false) => (format!(" Cancel the task {name}? "), "y"),
        (Act::Cancel { .. }, true) => (
            " It gets a CancelledError where it waits. Cancel it now? ".to_owned(),
            "c",
        ),
    };
    vec![
        (Meaning::Alarm, text),
        (Meaning::Key, format!(" {key}")),
        (Meaning::Plain, " yes ".to_owned()),
        (Meaning::Key, " any other".to_owned()),
        (Meaning::Plain, " no".to_owned()),
    ]
}

pub(super) fn help(canvas: &mut Canvas<'_>, state: &State) {
    let keys: &[(&str, &str)] = &[
        ("q", "quit; the program under view goes on"),
        (
            "tab",
            "to the next section; shift and tab to the one before",
        ),
        ("up, down", "choose a line; page up and page down go by ten"),
        (
            "enter",
            "open what is chosen: the last stack of a culprit, a worker, a task",
        ),
        ("esc", "back"),
        ("k", "kill the call that a worker runs; asks twice"),
        ("c", "cancel a task; asks twice"),
        ("l", "to the next loop"),
        ("p", "keep this picture, or go on"),
        (
            "ctrl-z",
            "stop, and give the terminal back; `fg` has it go on",
        ),
    ];
    let columns = canvas.columns().saturating_sub(1);
    let room = columns.saturating_sub(KEY_COLUMNS);
    let mut lines: Vec<Vec<Piece>> = Vec::new();
    for (key, what) in keys {
        for (index, text) in words::wrap(what, room).into_iter().enumerate() {
            let key = if index == 0 { key } else { "" };
            lines.push(vec![
                (Meaning::Key, words::column(key, KEY_COLUMNS, "")),
                (Meaning::Plain, text),
            ]);
        }
    }
    let picture = "A column of the picture is a second, a row a range of lags: how late the loop \
                   was for what was due. How dark a cell is says how large its part of that second \
                   is. A stall climbs from row to row for as long as it lasts.";
    lines.push(Vec::new());
    let wrapped = words::wrap(picture, columns).into_iter();
    lines.extend(wrapped.map(|text| vec![(Meaning::Faint, text)]));
    item::page(canvas, state, "keys", &lines);
}
