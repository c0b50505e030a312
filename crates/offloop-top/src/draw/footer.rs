//! The keys, what came of them, and questions.

use super::item;
use crate::canvas::{Canvas, Piece};
use crate::look::Meaning;
use crate::state::{Act, Page, Question, State};

pub(super) fn draw(canvas: &mut Canvas<'_>, state: &State) {
    if let Some(question) = &state.question {
        canvas.write(0, 0, &asked(question));
        return;
    }
    if let Some(said) = &state.said {
        canvas.write(0, 1, &[(Meaning::Warning, said.clone())]);
        return;
    }
    let mut keys = vec![("q", "quit")];
    if state.page == Page::Overview {
        keys.extend([("tab", "section"), ("up/down", "choose"), ("enter", "open")]);
    } else {
        keys.extend([("esc", "back"), ("up/down", "scroll")]);
    }
    if state.only_read.is_none() {
        keys.extend([("k", "kill call"), ("c", "cancel task")]);
    }
    if state.document.loops.len() > 1 {
        keys.push(("l", "next loop"));
    }
    keys.extend([("p", "pause"), ("?", "help")]);
    let mut pieces: Vec<Piece> = Vec::new();
    for (key, what) in keys {
        pieces.push((Meaning::Key, format!(" {key}")));
        pieces.push((Meaning::Faint, format!(" {what} ")));
    }
    canvas.write(0, 0, &pieces);
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
    ];
    let mut lines: Vec<Vec<Piece>> = keys
        .iter()
        .map(|(key, what)| {
            vec![
                (Meaning::Key, format!("{key:<11}")),
                (Meaning::Plain, (*what).to_owned()),
            ]
        })
        .collect();
    let words = [
        "",
        "A column of the picture is a second, a row a range of lags: how late the loop was",
        "for what was due. How dark a cell is says how large its part of that second is.",
        "A stall climbs from row to row for as long as it lasts.",
    ];
    lines.extend(words.map(|text| vec![(Meaning::Faint, text.to_owned())]));
    item::page(canvas, state, "keys", &lines);
}
