//! A loop: how late it ran, as a picture of ranges of lag by seconds, and what it does now.
//!
//! A column is a second and a row a range of lags; how dark a cell is says how large its share is.
//! A healthy loop is dark at the bottom. A stall climbs to the top while it lasts.

use crate::canvas::{Canvas, Piece, bar};
use crate::history::{LEVELS, level_of, step_of};
use crate::look::{Meaning, Signs};
use crate::state::State;
use crate::words;
use offloop_views::document::{Lag, Loop};

/// Rows of the whole picture: a title, the ranges, the times.
pub(super) const ROWS: usize = LEVELS + 3;

/// Rows of the short one.
pub(super) const ROWS_SHORT: usize = 2;

const LABELS: [&str; LEVELS] = ["< 1 ms", "1 ms", "10 ms", "100 ms", "1 s"];

/// Columns of the labels, and of the counts at the right.
const LABEL_COLUMNS: usize = 8;
const TOTAL_COLUMNS: usize = 20;

/// The width that the counts are shown from.
const COLUMNS_WITH_TOTALS: usize = 72;

/// The width that the longer bar is shown from.
const COLUMNS_WITH_LONG_BAR: usize = 100;

/// How dark a cell is from which share on.
const DARKER_FROM: [f64; 4] = [0.0, 0.03, 0.2, 0.6];

pub(super) fn rows(state: &State) -> usize {
    if state.document.loops.is_empty() {
        ROWS_SHORT
    } else {
        ROWS
    }
}

pub(super) fn draw(canvas: &mut Canvas<'_>, state: &State) {
    let loops = &state.document.loops;
    let Some(each) = loops.get(state.loop_index) else {
        canvas.title(0, &[(Meaning::Title, "loop".to_owned())], &[]);
        canvas.write(
            1,
            2,
            &[(Meaning::Faint, "no event loop is running".to_owned())],
        );
        return;
    };
    let (title, more) = (title(canvas, state, each), activity(canvas, each));
    canvas.title(0, &title, &more);
    if canvas.rows() < ROWS {
        if canvas.rows() > 1 {
            sparkline(canvas, state, each, 1, 1);
        }
        return;
    }
    let with_totals = canvas.columns() >= COLUMNS_WITH_TOTALS && lag_of(each).is_some();
    let right = if with_totals { TOTAL_COLUMNS } else { 1 };
    let columns = canvas.columns().saturating_sub(LABEL_COLUMNS + right);
    for (level, label) in LABELS.iter().enumerate() {
        let row = LEVELS - level;
        let wall = canvas.signs().wall;
        let label = format!("{} {wall}", words::right(label, LABEL_COLUMNS - 2, ""));
        canvas.write(row, 0, &[(Meaning::Faint, label)]);
        level_row(canvas, state, each, (row, level, columns));
        if let (true, Some(lag)) = (with_totals, lag_of(each)) {
            total(canvas, lag, level, LABEL_COLUMNS + columns);
        }
    }
    utilisation_row(canvas, state, each, columns);
    axis(canvas, each, columns);
}

/// What it measured, if it measures.
fn lag_of(each: &Loop) -> Option<&Lag> {
    let statistics = each.statistics.as_ref()?;
    (statistics.lag.count > 0).then_some(&statistics.lag)
}

fn title(canvas: &Canvas<'_>, state: &State, each: &Loop) -> Vec<Piece> {
    let dot = canvas.signs().dot;
    let loops = state.document.loops.len();
    let of = if loops > 1 {
        format!("/{loops}")
    } else {
        String::new()
    };
    let mut pieces = vec![
        (Meaning::Title, format!("loop {}{of}", state.loop_index + 1)),
        (
            Meaning::Faint,
            format!(" {dot} {} {dot} {}", each.thread, each.kind),
        ),
    ];
    if let Some(blocked) = &each.blocked {
        let time = words::seconds(blocked.seconds);
        pieces.push((Meaning::Plain, " ".to_owned()));
        pieces.push((Meaning::Alarm, format!(" BLOCKED {time} ")));
    } else if each.is_running == Some(false) {
        pieces.push((Meaning::Faint, " stopped".to_owned()));
    }
    pieces
}

/// How much of the last second it worked, and how old that is.
fn activity(canvas: &Canvas<'_>, each: &Loop) -> Vec<Piece> {
    let Some(statistics) = &each.statistics else {
        return Vec::new();
    };
    let part = statistics.utilisation_1s;
    let columns = match canvas.columns() {
        wide if wide >= COLUMNS_WITH_LONG_BAR => 12,
        _ if each.blocked.is_some() => 0,
        _ => 6,
    };
    let (full, rest) = bar(part, columns, canvas.signs());
    let space = if columns > 0 { " " } else { "" };
    let meaning = match part {
        part if part < 0.7 => Meaning::Good,
        part if part < 0.9 => Meaning::Warning,
        _ => Meaning::Bad,
    };
    let mut pieces = vec![
        (Meaning::Plain, "busy ".to_owned()),
        (meaning, full),
        (Meaning::Faint, rest),
        (meaning, format!("{space}{}", words::percent(part))),
    ];
    if statistics.age_seconds >= 1.5 {
        let age = words::seconds(statistics.age_seconds);
        pieces.push((Meaning::Faint, format!(", {age} ago")));
    }
    pieces
}

