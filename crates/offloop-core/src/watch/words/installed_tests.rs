//! Blocks of applications that pip has installed, and of destructors.

use super::*;
use crate::watch::Catalogue;
use crate::watch::samples::{FOUND, files, sleeping, stack, user_places};

const WEB: &str = "/v/site-packages/shopapp/web.py";
const DATABASE: &str = "/v/site-packages/shopapp/db.py";
const SERVER: &str = "/v/site-packages/uvicorn/h11_impl.py";
const ROUTING: &str = "/v/site-packages/starlette/routing.py";
const VIEWS: &str = "/app/views.py";
const TERMINAL: &str = "/v/site-packages/ptyprocess/ptyprocess.py";

const TEXTS: [(&str, &str); 4] = [
    (WEB, "async def orders():\n    return db.query(1)\n"),
    (
        DATABASE,
        "def query(x):\n    time.sleep(0.12)\n    return x\n",
    ),
    (
        VIEWS,
        "async def main():\n    rows = [list(row) for row in innocent(rows)]\n",
    ),
    (TERMINAL, "def __del__(self):\n    time.sleep(0.1)\n"),
];

fn block(entries: &[(&str, &str, i32)], places: &Places) -> String {
    let stall = Stall {
        stack: stack(entries),
        ..sleeping(1, FOUND, 100)
    };
    let mut sources = files(&TEXTS);
    let diagnosis = Diagnosis::of(&stall, Catalogue::shipped(), places, &mut sources);
    let style = Style {
        colours: false,
        columns: 80,
        ascii: false,
    };
    block_of(&stall, &diagnosis, places, style)
}

const REQUEST: [(&str, &str, i32); 4] = [
    (DATABASE, "query", 2),
    (WEB, "orders", 2),
    (ROUTING, "app", 10),
    (SERVER, "run_asgi", 422),
];

#[test]
fn an_installed_application_is_named_with_its_line_its_cure_and_its_entries() {
    let expected = "\
offloop: event loop has been blocked for 100 ms and still is
    ╭─ shopapp/db.py:2 in query
  2 │     time.sleep(0.12)
    │     ^^^^^^^^^^^^^^^^
    │ cause    time.sleep sleeps
    │ cure     return await offloop.to_thread(db.query, 1)
    │          at shopapp/web.py:2 in orders: a thread sleeps in its place
    │          or make `query` an async def, with await asyncio.sleep(0.12)
    │ note     no code of yours is on the stack, but shopapp, which is
    │          installed, may be: `--own shopapp` says so
    │ stack    … 1 entry of uvicorn, 1 of starlette
    │          shopapp/web.py:2 in orders
    ╰          shopapp/db.py:2 in query";
    assert_eq!(block(&REQUEST, &user_places()), expected);
}

#[test]
fn a_package_that_the_user_claims_is_theirs() {
    let places = Places {
        own_packages: vec!["shopapp".into()],
        ..user_places()
    };
    let without_note = block(&REQUEST, &user_places())
        .lines()
        .filter(|line| !line.contains("note") && !line.contains("may be"))
        .collect::<Vec<_>>()
        .join("\n");
    assert_eq!(block(&REQUEST, &places), without_note);
}

#[test]
fn a_destructor_is_named_and_what_it_interrupts_is_left_as_it_is() {
    let entries = [
        (TERMINAL, "PtyProcess.__del__", 2),
        (VIEWS, "innocent", 2),
        (VIEWS, "main", 2),
    ];
    let expected = "\
offloop: event loop has been blocked for 100 ms and still is
    ╭─ ptyprocess/ptyprocess.py:2 in PtyProcess.__del__
  2 │     time.sleep(0.1)
    │     ^^^^^^^^^^^^^^^
    │ cause    time.sleep sleeps
    │ cure     close such objects in a thread: `PtyProcess.__del__` runs in any
    │          line that lets go of one or collects garbage
    │ note     a destructor runs in the middle of views.py:2 in innocent, which
    │          is not to blame
    │ stack    views.py:2 in main
    │          views.py:2 in innocent
    ╰          ptyprocess/ptyprocess.py:2 in PtyProcess.__del__";
    assert_eq!(block(&entries, &user_places()), expected);
}
