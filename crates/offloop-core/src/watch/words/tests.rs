//! Blocks as they stand on a terminal, and any stall with any names in it.

use core::time::Duration;

use unicode_width::UnicodeWidthStr;

use super::*;
use crate::random::random_below;
use crate::watch::samples::{FOUND, OVER, files, sleeping, stack, user_places};
use crate::watch::{Catalogue, Origin, Quality, Stack};

const STYLE: Style = Style {
    colours: false,
    columns: 80,
    ascii: false,
};

const PROGRAM: &str = "\
async def thumbnail(request, name):
    image = await load(name)
    small = resize(image, size=(128, 128))
    time.sleep(0.3)
    rows = cursor.execute('select * from orders where customer = %s', [customer]).fetchall()
    text = json.loads(body)

def resize(image, size):
    for row in image.rows:
        total += blend(row)
";

fn block_in(style: Style, stall: &Stall) -> String {
    let places = user_places();
    let mut sources = files(&[("/app/views.py", PROGRAM)]);
    let diagnosis = Diagnosis::of(stall, Catalogue::shipped(), &places, &mut sources);
    let writer = Writer {
        stall,
        diagnosis: &diagnosis,
        places: &places,
        style,
    };
    writer.block()
}

fn block(stall: &Stall) -> String {
    block_in(STYLE, stall)
}

/// A stack with these entries inside two libraries and the loop.
fn inside_libraries(entries: &[(&str, &str, i32)]) -> Stack {
    let starlette = "/v/site-packages/starlette/routing.py";
    let uvicorn = "/v/site-packages/uvicorn/protocols/http/h11_impl.py";
    let run = "/lib/python3.13/asyncio/events.py";
    let mut all = entries.to_vec();
    all.extend([
        (starlette, "Route.handle", 10),
        (starlette, "Router.app", 9),
        (uvicorn, "RequestResponseCycle.run_asgi", 8),
        (run, "Handle._run", 89),
    ]);
    stack(&all)
}

fn in_a_request(cause: Cause, entries: &[(&str, &str, i32)]) -> Stall {
    Stall {
        cause,
        stack: inside_libraries(entries),
        request: Some("GET /thumbnails/{name}".into()),
        ..sleeping(1, FOUND, 100)
    }
}

const THUMBNAIL: &str = "/app/views.py";

#[test]
fn a_computation_is_shown_with_its_task_request_and_stack() {
    let entries = [(THUMBNAIL, "resize", 10), (THUMBNAIL, "thumbnail", 3)];
    let stall = Stall {
        task: Some(TaskFacts {
            name: "Task-17".into(),
            coroutine: "run_asgi".into(),
            made: Some(Origin {
                filename: "/app/main.py".into(),
                line: 12,
            }),
            awaited_by: vec!["Task-3 at main.py:20".into(), "Task-1 at main.py:4".into()],
        }),
        ..in_a_request(Cause::Python, &entries)
    };
    let expected = "\
offloop: event loop has been blocked for 100 ms and still is
    ╭─ views.py:10 in resize
 10 │     total += blend(row)
    │ cause    Python code computes
    │ cure     small = await offloop.to_process(resize, image, size=(128, 128))
    │          at views.py:3 in thumbnail: in another process it runs beside the
    │          loop; what goes in and out is pickled
    │ task     Task-17 in run_asgi, made at main.py:12, awaited by Task-3 at
    │          main.py:20, by Task-1 at main.py:4
    │ request  GET /thumbnails/{name}
    │ stack    … 1 entry of uvicorn, 2 of starlette
    │          views.py:3 in thumbnail
    ╰          views.py:10 in resize";
    assert_eq!(block(&stall), expected);
}

#[test]
fn the_call_that_blocks_is_marked() {
    let stall = sleeping(1, OVER, 312);
    let stall = Stall {
        stack: stack(&[(THUMBNAIL, "thumbnail", 4)]),
        ..stall
    };
    let expected = "\
offloop: event loop blocked for 312 ms
    ╭─ views.py:4 in thumbnail
  4 │     time.sleep(0.3)
    │     ^^^^^^^^^^^^^^^
    │ cause    time.sleep sleeps
    │ cure     await asyncio.sleep(0.3)
    ╰          other tasks run while this one sleeps";
    assert_eq!(block(&stall), expected);
}

