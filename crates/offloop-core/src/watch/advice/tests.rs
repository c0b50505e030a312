//! Cures for one stall each, with the lines of the program as it stands in a file.

use super::super::calls::calls;
use super::super::samples::{FOUND, files, sleeping, stack, user_places};
use super::*;
use crate::watch::{Catalogue, Diagnosis, Stack};

mod called;
mod moving;
mod repeated;
mod same;

const RUN: (&str, &str, i32) = ("/lib/python3.13/asyncio/events.py", "Handle._run", 89);

/// A stall for a cause, with these entries inside a callback.
fn stall(cause: Cause, entries: &[(&str, &str, i32)]) -> Stall {
    let mut stall = sleeping(1, FOUND, 100);
    stall.cause = cause;
    stall.stack = inside_callback(entries);
    stall
}

fn inside_callback(entries: &[(&str, &str, i32)]) -> Stack {
    let mut all = entries.to_vec();
    all.push(RUN);
    stack(&all)
}

fn diagnosis(stall: &Stall, program: &str) -> Diagnosis {
    let mut sources = files(&[("/app/views.py", program)]);
    Diagnosis::of(stall, Catalogue::shipped(), &user_places(), &mut sources)
}

/// The cure for a line in a coroutine, where a function in C does not come back.
fn cure_of_line(cause: Cause, line: &str) -> String {
    let program = format!("async def view(request):\n    {line}\n");
    let stall = stall(cause, &[("/app/views.py", "view", 2)]);
    let advice = diagnosis(&stall, &program).advice.expect("advice");
    advice.cure.expect("a cure")
}

fn socket(peer: &str) -> Cause {
    Cause::Socket {
        peer: Some(peer.into()),
    }
}

const FILE: Cause = Cause::File { path: None };
const NATIVE: Cause = Cause::Native { holds_gil: false };
const WITH_GIL: Cause = Cause::Native { holds_gil: true };
const CHILD: Cause = Cause::Child { pid: Some(7) };

/// Each cause and line has its cure.
fn assert_cures(cures: &[(Cause, &str, &str)]) {
    for (cause, line, cure) in cures {
        assert_eq!(cure_of_line(cause.clone(), line), *cure, "{line} {cause:?}");
    }
}

#[test]
fn what_waits_in_c_is_cured_in_its_own_line() {
    let postgres = socket("10.0.0.5:5432");
    assert_cures(&[
        (Cause::Sleep, "time.sleep(0.3)", "await asyncio.sleep(0.3)"),
        (
            Cause::Sleep,
            "sleep(pause)  # a little",
            "await asyncio.sleep(pause)",
        ),
        (
            FILE,
            "with open(path) as source:",
            "async with offloop.open(path) as source:",
        ),
        (
            FILE,
            "text = open(path, 'rb').read()",
            "text = await offloop.read_file(path)",
        ),
        (
            FILE,
            "names = os.listdir(folder)",
            "names = await offloop.to_thread(os.listdir, folder)",
        ),
        (
            postgres.clone(),
            "cursor.execute('select 1', rows)",
            "await cursor.execute('select 1', rows)",
        ),
        (
            socket("10.0.0.5:80"),
            "data = sock.recv(4096)",
            "data = await asyncio.get_running_loop().sock_recv(sock, 4096)",
        ),
    ]);
}

#[test]
fn what_computes_in_c_is_cured_in_its_own_line() {
    assert_cures(&[
        (
            NATIVE,
            "return zlib.compress(data, level=9)",
            "return await offloop.to_thread(zlib.compress, data, level=9)",
        ),
        (
            WITH_GIL,
            "first = pickle.loads(data)[0]",
            "first = (await offloop.to_process(pickle.loads, data))[0]",
        ),
        (
            NATIVE,
            "key = hashlib.sha256(data).hexdigest()",
            "key = (await offloop.to_thread(hashlib.sha256, data)).hexdigest()",
        ),
        (
            CHILD,
            "os.system(command)",
            "await offloop.to_thread(os.system, command)",
        ),
        (
            Cause::Lock,
            "return asyncio.run_coroutine_threadsafe(work(1), loop).result()",
            "return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(1), loop))",
        ),
        (Cause::Lock, "lock.acquire()", "await lock.acquire()"),
        (
            Cause::Descriptor { name: None },
            "name = input('? ')",
            "name = await offloop.to_thread(input, '? ')",
        ),
    ]);
}

