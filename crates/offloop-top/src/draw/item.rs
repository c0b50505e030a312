//! All that is known of a culprit, a worker, or a task.

use super::{culprits, meaning_of};
use crate::canvas::{Canvas, Piece};
use crate::look::{Meaning, Signs};
use crate::state::{Item, State};
use crate::words;
use offloop_views::document::{Culprit, Place, Stall, Task, Worker};

/// Columns of what a line is about.
const LABEL_COLUMNS: usize = 11;

type Line = Vec<Piece>;

pub(super) fn draw(canvas: &mut Canvas<'_>, state: &State, item: &Item) {
    let signs = canvas.signs();
    let (title, lines) = match item {
        Item::Culprit(file, line, _) => of_culprit(state, item, &format!("{file}:{line}"), signs),
        Item::Worker(pid) => of_worker(state, *pid),
        Item::Task(id) => of_task(state, id, signs),
    };
    page(canvas, state, &title, &lines);
}

/// Lines that keys move.
pub(super) fn page(canvas: &mut Canvas<'_>, state: &State, title: &str, lines: &[Line]) {
    let room = canvas.rows().saturating_sub(1);
    let first = state.scroll.min(lines.len().saturating_sub(room));
    let shown = &lines[first..(first + room).min(lines.len())];
    let left = lines.len() - first - shown.len();
    let title = [(Meaning::Title, title.to_owned())];
    canvas.title(0, &title, &super::more(0, left as u64));
    for (row, line) in shown.iter().enumerate() {
        canvas.write(row + 1, 1, line);
    }
}

fn labelled(label: &str, meaning: Meaning, text: impl Into<String>) -> Line {
    vec![
        (Meaning::Faint, words::column(label, LABEL_COLUMNS, "")),
        (meaning, text.into()),
    ]
}

fn gone(what: String) -> (String, Vec<Line>) {
    let line = vec![(Meaning::Faint, "it is not there any more".to_owned())];
    (what, vec![line])
}

fn of_culprit(state: &State, item: &Item, name: &str, signs: &Signs) -> (String, Vec<Line>) {
    let mut known = state.document.culprits.iter();
    let Some(culprit) = known.find(|each| Item::of_culprit(each) == *item) else {
        return gone(words::file_name(name).to_owned());
    };
    let mut lines = culprit_lines(culprit, signs);
    let stalls = state
        .document
        .stalls
        .iter()
        .filter(|stall| match &stall.culprit {
            Some(place) => Some(&place.file) == culprit.file.as_ref() && place.line == culprit.line,
            None => culprit.file.is_none() && stall.cause == culprit.cause,
        });
    lines.push(Vec::new());
    match stalls.max_by_key(|stall| stall.number) {
        Some(stall) => lines.extend(stall_lines(stall, state.document.process.now, signs)),
        None => lines.push(vec![(
            Meaning::Faint,
            "no stall of it is remembered".to_owned(),
        )]),
    }
    let function = culprit
        .function
        .as_deref()
        .filter(|_| culprit.file.is_some());
    let name = culprits::place_of(culprit);
    (format!("{name} {}", function.unwrap_or("")), lines)
}

fn culprit_lines(culprit: &Culprit, signs: &Signs) -> Vec<Line> {
    let meaning = meaning_of(culprit.longest_seconds);
    let mut lines = Vec::new();
    if let Some(file) = &culprit.file {
        lines.push(labelled("file", Meaning::Name, file));
    }
    if let Some(source) = &culprit.source {
        lines.push(labelled("line", Meaning::Plain, source.trim()));
    }
    if let Some(because) = &culprit.because {
        lines.push(labelled("because", Meaning::Plain, because));
    }
    if let Some(cure) = &culprit.cure {
        let text = format!("{} {}", signs.cure, cure.trim());
        lines.push(labelled("instead", Meaning::Good, text));
    }
    let (count, total, longest) = (
        words::count(culprit.count),
        words::seconds(culprit.total_seconds),
        words::seconds(culprit.longest_seconds),
    );
    let text = format!("{total} in all, {count} times, {longest} the longest");
    lines.push(labelled("blocked", meaning, text));
    lines
}