#[test]
fn functions_of_c_are_named_innermost_first() {
    let entry = |(function, file): (&str, &str)| NativeEntry {
        function: function.into(),
        file: file.into(),
    };
    let native = [
        ("libcrypto.so.3+0x29c2dd", "/lib/libcrypto.so.3"),
        ("SHA256_Final", "/lib/libcrypto.so.3"),
        ("k_mul", "/lib/libpython3.13.so"),
        ("k_mul", "/lib/libpython3.13.so"),
        ("long_pow", "/lib/libpython3.13.so"),
    ];
    let stall = Stall {
        native: native.map(entry).into(),
        ..in_a_request(
            Cause::Native { holds_gil: true },
            &[(THUMBNAIL, "resize", 10)],
        )
    };
    let block = block(&stall);
    let lines = [
        "    │ native   libcrypto.so.3+0x29c2dd, from SHA256_Final, from k_mul in",
        "    │          libpython3.13.so, from long_pow",
    ];
    assert!(block.contains(&lines.join("\n")), "{block}");
}

#[test]
fn a_terminal_may_be_narrow_and_have_ascii_only() {
    let peer = Some("10.0.0.5:5432".into());
    let stall = in_a_request(Cause::Socket { peer }, &[(THUMBNAIL, "thumbnail", 5)]);
    let style = Style {
        colours: false,
        columns: 56,
        ascii: true,
    };
    let expected = "\
offloop: event loop has been blocked for 100 ms and
         still is
    +- views.py:5 in thumbnail
  5 |     rows = cursor.execute('select * from orders...
    |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    | cause    psycopg2.extensions.cursor.execute waits
    |          for the socket to 10.0.0.5:5432
    | cure     rows = (await cursor.execute('select *
    |          from orders where customer = %s',
    |          [customer])).fetchall()
    |          cursor comes from a
    |          psycopg.AsyncConnection, which has the...
    |          or asyncpg.connect, or await
    |          offloop.to_thread(cursor.execute, ...)
    + request  GET /thumbnails/{name}";
    assert_eq!(block_in(style, &stall), expected);
}

#[test]
fn a_library_below_the_users_line_is_folded() {
    let loads = "/lib/python3.13/json/__init__.py";
    let decoder = "/lib/python3.13/json/decoder.py";
    let entries = [
        (decoder, "JSONDecoder.raw_decode", 5),
        (decoder, "JSONDecoder.decode", 4),
        (loads, "loads", 346),
        (THUMBNAIL, "thumbnail", 6),
    ];
    let mut stall = in_a_request(Cause::Native { holds_gil: true }, &entries);
    stall.stack.cut = 1;
    stall.stack.hidden = 2;
    stall.stack.quality = Quality::Moving;
    stall.suppressed = 12;
    stall.thread.name = "worker-2".into();
    let expected = "\
offloop: event loop in thread worker-2 has been blocked for 100 ms and still is
    ╭─ views.py:6 in thumbnail
  6 │     text = json.loads(body)
    │            ^^^^^^^^^^^^^^^^
    │ cause    json.loads: C code computes and keeps the GIL, so that no thread
    │          can run Python
    │ cure     text = await offloop.to_process(json.loads, body)
    │          json keeps the GIL: a thread would hold up the loop as well
    │          or orjson, which is several times faster
    │ request  GET /thumbnails/{name}
    │ note     the code went on while it was looked at: each entry of the stack
    │          was there at some moment; 12 stalls before this one were not
    │          told: there were too many
    │ stack    … 1 entry of uvicorn, 2 of starlette
    │          views.py:6 in thumbnail
    │          … 3 entries of json
    ╰          … 2 entries that came and went";
    assert_eq!(block(&stall), expected);
}

#[test]
fn where_no_code_is_to_blame_the_block_says_so() {
    let mut stall = Stall {
        cause: Cause::Starved,
        moment: Moment::Found {
            late_by: Duration::from_millis(45),
        },
        ..sleeping(1, FOUND, 100)
    };
    stall.stack.quality = Quality::Missing("nothing was looked at".into());
    let expected = "\
offloop: event loop has been blocked for 100 ms and still is
    ╭─ no code is to blame
    │ cause    the system did not let the process run: it was stopped, or other
    │          processes had the processors
    │ cure     give the process a processor of its own, or the machine less to
    │          do
    ╰ note     the watch looked 45 ms later than it wanted to";
    assert_eq!(block(&stall), expected);
}

#[test]
fn without_a_stack_the_callback_and_the_reason_are_named() {
    let stall = Stall {
        cause: Cause::Unknown,
        callback: Some("flush_metrics".into()),
        stack: Stack {
            quality: Quality::Missing("the system forbids reading memory".into()),
            ..stack(&[])
        },
        ..sleeping(1, OVER, 80)
    };
    let expected = "\
offloop: event loop blocked for 80 ms
    ╭─ callback flush_metrics
    │ cause    not known
    ╰ note     there is no stack: the system forbids reading memory";
    assert_eq!(block(&stall), expected);
    let round = Stall {
        cause: Cause::Callbacks,
        stalled: Stalled::Round,
        stack: stack(&[]),
        ..sleeping(1, OVER, 80)
    };
    let expected = "\
offloop: event loop blocked for 80 ms
    ╭─ a round of many callbacks
    │ cause    many callbacks in one round of the loop, none of them long
    │ cure     await asyncio.sleep(0)
    │          timers and sockets have their turn there; an asyncio.Semaphore
    ╰          bounds the tasks";
    assert_eq!(block(&round), expected);
}

#[test]
fn a_library_without_code_of_the_user_is_named_with_a_note() {
    let mut stall = in_a_request(Cause::Sleep, &[]);
    stall.request = None;
    stall.stack.quality = Quality::Fallback;
    let expected = "\
offloop: event loop has been blocked for 100 ms and still is
    ╭─ starlette/routing.py:10 in Route.handle
    │ cause    sleeps
    │ cure     await offloop.to_thread(function, ...)
    │          put what blocks into a function of its own; a thread sleeps in
    │          its place
    │          or await asyncio.sleep(seconds)
    │ note     no code of yours is on the stack: it blocks in libraries; a
    │          fall-back stack: the interpreter was asked, and answered when it
    ╰          had the time";
    assert_eq!(block(&stall), expected);
}

#[test]
fn the_marked_part_of_a_long_line_is_in_sight() {
    let program = format!(
        "async def view():\n    {} = time.sleep(0.3)\n",
        "a = ".repeat(60).trim_end_matches(" = ")
    );
    let stall = Stall {
        stack: stack(&[(THUMBNAIL, "view", 2)]),
        ..sleeping(1, OVER, 80)
    };
    let places = user_places();
    let mut sources = files(&[(THUMBNAIL, &program)]);
    let diagnosis = Diagnosis::of(&stall, Catalogue::shipped(), &places, &mut sources);
    let writer = Writer {
        stall: &stall,
        diagnosis: &diagnosis,
        places: &places,
        style: STYLE,
    };
    let block = writer.block();
    let lines: Vec<&str> = block.lines().collect();
    let (source, marks) = (lines[2], lines[3]);
    assert!(source.contains("│     …"), "{block}");
    let column = |line: &str, of| line.find(of).map(|at| line[..at].chars().count());
    assert_eq!(column(source, "time.sleep(0.3)"), column(marks, "^"));
    assert_eq!(marks.matches('^').count(), "time.sleep(0.3)".len());
}

#[test]
fn the_marks_stand_under_wide_letters() {
    let program = "async def view():\n    名前 = sleep('漢字')  # 次\n";
    let stall = Stall {
        stack: stack(&[(THUMBNAIL, "view", 2)]),
        ..sleeping(1, OVER, 80)
    };
    let places = user_places();
    let mut sources = files(&[(THUMBNAIL, program)]);
    let diagnosis = Diagnosis::of(&stall, Catalogue::shipped(), &places, &mut sources);
    let writer = Writer {
        stall: &stall,
        diagnosis: &diagnosis,
        places: &places,
        style: STYLE,
    };
    let block = writer.block();
    let lines: Vec<&str> = block.lines().collect();
    assert_eq!(lines[2], "  2 │     名前 = sleep('漢字')  # 次");
    assert_eq!(lines[3], "    │            ^^^^^^^^^^^^^");
}

/// Text of any letters, also of those that must not reach a terminal.
fn any_text(random: &mut impl FnMut(u64) -> u64, letters: u64) -> String {
    const HARMFUL: [char; 12] = [
        '\x1b', '\n', '\r', '\t', '\u{202e}', '\u{2066}', '\u{200b}', '\u{9b}', '\u{7}', '\u{301}',
        '漢', '\u{2028}',
    ];
    let count = random(letters);
    (0..count)
        .map(|_| match random(4) {
            0 => HARMFUL[usize::try_from(random(12)).expect("small")],
            1 => ' ',
            _ => char::from(b"abc.(x)/_\"'#"[usize::try_from(random(12)).expect("small")]),
        })
        .collect()
}

fn any_stall(random: &mut impl FnMut(u64) -> u64) -> Stall {
    let causes = [
        Cause::Python,
        Cause::Sleep,
        Cause::Starved,
        Cause::Socket {
            peer: Some(any_text(random, 60).into()),
        },
        Cause::File {
            path: Some(any_text(random, 300).into()),
        },
        Cause::Callbacks,
        Cause::OtherThread { native_id: 5 },
        Cause::Unknown,
    ];
    let cause = causes[usize::try_from(random(8)).expect("small")].clone();
    let places = ["/app/", "/v/site-packages/", "/lib/python3.13/"];
    let entries: Vec<Entry> = (0..random(40))
        .map(|_| {
            let place = places[usize::try_from(random(3)).expect("small")];
            Entry {
                filename: format!("{place}{}", any_text(random, 50)).into(),
                function: any_text(random, 60).into(),
                line: (random(5) > 0).then(|| i32::try_from(random(5)).expect("small")),
            }
        })
        .collect();
    let named = |random: &mut dyn FnMut(u64) -> u64, text: String| {
        (random(2) == 0).then(|| std::sync::Arc::<str>::from(text))
    };
    let (callback, request) = (any_text(random, 200), any_text(random, 200));
    let mut native = Vec::new();
    for _ in 0..random(9) {
        native.push(NativeEntry {
            function: any_text(random, 60).into(),
            file: any_text(random, 60).into(),
        });
    }
    let mut stall = Stall {
        cause,
        native,
        suppressed: random(3),
        callback: named(random, callback),
        request: named(random, request),
        task: (random(2) == 0).then(|| TaskFacts {
            name: any_text(random, 90).into(),
            coroutine: any_text(random, 90).into(),
            made: None,
            awaited_by: (0..random(9))
                .map(|_| any_text(random, 40).into())
                .collect(),
        }),
        ..sleeping(1, if random(2) == 0 { FOUND } else { OVER }, random(10_000))
    };
    stall.thread.name = any_text(random, 40).into();
    stall.stack.entries = entries;
    stall.stack.cut = u32::try_from(random(3)).expect("small");
    stall.stack.hidden = u32::try_from(random(3)).expect("small");
    if random(4) == 0 {
        stall.stack.quality = Quality::Missing(any_text(random, 100).into());
    }
    stall
}

#[test]
fn no_stall_writes_more_lines_or_columns_than_there_are_or_a_control_character() {
    for seed in 1..=500 {
        let mut random = random_below(seed);
        let stall = any_stall(&mut random);
        let style = Style {
            colours: false,
            columns: usize::try_from(random(140)).expect("small"),
            ascii: random(2) == 0,
        };
        let program: String = (0..5).map(|_| any_text(&mut random, 200) + "\n").collect();
        let places = user_places();
        let text = std::sync::Arc::new(crate::watch::Text::new(program.as_bytes()));
        let mut sources = move |_: &str| Some(text.clone());
        let diagnosis = Diagnosis::of(&stall, Catalogue::shipped(), &places, &mut sources);
        let writer = Writer {
            stall: &stall,
            diagnosis: &diagnosis,
            places: &places,
            style,
        };
        let block = writer.block();
        let line = line_of(style, "blocked again for 80 ms", &writer.at(), " (3 times)");
        assert!(block.lines().count() <= LINES_MAX, "seed {seed}:\n{block}");
        assert!(block.lines().count() >= 3, "seed {seed}:\n{block}");
        assert!(!line.contains('\n'), "seed {seed}: {line}");
        for line in block.split('\n').chain([&*line]) {
            let width = UnicodeWidthStr::width(line);
            assert!(width <= style.columns(), "seed {seed}: {width} in {line:?}");
            assert!(!line.chars().any(char::is_control), "seed {seed}: {line:?}");
            let bidirectional = ['\u{202e}', '\u{2066}', '\u{200b}', '\u{2028}'];
            assert!(!line.contains(bidirectional), "seed {seed}: {line:?}");
            assert!(!style.ascii || line.is_ascii(), "seed {seed}: {line:?}");
        }
        let coloured = Style {
            colours: true,
            ..style
        };
        let coloured = Writer {
            style: coloured,
            ..writer
        }
        .block();
        assert_eq!(plain(&coloured), trimmed(&block), "seed {seed}");
    }
}

fn trimmed(text: &str) -> String {
    let lines: Vec<&str> = text.split('\n').map(str::trim_end).collect();
    lines.join("\n")
}

/// A block without its colours.
fn plain(text: &str) -> String {
    let mut pieces = text.split("\x1b[");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (code, rest) = piece.split_once('m').expect("a whole sequence");
        assert!(
            code.chars()
                .all(|letter| letter.is_ascii_digit() || letter == ';')
        );
        plain.push_str(rest);
    }
    trimmed(&plain)
}