#[test]
fn small_steps_on_the_line_leave_no_doubt() {
    assert_cures(&[
        (
            NATIVE,
            "packed = zlib.compress(text.encode(), len(rows))",
            "packed = await offloop.to_thread(zlib.compress, text.encode(), len(rows))",
        ),
        (
            NATIVE,
            "packed = zlib.compress(render(rows))",
            "await offloop.to_thread(function, ...)",
        ),
        (
            Cause::Unknown,
            "size = len(os.listdir(folder))",
            "size = len(await offloop.to_thread(os.listdir, folder))",
        ),
        (
            Cause::Unknown,
            "size = weigh(os.listdir(folder))",
            "await offloop.to_thread(function, ...)",
        ),
    ]);
}

#[test]
fn what_the_catalogue_does_not_know_is_moved_as_it_is() {
    assert_cures(&[
        (
            WITH_GIL,
            "small = _fast.resize(img)",
            "small = await offloop.to_process(_fast.resize, img)",
        ),
        (
            NATIVE,
            "small = _fast.resize(img)",
            "small = await offloop.to_thread(_fast.resize, img)",
        ),
        (
            Cause::Sleep,
            "device.pause()",
            "await offloop.to_thread(device.pause)",
        ),
        // Of two calls none is named.
        (
            NATIVE,
            "a = one(x) + two(y)",
            "await offloop.to_thread(function, ...)",
        ),
        (
            NATIVE,
            "a = sum(other(x))",
            "await offloop.to_thread(function, ...)",
        ),
    ]);
}

#[test]
fn a_call_over_several_lines_is_put_into_one() {
    let program = "async def view(request):\n    answer = requests.get(\n        url,  # where\n\
                   \x20       timeout=3,\n    )\n";
    let get = ("/v/site-packages/requests/api.py", "get", 73);
    let view = ("/app/views.py", "view", 2);
    let stall = stall(socket("10.0.0.9:443"), &[get, view]);
    let diagnosis = diagnosis(&stall, program);
    let advice = diagnosis.advice.expect("advice");
    assert_eq!(advice.function.as_deref(), Some("requests.get"));
    let cure = "answer = await offloop.to_thread(requests.get, url, timeout=3)";
    assert_eq!(advice.cure.as_deref(), Some(cure));
    assert_eq!(
        advice.instead,
        ["an httpx.AsyncClient", "an aiohttp.ClientSession"]
    );
    assert_eq!(
        diagnosis.source.as_deref(),
        Some("    answer = requests.get(")
    );
    assert_eq!(diagnosis.call, Some(13..26));
}

const PROGRAM: &str = "\
async def thumbnail(request):
    img = await load(request)
    small = resize(img, size=(64, 64))
    return small

def resize(img, size):
    for row in img:
        total += row
    backoff()

def backoff():
    time.sleep(0.5)
";

const THUMBNAIL: (&str, &str, i32) = ("/app/views.py", "thumbnail", 3);

#[test]
fn without_sources_the_names_of_the_stack_are_all_that_is_said() {
    let by_stack = |cause: Cause, entries: &[(&str, &str, i32)]| {
        let stall = stall(cause, entries);
        let diagnosis = Diagnosis::of(
            &stall,
            Catalogue::shipped(),
            &user_places(),
            &mut |_: &str| None,
        );
        assert_eq!((&diagnosis.source, &diagnosis.call), (&None, &None));
        let advice = diagnosis.advice.expect("advice");
        (advice.function, advice.cure.expect("a cure"))
    };
    assert_eq!(
        by_stack(Cause::Python, &[("/app/image.py", "Image.resize", 8)]),
        (None, "await offloop.to_process(function, ...)".to_owned())
    );
    let loads = ("/lib/python3.13/json/__init__.py", "loads", 346);
    assert_eq!(
        by_stack(NATIVE, &[loads, ("/app/views.py", "view", 8)]),
        (
            Some("json.loads".to_owned()),
            "await offloop.to_process(json.loads, ...)".to_owned()
        )
    );
    let join = ("/lib/python3.13/threading.py", "Event.wait", 655);
    assert_eq!(
        by_stack(Cause::Lock, &[join, ("/app/views.py", "view", 8)]).1,
        "await offloop.to_thread(threading.Event.wait, ...)"
    );
}

#[test]
fn a_loop_in_a_coroutine_is_cut_into_parts_or_moved() {
    let program = "async def view(request):\n    for row in rows:\n        total += row\n";
    let stall = stall(Cause::Python, &[("/app/views.py", "view", 3)]);
    let advice = diagnosis(&stall, program).advice.expect("advice");
    assert_eq!(
        advice.cure.as_deref(),
        Some("await offloop.to_process(function, ...)")
    );
    assert!(
        advice
            .because
            .starts_with("put what blocks into a function of its own; ")
    );
    assert_eq!(
        advice.instead,
        ["await asyncio.sleep(0) once in a while, to let the loop run"]
    );
}

