//! Which program it is, and how it does.

use crate::canvas::{Canvas, Piece};
use crate::look::Meaning;
use crate::state::State;
use crate::words;

pub(super) fn draw(canvas: &mut Canvas<'_>, state: &State) {
    let process = &state.document.process;
    let dot = format!(" {} ", canvas.signs().dot);
    let mut first: Vec<Piece> = vec![
        (Meaning::Title, " offloop top  ".to_owned()),
        (Meaning::Name, process.program.clone()),
        (Meaning::Plain, format!("{dot}pid {}", process.pid)),
    ];
    if !process.python.is_empty() {
        first.push((Meaning::Faint, format!("{dot}Python {}", process.python)));
    }
    let up = words::seconds(process.now - process.started);
    first.push((Meaning::Faint, format!("{dot}up {up}")));
    let badge = [badge(canvas, state), (Meaning::Plain, " ".to_owned())];
    let length: usize = badge.iter().map(|(_, text)| words::width(text)).sum();
    let room = canvas.columns().saturating_sub(length + 1);
    let first = shortened(first, room, canvas.signs().cut);
    let end = canvas.write(0, 0, &first);
    canvas.write_right(0, end, &badge);
    canvas.write(1, 0, &numbers(state, &dot));
}

/// Without those at the end that there is no room for; the program's name is cut last.
fn shortened(mut pieces: Vec<Piece>, room: usize, cut: &str) -> Vec<Piece> {
    let length =
        |pieces: &[Piece]| -> usize { pieces.iter().map(|(_, text)| words::width(text)).sum() };
    while length(&pieces) > room && pieces.len() > 3 {
        pieces.pop();
    }
    let over = length(&pieces).saturating_sub(room);
    if over > 0 {
        let name = words::width(&pieces[1].1);
        pieces[1].1 = words::fit_end(&pieces[1].1, name.saturating_sub(over), cut);
    }
    pieces
}

/// What is to be seen first.
pub(super) fn badge(canvas: &Canvas<'_>, state: &State) -> Piece {
    if let Some(silent) = &state.silent {
        return (Meaning::Alarm, format!(" {silent} "));
    }
    if state.is_paused {
        return (
            Meaning::Warning,
            format!("{} paused", canvas.signs().paused),
        );
    }
    let blocked = state
        .document
        .loops
        .iter()
        .filter_map(|each| each.blocked.as_ref());
    let longest = blocked
        .map(|blocked| blocked.seconds)
        .fold(None, |longest, seconds| {
            Some(longest.map_or(seconds, |longest: f64| longest.max(seconds)))
        });
    match longest {
        Some(longest) => {
            let time = words::seconds(longest);
            (Meaning::Alarm, format!(" BLOCKED {time} "))
        }
        None if state
            .document
            .loops
            .iter()
            .any(|each| each.is_running != Some(false)) =>
        {
            (Meaning::Good, "running".to_owned())
        }
        None => (Meaning::Faint, "no loop runs".to_owned()),
    }
}

fn numbers(state: &State, dot: &str) -> Vec<Piece> {
    let (process, watch) = (&state.document.process, &state.document.watch);
    let mut parts: Vec<Piece> = Vec::new();
    match (state.processor, process.cpu_seconds) {
        (Some(part), _) => parts.push((Meaning::Plain, format!("cpu {}", words::percent(part)))),
        (None, Some(all)) => {
            parts.push((Meaning::Plain, format!("{} of cpu", words::seconds(all))));
        }
        (None, None) => {}
    }
    if let Some(bytes) = process.memory_bytes {
        parts.push((Meaning::Plain, words::bytes(bytes)));
    }
    if let Some(threads) = process.threads {
        let name = if threads == 1 { "thread" } else { "threads" };
        parts.push((Meaning::Plain, format!("{threads} {name}")));
    }
    if state.document.tasks.reason.is_none() {
        let tasks = words::count(state.document.tasks.total);
        parts.push((Meaning::Plain, format!("{tasks} tasks")));
    }
    if watch.is_on {
        let blocked = words::seconds(watch.blocked_seconds);
        parts.push(if watch.stalls == 0 {
            (Meaning::Good, "no stall".to_owned())
        } else {
            let stalls = words::count(watch.stalls);
            (
                Meaning::Warning,
                format!("{stalls} stalls, blocked {blocked}"),
            )
        });
    } else {
        parts.push((Meaning::Faint, "not watched".to_owned()));
    }
    let mut pieces = vec![(Meaning::Plain, " ".to_owned())];
    for (index, part) in parts.into_iter().enumerate() {
        if index > 0 {
            pieces.push((Meaning::Faint, dot.to_owned()));
        }
        pieces.push(part);
    }
    pieces
}
