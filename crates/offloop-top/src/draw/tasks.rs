//! Tasks, each below the one that awaits it, with the coroutines that it is in.

use super::{first_shown, item, more, section_title};
use crate::canvas::{Canvas, Piece};
use crate::look::{Meaning, Signs};
use crate::state::{Section, State};
use crate::tree::Branch;
use crate::words;
use offloop_views::document::{Place, Task};

/// From this age on it is said that the tasks are those of a while ago.
const OLD_SECONDS: f64 = 1.5;

pub(super) fn rows(state: &State) -> usize {
    1 + state.document.tasks.tasks.len().max(1)
}

pub(super) fn draw(canvas: &mut Canvas<'_>, state: &State) {
    let tasks = &state.document.tasks;
    let branches = state.branches();
    let room = canvas.rows().saturating_sub(1);
    let shown = room.min(branches.len());
    let title = section_title(state, Section::Tasks, canvas, "tasks");
    let mut right = more(shown, tasks.total);
    if let Some(age) = tasks.age_seconds.filter(|&age| age >= OLD_SECONDS) {
        let comma = if right.is_empty() { "" } else { ", " };
        let text = format!("{comma}as they were {} ago", words::seconds(age));
        right.push((Meaning::Warning, text));
    }
    canvas.title(0, &title, &right);
    if branches.is_empty() {
        let text = tasks
            .reason
            .clone()
            .unwrap_or_else(|| "no task is alive".to_owned());
        canvas.write(1, 2, &[(Meaning::Faint, text)]);
        return;
    }
    let chosen = state.chosen(Section::Tasks);
    let first = first_shown(chosen, shown, branches.len());
    for (index, branch) in branches.iter().enumerate().skip(first).take(shown) {
        let row = 1 + index - first;
        one(&mut canvas.part(row, 1), branch);
        if state.is_attended && state.section == Section::Tasks && index == chosen {
            canvas.choose(row);
        }
    }
}

fn one(canvas: &mut Canvas<'_>, branch: &Branch<'_>) {
    let (signs, task) = (canvas.signs(), branch.task);
    let meaning = match task.state.as_str() {
        "running" => Meaning::Warning,
        "waiting" => Meaning::Faint,
        _ => Meaning::Plain,
    };
    let state = words::column(&task.state, 7, signs.cut);
    let pieces: Vec<Piece> = vec![
        (meaning, format!("  {state} ")),
        (Meaning::Faint, trunk(&branch.goes_on, signs)),
        (Meaning::Plain, format!("{} ", task.name)),
        (Meaning::Name, chain(task, signs)),
    ];
    let place =
        stands_at(task).map(|place| (Meaning::Faint, format!(" {} ", item::line_of(place))));
    let length = place.as_ref().map_or(0, |(_, text)| words::width(text));
    let columns = canvas.columns();
    let end = canvas.write(0, 0, &pieces);
    if let Some(place) = place.filter(|_| columns > 50) {
        if end + length > columns {
            // The place says more than the end of the chain.
            let blank = (Meaning::Plain, " ".repeat(length));
            canvas.write(0, columns - length, &[blank]);
            let cut = (Meaning::Faint, signs.cut.to_owned());
            canvas.write(0, columns - length - words::width(signs.cut), &[cut]);
        }
        canvas.write(0, columns - length, &[place]);
    }
}

fn trunk(goes_on: &[bool], signs: &Signs) -> String {
    let Some((own, around)) = goes_on.split_last() else {
        return String::new();
    };
    let [branch, last, on, none] = signs.tree;
    let mut text: String = around
        .iter()
        .map(|&more| if more { on } else { none })
        .collect();
    text.push_str(if *own { branch } else { last });
    text.push(' ');
    text
}

/// The coroutines that a task is in, from the first one in.
fn chain(task: &Task, signs: &Signs) -> String {
    if task.stack.is_empty() {
        return task.coroutine.clone();
    }
    let names = task.stack.iter().map(|entry| entry.function.as_str());
    names.collect::<Vec<_>>().join(&format!(" {} ", signs.into))
}

/// Whether a file is part of Python, of a package that was installed, or of offloop.
fn is_of_library(file: &str) -> bool {
    let parts = ["/lib/python3", "/site-packages/", "/asyncio/", "/offloop/"];
    parts.iter().any(|part| file.contains(part))
}

/// The innermost line of the program's own, or else of a library's.
pub(super) fn stands_at(task: &Task) -> Option<&Place> {
    let own = task
        .stack
        .iter()
        .rev()
        .find(|entry| !is_of_library(&entry.file));
    own.or(task.stack.last())
}