#[test]
fn a_small_call_in_a_loop_that_computes_is_not_blamed() {
    let program = "async def view():\n    for row in rows:\n        total += sum(row)\n";
    let stall = stall(Cause::Python, &[("/app/views.py", "view", 3)]);
    let diagnosis = diagnosis(&stall, program);
    assert_eq!(diagnosis.call, None);
    assert_eq!(diagnosis.advice.expect("advice").function, None);
}

#[test]
fn another_threads_function_moves_to_a_process() {
    let cause = Cause::OtherThread { native_id: 4_711 };
    let mut stall = stall(cause, &[]);
    stall.stack = stack(&[
        ("/app/views.py", "resize", 8),
        ("/lib/python3.13/threading.py", "Thread.run", 1012),
    ]);
    let advice = diagnosis(&stall, PROGRAM).advice.expect("advice");
    assert_eq!(
        advice.cure.as_deref(),
        Some("await offloop.to_process(resize, ...)")
    );
    assert!(advice.because.starts_with("it keeps the GIL"));
}

#[test]
fn an_import_is_to_stand_at_the_top() {
    let program = "async def view(request):\n    import pandas\n";
    let import = ("<frozen importlib._bootstrap>", "_find_and_load", 1360);
    let stall = stall(Cause::Python, &[import, ("/app/views.py", "view", 2)]);
    let advice = diagnosis(&stall, program).advice.expect("advice");
    assert_eq!(advice.cure.as_deref(), Some("import pandas"));
    assert_eq!(
        advice.because,
        "import it at the top of the module, before the loop runs"
    );
}

#[test]
fn a_module_that_blocks_as_it_is_imported_is_to_be_imported_earlier() {
    let import = ("<frozen importlib._bootstrap>", "_find_and_load", 1360);
    let entries = [
        ("/app/slow.py", "<module>", 1),
        import,
        ("/app/views.py", "view", 2),
    ];
    let program = "async def view():\n    import slow\n";
    let mut sources = files(&[("/app/views.py", program), ("/app/slow.py", "sleep(1)\n")]);
    let stall = stall(Cause::Sleep, &entries);
    let diagnosis = Diagnosis::of(&stall, Catalogue::shipped(), &user_places(), &mut sources);
    assert_eq!(diagnosis.source.as_deref(), Some("sleep(1)"));
    let advice = diagnosis.advice.expect("advice");
    assert_eq!(advice.function.as_deref(), Some("time.sleep"));
    assert_eq!(advice.cure.as_deref(), Some("import slow"));
    assert_eq!(advice.at.expect("another line").line, Some(2));
}

#[test]
fn where_no_code_is_to_blame_none_is_named() {
    let line = [("/app/views.py", "resize", 8)];
    let starved = diagnosis(&stall(Cause::Starved, &line), PROGRAM);
    assert_eq!((&starved.culprit, &starved.source), (&None, &None));
    let advice = starved.advice.expect("advice");
    assert_eq!(advice.cure, None);
    let collection = diagnosis(&stall(Cause::Collection, &line), PROGRAM);
    let advice = collection.advice.expect("advice");
    assert_eq!(advice.cure.as_deref(), Some("gc.freeze()"));
    let callbacks = diagnosis(&stall(Cause::Callbacks, &[]), PROGRAM);
    let advice = callbacks.advice.expect("advice");
    assert_eq!(advice.cure.as_deref(), Some("await asyncio.sleep(0)"));
    assert_eq!(
        diagnosis(
            &Stall {
                stack: stack(&[]),
                ..sleeping(1, FOUND, 9)
            },
            ""
        ),
        Diagnosis::default()
    );
}

#[test]
fn a_lock_that_is_entered_is_marked_and_cured() {
    let program = "async def view():\n    with self.lock:\n        pass\n";
    let diagnosis = diagnosis(
        &stall(Cause::Lock, &[("/app/views.py", "view", 2)]),
        program,
    );
    assert_eq!(diagnosis.call, Some(9..18));
    let advice = diagnosis.advice.expect("advice");
    assert_eq!(advice.cure.as_deref(), Some("async with self.lock:"));
    assert!(advice.because.starts_with("self.lock is an asyncio.Lock()"));
}

