//! Lanes, and the workers behind them.

use super::{first_shown, more, section_title};
use crate::canvas::{Canvas, Piece, bar};
use crate::look::Meaning;
use crate::state::{Section, State};
use crate::words;
use offloop_views::document::{Lane, Worker};

/// A call that has been running for so long is looked at twice.
const LONG_SECONDS: f64 = 1.0;

fn lanes(state: &State) -> impl Iterator<Item = &Lane> {
    let fleets = state.document.pools.fleets.iter();
    fleets.flat_map(|fleet| fleet.lanes.iter())
}

fn troubles(state: &State) -> Vec<&str> {
    let pools = &state.document.pools;
    let broken = pools
        .fleets
        .iter()
        .filter_map(|fleet| fleet.broken.as_deref());
    broken.chain(pools.failed.as_deref()).collect()
}

pub(super) fn rows(state: &State) -> usize {
    let workers = state.workers().count();
    1 + troubles(state).len() + lanes(state).count() + workers.max(1)
}

pub(super) fn draw(canvas: &mut Canvas<'_>, state: &State) {
    let workers: Vec<&Worker> = state.workers().map(|(_, worker)| worker).collect();
    let troubles = troubles(state);
    let room = canvas.rows().saturating_sub(1);
    let for_lanes = lanes(state)
        .count()
        .min(room.saturating_sub(workers.len() + troubles.len()));
    let for_workers = room
        .saturating_sub(for_lanes + troubles.len())
        .min(workers.len());
    let title = section_title(state, Section::Workers, canvas, "lanes and workers");
    let mut right = summary(canvas, state);
    right.extend(
        more(for_workers, workers.len() as u64)
            .into_iter()
            .map(|(meaning, text)| (meaning, format!(", {text}"))),
    );
    canvas.title(0, &title, &right);
    let mut row = 1;
    for trouble in troubles {
        canvas.write(row, 1, &[(Meaning::Alarm, format!(" {trouble} "))]);
        row += 1;
    }
    for (index, lane) in lanes(state).take(for_lanes).enumerate() {
        canvas.write(row, 1, &of_lane(index + 1, lane));
        row += 1;
    }
    if workers.is_empty() && row <= room {
        let text = match &state.only_read {
            Some(_) => "not read of a program without offloop",
            None => "no worker process is running",
        };
        canvas.write(row, 2, &[(Meaning::Faint, text.to_owned())]);
        return;
    }
    let chosen = state.chosen(Section::Workers);
    let first = first_shown(chosen, for_workers, workers.len());
    let most = workers
        .iter()
        .filter_map(|worker| worker.memory_bytes)
        .max()
        .unwrap_or(1)
        .max(1);
    for (index, worker) in workers.iter().enumerate().skip(first).take(for_workers) {
        one(&mut canvas.part(row, 1), worker, most);
        if state.is_attended && state.section == Section::Workers && index == chosen {
            canvas.choose(row);
        }
        row += 1;
    }
}

fn summary(canvas: &Canvas<'_>, state: &State) -> Vec<Piece> {
    let pools = &state.document.pools;
    if pools.fleets.is_empty() {
        return Vec::new();
    }
    let (calls, events) = (&pools.calls, &pools.events);
    let mut pieces = vec![(
        if calls.queued > 0 {
            Meaning::Warning
        } else {
            Meaning::Faint
        },
        format!("{} queued", calls.queued),
    )];
    if canvas.columns() >= 60 {
        let done = words::count(calls.completed);
        pieces.push((Meaning::Faint, format!(", {done} done")));
    }
    if events.crashes > 0 {
        pieces.push((
            Meaning::Bad,
            format!(", {} crashed", words::count(events.crashes)),
        ));
    }
    if events.restarts > 0 && canvas.columns() >= 60 {
        let restarts = words::count(events.restarts);
        pieces.push((Meaning::Warning, format!(", {restarts} restarted")));
    }
    pieces
}

fn of_lane(number: usize, lane: &Lane) -> Vec<Piece> {
    let mean = lane.run_mean_seconds.map_or(String::new(), |mean| {
        format!(", {} each", words::seconds(mean))
    });
    let closed = if lane.is_open { "" } else { ", closed" };
    vec![
        (Meaning::Plain, format!("lane {number}: ")),
        (Meaning::Plain, format!("{} running, ", lane.running)),
        (
            if lane.queued > 0 {
                Meaning::Warning
            } else {
                Meaning::Plain
            },
            format!("{} queued", lane.queued),
        ),
        (
            Meaning::Faint,
            format!(", {} done{mean}{closed}", words::count(lane.completed)),
        ),
    ]
}

fn one(canvas: &mut Canvas<'_>, worker: &Worker, most: u64) {
    let signs = canvas.signs();
    let meaning = match worker.state.as_str() {
        "busy" => Meaning::Good,
        "idle" => Meaning::Faint,
        _ => Meaning::Warning,
    };
    let mut pieces: Vec<Piece> = vec![
        (Meaning::Plain, words::right(&worker.pid.to_string(), 8, "")),
        (
            meaning,
            format!("  {} ", words::column(&worker.state, 8, "")),
        ),
    ];
    if canvas.columns() >= 60 {
        let bytes = worker.memory_bytes.map_or(String::new(), words::bytes);
        let part = worker.memory_bytes.unwrap_or(0) as f64 / most as f64;
        let (full, rest) = bar(part, 8, signs);
        pieces.push((Meaning::Name, full));
        pieces.push((Meaning::Faint, rest));
        pieces.push((Meaning::Plain, format!("{}  ", words::right(&bytes, 9, ""))));
    }
    if let Some(running) = &worker.running {
        let age = words::right(&words::seconds(running.seconds), 7, "");
        let long = running.seconds >= LONG_SECONDS;
        let meaning = if long {
            Meaning::Warning
        } else {
            Meaning::Plain
        };
        pieces.push((meaning, format!("{age}  ")));
        let function = running.function.as_deref().unwrap_or("a call");
        pieces.push((Meaning::Name, function.to_owned()));
    }
    let end = canvas.write(0, 0, &pieces);
    let mut right: Vec<Piece> = Vec::new();
    if worker.calls > 1 {
        right.push((Meaning::Faint, format!("+{} held ", worker.calls - 1)));
    }
    if let Some(pid) = worker.replaces {
        right.push((Meaning::Warning, format!("restarted for {pid} ")));
    }
    canvas.write_right(0, end + 1, &right);
}