fn stall_lines(stall: &Stall, now: f64, signs: &Signs) -> Vec<Line> {
    let length = words::seconds(stall.seconds);
    let when = if stall.is_over {
        let ago = words::seconds((now - stall.started - stall.seconds).max(0.0));
        format!("{length}, {ago} ago")
    } else {
        format!("{length}, and it goes on")
    };
    let mut lines = vec![labelled("last stall", meaning_of(stall.seconds), when)];
    let cause = match &stall.detail {
        Some(detail) => format!("{}: {detail}", stall.cause),
        None => stall.cause.clone(),
    };
    lines.push(labelled("cause", Meaning::Plain, cause));
    lines.push(labelled("thread", Meaning::Plain, &stall.thread));
    if let Some(request) = &stall.request {
        lines.push(labelled("request", Meaning::Name, request));
    }
    if let Some(callback) = &stall.callback {
        lines.push(labelled("callback", Meaning::Plain, callback));
    }
    if let Some(task) = &stall.task {
        let text = format!("{} ({})", task.name, task.coroutine);
        lines.push(labelled("task", Meaning::Plain, text));
        for each in &task.awaited_by {
            lines.push(labelled("", Meaning::Faint, format!("awaited by {each}")));
        }
    }
    lines.push(Vec::new());
    lines.push(vec![(
        Meaning::Faint,
        "stack, the innermost function first".to_owned(),
    )]);
    for native in &stall.native {
        let file = words::file_name(&native.file).to_owned();
        lines.push(vec![
            (Meaning::Faint, format!("  {} ", signs.into)),
            (Meaning::Bad, native.function.clone()),
            (Meaning::Faint, format!("  {file}, in C")),
        ]);
    }
    lines.extend(stack_lines(stall.stack.iter(), signs));
    lines
}

fn stack_lines<'a>(entries: impl Iterator<Item = &'a Place>, signs: &Signs) -> Vec<Line> {
    entries
        .map(|entry| {
            vec![
                (Meaning::Faint, format!("  {} ", signs.into)),
                (Meaning::Name, entry.function.clone()),
                (Meaning::Plain, format!("  {}", line_of(entry))),
                (Meaning::Faint, format!("  {}", entry.file)),
            ]
        })
        .collect()
}

/// The last part of a file's path, and the line.
pub(super) fn line_of(place: &Place) -> String {
    let file = words::file_name(&place.file);
    match place.line {
        Some(line) => format!("{file}:{line}"),
        None => file.to_owned(),
    }
}

fn of_worker(state: &State, pid: i32) -> (String, Vec<Line>) {
    let title = format!("worker {pid}");
    let Some(worker) = state.worker(pid) else {
        return gone(title);
    };
    let mut lines = worker_lines(worker);
    let running = worker
        .running
        .as_ref()
        .and_then(|running| running.function.as_ref());
    let functions = state.document.functions.iter();
    for function in functions.filter(|function| Some(&function.name) == running) {
        let mean = function.run_seconds / function.calls.max(1) as f64;
        let text = format!(
            "{} calls, {} each, {} crashed",
            words::count(function.calls),
            words::seconds(mean),
            words::count(function.crashes),
        );
        lines.push(labelled("so far", Meaning::Plain, text));
    }
    (title, lines)
}

fn worker_lines(worker: &Worker) -> Vec<Line> {
    let mut lines = vec![labelled("state", Meaning::Plain, &worker.state)];
    if let Some(bytes) = worker.memory_bytes {
        lines.push(labelled("memory", Meaning::Plain, words::bytes(bytes)));
    }
    lines.push(labelled(
        "calls",
        Meaning::Plain,
        format!("{} held", worker.calls),
    ));
    if let Some(pid) = worker.replaces {
        let text = format!("in place of {pid}, which crashed");
        lines.push(labelled("restarted", Meaning::Warning, text));
    }
    match &worker.running {
        Some(running) => {
            let function = running.function.as_deref().unwrap_or("a call");
            lines.push(labelled("running", Meaning::Name, function));
            lines.push(labelled(
                "for",
                Meaning::Plain,
                words::seconds(running.seconds),
            ));
        }
        None => lines.push(labelled("running", Meaning::Faint, "nothing")),
    }
    lines
}

fn of_task(state: &State, id: &str, signs: &Signs) -> (String, Vec<Line>) {
    let Some(task) = state.task(id) else {
        return gone("task".to_owned());
    };
    let mut lines = vec![
        labelled("coroutine", Meaning::Name, &task.coroutine),
        labelled("state", Meaning::Plain, &task.state),
    ];
    if let Some(made) = &task.made {
        let text = format!("{} {}  {}", line_of(made), made.function, made.file);
        lines.push(labelled("made at", Meaning::Plain, text));
    }
    lines.extend(awaiting_lines(state, task));
    if let Some(age) = state.document.tasks.age_seconds {
        lines.push(labelled(
            "read",
            Meaning::Faint,
            format!("{} ago", words::seconds(age)),
        ));
    }
    lines.push(Vec::new());
    lines.push(vec![(
        Meaning::Faint,
        "stack, the innermost function first".to_owned(),
    )]);
    lines.extend(stack_lines(task.stack.iter().rev(), signs));
    (format!("task {}", task.name), lines)
}

fn awaiting_lines(state: &State, task: &Task) -> Vec<Line> {
    task.awaited_by
        .iter()
        .map(|id| match state.task(id) {
            Some(each) => {
                let text = format!("{} ({})", each.name, each.coroutine);
                labelled("awaited by", Meaning::Plain, text)
            }
            None => labelled("awaited by", Meaning::Faint, "a task that is not listed"),
        })
        .collect()
}