#[test]
fn the_end_of_a_with_block_is_no_call_in_its_line() {
    let program = "async def view():\n    with ThreadPoolExecutor() as pool:\n        pass\n";
    let exit = (
        "/lib/python3.13/concurrent/futures/_base.py",
        "Executor.__exit__",
        647,
    );
    let stall = stall(Cause::Lock, &[exit, ("/app/views.py", "view", 2)]);
    let diagnosis = diagnosis(&stall, program);
    assert_eq!(diagnosis.call, None);
    let cure = diagnosis.advice.expect("advice").cure;
    assert_eq!(
        cure.as_deref(),
        Some("await offloop.to_thread(function, ...)")
    );
}

#[test]
fn what_is_awaited_already_is_not_to_be_moved() {
    let program = "async def view():\n    answer = await client.get(url)\n";
    let get = ("/v/site-packages/httpx/_client.py", "AsyncClient.get", 1768);
    let stall = stall(Cause::Python, &[get, ("/app/views.py", "view", 2)]);
    let advice = diagnosis(&stall, program).advice.expect("advice");
    assert_eq!((advice.function, advice.cure), (None, None));
    assert!(advice.because.starts_with("it is awaited already"));
}

#[test]
fn what_blocks_and_is_awaited_by_mistake_is_named() {
    let program = "async def view():\n    await done.wait()\n";
    let wait = ("/lib/python3.13/threading.py", "Event.wait", 659);
    let stall = stall(Cause::Lock, &[wait, ("/app/views.py", "view", 2)]);
    let advice = diagnosis(&stall, program).advice.expect("advice");
    assert_eq!(advice.function.as_deref(), Some("threading.Event.wait"));
    let cure = "await offloop.to_thread(threading.Event.wait, ...)";
    assert_eq!(advice.cure.as_deref(), Some(cure));
    assert_eq!(advice.because, "a thread waits in its place");
}

#[test]
fn a_comment_with_a_reason_allows_the_culprit_and_what_leads_to_it() {
    let allowed = |inner: &str, outer: &str| {
        let program = format!(
            "async def view():\n    load(  {outer}\n    )\ndef load():\n    sleep(1) {inner}\n"
        );
        let entries = [("/app/views.py", "load", 5), ("/app/views.py", "view", 2)];
        let diagnosis = diagnosis(&stall(Cause::Sleep, &entries), &program);
        let allowance = diagnosis.allowance.clone();
        let words = allowance.map(|allowance| (allowance.entry.line, allowance.reason));
        (diagnosis.is_allowed(), words)
    };
    let because = |line, reason: &str| (true, Some((Some(line), Some(reason.to_owned()))));
    assert_eq!(allowed("", ""), (false, None));
    assert_eq!(allowed("# offloop: allow start", ""), because(5, "start"));
    assert_eq!(allowed("", "# offloop: allow start"), because(2, "start"));
    let both = allowed("# offloop: allow", "# offloop: allow start");
    assert_eq!(both, because(2, "start"));
    let without = allowed("# offloop: allow", "");
    assert_eq!(without, (false, Some((Some(5), None))));
}

#[test]
fn every_cure_of_the_catalogue_can_be_rendered() {
    for function in Catalogue::shipped().functions() {
        let texts = [&function.remedy.because]
            .into_iter()
            .chain(&function.remedy.instead)
            .chain(match &function.remedy.cure {
                Some(Cure::Line(line)) => Some(line),
                _ => None,
            });
        for text in texts {
            for piece in text.split('{').skip(1) {
                let (placeholder, _) = piece.split_once('}').expect("closed");
                let name = placeholder.trim_start_matches(", ");
                assert!(rewritten::PLACEHOLDERS.contains(&name), "{text}");
            }
            for (call, name) in [("a.b(c, d=1)", "m.A.b"), ("b()", "b")] {
                let call = calls(call).remove(0);
                let line = rendered(text, Some(&call), name);
                assert!(!line.contains(['{', '}']), "{text}: {line}");
                let count = |letter| line.matches(letter).count();
                assert_eq!(count('('), count(')'), "{text}: {line}");
            }
        }
    }
}

#[test]
fn what_keeps_the_gil_while_it_waits_is_no_work_for_a_thread() {
    let line = "library.wait(8)";
    let program = format!("async def view(request):\n    {line}\n");
    let lets_go = stall(Cause::Sleep, &[("/app/views.py", "view", 2)]);
    let keeps = Stall {
        keeps_gil: true,
        ..lets_go.clone()
    };
    let [thread, process] = [lets_go, keeps].map(|stall| {
        let advice = diagnosis(&stall, &program).advice.expect("advice");
        (advice.cure.expect("a cure"), advice.because)
    });
    assert_eq!(thread.0, "await offloop.to_thread(library.wait, 8)");
    assert_eq!(process.0, "await offloop.to_process(library.wait, 8)");
    assert_eq!(process.1, KEEPS_GIL);
}
