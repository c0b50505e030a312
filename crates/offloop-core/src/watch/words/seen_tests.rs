//! Blocks that say how a stall was seen: the line that blocks, and a round that was seen in part.

use super::*;
use crate::watch::samples::{FOUND, files, sleeping, stack, user_places};
use crate::watch::{Catalogue, Stack};

const VIEWS: &str = "/app/views.py";
const TEXT: &str = "\
async def main():
    rows = client.get(url)
    total = innocent(rows)
";

fn block(stall: &Stall) -> String {
    let places = user_places();
    let mut sources = files(&[(VIEWS, TEXT)]);
    let diagnosis = Diagnosis::of(stall, Catalogue::shipped(), &places, &mut sources);
    let style = Style {
        colours: false,
        columns: 80,
        ascii: false,
    };
    block_of(stall, &diagnosis, &places, style)
}

#[test]
fn the_line_that_blocks_is_shown_in_a_library_and_the_rest_folded() {
    let stall = Stall {
        cause: Cause::Socket { peer: None },
        stack: stack(&[
            ("/lib/python3.13/socket.py", "SocketIO.readinto", 719),
            ("/v/site-packages/httpx/_client.py", "Client.send", 3),
            ("/v/site-packages/httpx/_client.py", "Client.get", 2),
            (VIEWS, "main", 2),
        ]),
        ..sleeping(1, FOUND, 100)
    };
    let text = block(&stall);
    let (_, shown) = text.split_once("stack").expect("it has a stack");
    let expected = "    views.py:2 in main
    │          … 2 entries of httpx
    ╰          socket.py:719 in SocketIO.readinto";
    assert_eq!(shown, expected);
}

fn of_round(cause: Cause, earlier: Option<Stack>) -> String {
    block(&Stall {
        cause,
        stalled: Stalled::Round,
        stack: stack(&[(VIEWS, "main", 3)]),
        earlier,
        ..sleeping(1, FOUND, 75)
    })
}

#[test]
fn a_round_is_not_the_time_of_the_callback_that_was_seen() {
    let text = of_round(Cause::Python, None);
    assert!(!text.contains("cure"), "{text}");
    let note = "\
note     the time is that of a round of callbacks, of which this one was
    ╰          seen";
    assert!(text.ends_with(note), "{text}");
    let guilty = stack(&[(VIEWS, "guilty", 2)]);
    let text = of_round(Cause::Callbacks, Some(guilty));
    assert!(text.contains("cure     await asyncio.sleep(0)"), "{text}");
    let note = "\
note     the time is that of a round of callbacks, of which this one was
    ╰          seen; before it views.py:2 in guilty";
    assert!(text.ends_with(note), "{text}");
}

#[test]
fn a_wait_is_cured_however_long_the_round_was() {
    let text = of_round(Cause::Socket { peer: None }, None);
    assert!(
        text.contains("cure") && text.contains("of a round"),
        "{text}"
    );
}