/// Which second a column shows: the last one shows this second.
fn step_in(state: &State, column: usize, columns: usize) -> i64 {
    step_of(state.document.process.now) - (columns - 1 - column) as i64
}

fn level_row(
    canvas: &mut Canvas<'_>,
    state: &State,
    each: &Loop,
    (row, level, columns): (usize, usize, usize),
) {
    let signs = canvas.signs();
    let meaning = [
        Meaning::Good,
        Meaning::Good,
        Meaning::Warning,
        Meaning::Bad,
        Meaning::Bad,
    ];
    for column in 0..columns {
        let step = step_in(state, column, columns);
        let share = state
            .history
            .shares(each.number, step, &state.document.stalls)[level];
        let mut shade = DARKER_FROM.iter().filter(|&&from| share > from).count();
        if level > 2 && shade > 0 {
            // Rare, and what one looks for.
            shade = shade.max(3);
        }
        if shade > 0 {
            let cell = (meaning[level], signs.shades[shade].to_owned());
            canvas.write(row, LABEL_COLUMNS + column, &[cell]);
        }
    }
}

/// How many lags there were in this range since the loop began.
fn total(canvas: &mut Canvas<'_>, lag: &Lag, level: usize, column: usize) {
    let mut counts = [0_u64; LEVELS];
    for &(limit, count) in &lag.buckets {
        counts[level_of(limit * 0.75)] += count;
    }
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    // So that a few among thousands are seen.
    let part = ((counts[level] + 1) as f64).ln() / ((most + 1) as f64).ln();
    let signs = canvas.signs();
    let (full, _) = bar(part, TOTAL_COLUMNS - 10, signs);
    let meaning = [
        Meaning::Good,
        Meaning::Good,
        Meaning::Warning,
        Meaning::Bad,
        Meaning::Bad,
    ];
    let count = match counts[level] {
        count if count < 100_000 => words::count(count),
        count => format!("{}k", words::count(count / 1000)),
    };
    let pieces = [
        (
            Meaning::Faint,
            format!("{}{} ", signs.wall, words::right(&count, 7, "")),
        ),
        (meaning[level], full),
    ];
    canvas.write(LEVELS - level, column, &pieces);
}

/// How much of each second it worked.
fn utilisation_row(canvas: &mut Canvas<'_>, state: &State, each: &Loop, columns: usize) {
    let signs = canvas.signs();
    let row = LEVELS + 1;
    let label = format!(
        "{} {}",
        words::right("busy", LABEL_COLUMNS - 2, ""),
        signs.wall
    );
    canvas.write(row, 0, &[(Meaning::Faint, label)]);
    for column in 0..columns {
        let step = step_in(state, column, columns);
        if let Some(part) = state.history.utilisation(each.number, step) {
            let cell = (Meaning::Name, height(part, signs).to_owned());
            canvas.write(row, LABEL_COLUMNS + column, &[cell]);
        }
    }
    if let Some(lag) = lag_of(each).filter(|_| canvas.columns() >= COLUMNS_WITH_TOTALS) {
        let half = words::seconds(lag.p50_seconds);
        let text = format!("{}   lag p50 {half}", signs.wall);
        canvas.write(row, LABEL_COLUMNS + columns, &[(Meaning::Faint, text)]);
    }
}

fn height(part: f64, signs: &Signs) -> &'static str {
    let top = signs.heights.len() - 1;
    let step = (part.clamp(0.0, 1.0) * top as f64).ceil() as usize;
    signs.heights[step.min(top)]
}

fn axis(canvas: &mut Canvas<'_>, each: &Loop, columns: usize) {
    let row = LEVELS + 2;
    let mut first = format!("{columns} s ago");
    if columns < 20 {
        first.clear();
    }
    canvas.write(row, LABEL_COLUMNS, &[(Meaning::Faint, first)]);
    if columns >= 3 {
        let column = LABEL_COLUMNS + columns - 3;
        canvas.write(row, column, &[(Meaning::Faint, "now".to_owned())]);
    }
    if let Some(lag) = lag_of(each) {
        let (late, most) = (
            words::seconds(lag.p99_seconds),
            words::seconds(lag.max_seconds),
        );
        let text = format!("p99 {late} max {most}");
        canvas.write_right(row, LABEL_COLUMNS + columns + 1, &[(Meaning::Faint, text)]);
    }
}

/// The longest lag of each second, as one row of heights.
pub(super) fn sparkline(
    canvas: &mut Canvas<'_>,
    state: &State,
    each: &Loop,
    row: usize,
    left: usize,
) {
    let signs = canvas.signs();
    let columns = canvas.columns().saturating_sub(2 * left);
    for column in 0..columns {
        let step = step_in(state, column, columns);
        let shares = state
            .history
            .shares(each.number, step, &state.document.stalls);
        let Some(level) = shares.iter().rposition(|&share| share > 0.0) else {
            continue;
        };
        let meaning = [
            Meaning::Good,
            Meaning::Good,
            Meaning::Warning,
            Meaning::Bad,
            Meaning::Bad,
        ];
        let sign = height((level + 1) as f64 / LEVELS as f64, signs).to_owned();
        canvas.write(row, left + column, &[(meaning[level], sign)]);
    }
}
