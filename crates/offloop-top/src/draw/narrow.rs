//! A screen that is too small for the picture: what is most urgent, one thing a line.

use super::{COLUMNS_LEAST, ROWS_LEAST, culprits, header, loops, meaning_of};
use crate::canvas::Canvas;
use crate::look::Meaning;
use crate::state::State;
use crate::words;

pub(super) fn draw(canvas: &mut Canvas<'_>, state: &State) {
    let process = &state.document.process;
    let (columns, rows) = (canvas.columns(), canvas.rows());
    let small = if columns < COLUMNS_LEAST {
        format!("{columns} columns of {COLUMNS_LEAST}")
    } else {
        format!("{rows} rows of {ROWS_LEAST}")
    };
    canvas.write(0, 0, &[(Meaning::Warning, small)]);
    if let Some(question) = &state.question {
        let text = if question.is_second {
            "sure?"
        } else {
            "y or n?"
        };
        canvas.write(1, 0, &[(Meaning::Alarm, text.to_owned())]);
    } else {
        let name = words::fit_end(&process.program, columns, canvas.signs().cut);
        canvas.write(1, 0, &[(Meaning::Name, name)]);
    }
    let badge = header::badge(canvas, state);
    canvas.write(2, 0, &[badge]);
    let mut row = 3;
    if let Some(each) = state.document.loops.get(state.loop_index) {
        if let Some(statistics) = &each.statistics {
            let text = format!("busy {}", words::percent(statistics.utilisation_1s));
            canvas.write(row, 0, &[(Meaning::Plain, text)]);
            row += 1;
        }
        loops::sparkline(canvas, state, each, row, 0);
        row += 1;
    }
    for culprit in &state.document.culprits {
        let place = culprits::place_of(culprit);
        let time = words::seconds(culprit.total_seconds);
        let room = columns.saturating_sub(words::width(&time) + 1);
        let place = words::fit_end(&place, room, canvas.signs().cut);
        let place = words::column(&place, room, "");
        let pieces = [
            (Meaning::Name, place),
            (meaning_of(culprit.longest_seconds), format!(" {time}")),
        ];
        canvas.write(row, 0, &pieces);
        row += 1;
    }
}
