//! A line of code is a cure only if it does the same in the place of the one that blocks.

use super::*;

const FUTURES: &str = "/lib/python3.13/concurrent/futures/_base.py";

/// What is said of the first line of a coroutine, with these entries of a library inside it.
fn advice_of(cause: Cause, inner: &[(&str, &str, i32)], line: &str) -> Advice {
    let program = format!("async def view(request):\n    {line}\n");
    let mut entries = inner.to_vec();
    entries.push(("/app/views.py", "view", 2));
    let advice = diagnosis(&stall(cause, &entries), &program).advice;
    advice.expect("advice")
}

fn assert_said(cause: &Cause, inner: &[(&str, &str, i32)], cures: &[(&str, &str)]) {
    for (line, cure) in cures {
        let advice = advice_of(cause.clone(), inner, line);
        assert_eq!(advice.cure.as_deref(), Some(*cure), "{line} {cause:?}");
    }
}

#[test]
fn a_timeout_is_never_left_out() {
    for (file, function, cures) in [
        (
            "threading.py",
            "Event.wait",
            &[
                ("return event.wait()", "return await event.wait()"),
                (
                    "return event.wait(0.15)",
                    "return await offloop.to_thread(event.wait, 0.15)",
                ),
                (
                    "if not event.wait(timeout=0.15):",
                    "if not await offloop.to_thread(event.wait, timeout=0.15):",
                ),
            ][..],
        ),
        (
            "queue.py",
            "Queue.get",
            &[
                ("item = q.get()", "item = await q.get()"),
                (
                    "item = q.get(True, 0.15)",
                    "item = await offloop.to_thread(q.get, True, 0.15)",
                ),
            ],
        ),
        (
            "queue.py",
            "Queue.put",
            &[
                ("q.put(1)", "await q.put(1)"),
                (
                    "q.put(1, timeout=2)",
                    "await offloop.to_thread(q.put, 1, timeout=2)",
                ),
            ],
        ),
    ] {
        let file = format!("/lib/python3.13/{file}");
        assert_said(&Cause::Lock, &[(&file, function, 9)], cures);
    }
}

#[test]
fn a_process_and_a_future_keep_their_timeouts() {
    for (file, function, cures) in [
        (
            "subprocess.py",
            "Popen.communicate",
            &[
                (
                    "out, _ = process.communicate(data)",
                    "out, _ = await process.communicate(data)",
                ),
                (
                    "out, _ = process.communicate(input=x, timeout=3)",
                    "out, _ = await offloop.to_thread(process.communicate, input=x, timeout=3)",
                ),
            ][..],
        ),
        (
            "concurrent/futures/_base.py",
            "Future.exception",
            &[(
                "return future.exception()",
                "return await offloop.to_thread(future.exception)",
            )],
        ),
        (
            "concurrent/futures/_base.py",
            "Future.result",
            &[
                (
                    "return future.result()",
                    "return await asyncio.wrap_future(future)",
                ),
                (
                    "return future.result(timeout=5)",
                    "return await offloop.to_thread(future.result, timeout=5)",
                ),
            ],
        ),
    ] {
        let file = format!("/lib/python3.13/{file}");
        assert_said(&Cause::Lock, &[(&file, function, 9)], cures);
    }
}

#[test]
fn a_lock_keeps_its_timeout_and_its_value() {
    assert_said(
        &Cause::Lock,
        &[],
        &[
            (
                "return lock.acquire(timeout=1)",
                "return await offloop.to_thread(lock.acquire, timeout=1)",
            ),
            ("got = lock.acquire()", "got = await lock.acquire()"),
            ("with lock:", "async with lock:"),
        ],
    );
    assert_said(
        &Cause::Lock,
        &[],
        &[("without = lock.acquire()", "without = await lock.acquire()")],
    );
    let advice = advice_of(Cause::Lock, &[], "lock.acquire(timeout=1)");
    assert!(advice.because.contains("RLock"), "{}", advice.because);
    assert!(advice.instead.is_empty(), "{:?}", advice.instead);
    let entries = [
        ("/lib/python3.13/threading.py", "Condition.wait", 359),
        ("/lib/python3.13/threading.py", "Semaphore.acquire", 468),
    ];
    let cures = [("with self.slots:", "async with self.slots:")];
    assert_said(&Cause::Lock, &entries, &cures);
}

#[test]
fn results_of_executors_stay_what_they_are() {
    let result = [
        (FUTURES, "Future.result", 451),
        (FUTURES, "Executor.map.<locals>.result_iterator", 619),
    ];
    assert_said(
        &Cause::Lock,
        &result,
        &[
            (
                "for value in pool.map(slow, rows):",
                "for value in await offloop.to_thread(list, pool.map(slow, rows)):",
            ),
            (
                "return list(pool.map(slow, [1, 2]))",
                "return list(await offloop.to_thread(list, pool.map(slow, [1, 2])))",
            ),
            (
                "reset(pool.map(slow, [1, 2]))",
                "await offloop.to_thread(function, ...)",
            ),
            (
                "first = next(pool.map(slow, [1, 2]))",
                "await offloop.to_thread(function, ...)",
            ),
        ],
    );
    assert_said(
        &Cause::Lock,
        &[(FUTURES, "wait", 305)],
        &[(
            "done, pending = wait(futures)",
            "done, pending = await offloop.to_thread(wait, futures)",
        )],
    );
    assert_said(
        &Cause::Lock,
        &[(FUTURES, "as_completed", 243)],
        &[(
            "for future in as_completed(futures):",
            "for future in await offloop.to_thread(list, as_completed(futures)):",
        )],
    );
}

#[test]
fn a_pool_of_processes_is_waited_for_as_it_is() {
    for (function, line, cure) in [
        (
            "Pool.map",
            "return pool.map(f, [1, 2])",
            "return await offloop.to_thread(pool.map, f, [1, 2])",
        ),
        (
            "Pool.apply",
            "x = pool.apply(f, (1,))",
            "x = await offloop.to_thread(pool.apply, f, (1,))",
        ),
        (
            "ApplyResult.get",
            "x = pending.get(timeout=5)",
            "x = await offloop.to_thread(pending.get, timeout=5)",
        ),
    ] {
        let entry = ("/lib/python3.13/multiprocessing/pool.py", function, 367);
        assert_said(&Cause::Lock, &[entry], &[(line, cure)]);
    }
}

#[test]
fn a_process_is_started_and_a_page_is_read_as_before() {
    let popen = ("/lib/python3.13/subprocess.py", "Popen.__init__", 1038);
    let urlopen = ("/lib/python3.13/urllib/request.py", "urlopen", 189);
    for (entry, line, cure) in [
        (
            popen,
            "p = subprocess.Popen('true | cat', shell=True)",
            "p = await offloop.to_thread(subprocess.Popen, 'true | cat', shell=True)",
        ),
        (
            urlopen,
            "with urlopen(URL) as response:",
            "with await offloop.to_thread(urlopen, URL) as response:",
        ),
        (
            urlopen,
            "status = urlopen(URL, data=b'x').status",
            "status = (await offloop.to_thread(urlopen, URL, data=b'x')).status",
        ),
    ] {
        assert_said(&socket("10.0.0.9:80"), &[entry], &[(line, cure)]);
    }
}

#[test]
fn files_are_opened_as_they_were() {
    assert_said(
        &FILE,
        &[],
        &[
            ("f = open(path)", "f = await offloop.to_thread(open, path)"),
            (
                "with open(a) as x, lock:",
                "with await offloop.to_thread(open, a) as x, lock:",
            ),
            (
                "text = open(path).read()",
                "text = await offloop.to_thread(open(path).read)",
            ),
            (
                "open(path, \"wb\").write(data)",
                "await offloop.write_file(path, data)",
            ),
            (
                "open(path, 'a').write(text)",
                "await offloop.to_thread(open(path, 'a').write, text)",
            ),
        ],
    );
}

#[test]
fn what_changes_its_object_is_not_sent_to_a_process() {
    let shuffle = ("/lib/python3.13/random.py", "Random.shuffle", 357);
    let advice = advice_of(Cause::Python, &[shuffle], "random.shuffle(xs)");
    assert_eq!(advice.function.as_deref(), Some("random.shuffle"));
    let cure = "await offloop.to_thread(random.shuffle, xs)";
    assert_eq!(advice.cure.as_deref(), Some(cure));
    assert_eq!(advice.because, SHARED);
    for line in ["xs.sort()", "xs.sort(key=key)", "cache.update(other)"] {
        let advice = advice_of(WITH_GIL, &[], line);
        let cure = "await offloop.to_process(function, ...)";
        assert_eq!(advice.cure.as_deref(), Some(cure), "{line}");
        assert!(advice.because.starts_with(CHANGES), "{}", advice.because);
    }
    assert_said(
        &WITH_GIL,
        &[],
        &[(
            "best = sorted(rows)",
            "best = await offloop.to_process(sorted, rows)",
        )],
    );
}

#[test]
fn what_only_changes_something_shares_its_memory() {
    let program = "def fill(rows):\n    for row in rows:\n        row.x = 1\n\
                   async def view(rows):\n    fill(rows)\n";
    let entries = [("/app/views.py", "fill", 3), ("/app/views.py", "view", 5)];
    let advice = diagnosis(&stall(Cause::Python, &entries), program).advice;
    let advice = advice.expect("advice");
    let cure = "await offloop.to_thread(fill, rows)";
    assert_eq!(advice.cure.as_deref(), Some(cure));
    assert_eq!(advice.because, SHARED);
}

#[test]
fn arguments_that_compute_are_moved_with_their_call() {
    for line in [
        "size = len(b'x' * 600_000_000)",
        "f.write(os.urandom(150_000_000))",
        "f.write(b'x' * 600_000_000)",
        "packed = zlib.compress(b'x' * 600_000_000)",
        "small = resize(img + other)",
    ] {
        let advice = advice_of(NATIVE, &[], line);
        let cure = "await offloop.to_thread(function, ...)";
        assert_eq!(advice.cure.as_deref(), Some(cure), "{line}");
        assert!(advice.because.starts_with(APART), "{}", advice.because);
    }
}

#[test]
fn what_makes_its_items_later_is_not_moved_by_its_call() {
    for line in [
        "return [*map(time.sleep, [1])]",
        "for item in filter(slow, items):",
        "rows = zip(one, two)",
    ] {
        let advice = advice_of(Cause::Sleep, &[], line);
        let cure = "await offloop.to_thread(function, ...)";
        assert_eq!(advice.cure.as_deref(), Some(cure), "{line}");
    }
}

#[test]
fn a_generator_is_not_sent_to_a_process() {
    let program = "def crunch(rows):\n    for row in rows: pass\nasync def view():\n\
                   \x20   total = crunch(x for x in rows)\n";
    let entries = [("/app/views.py", "crunch", 2), ("/app/views.py", "view", 4)];
    let advice = diagnosis(&stall(Cause::Python, &entries), program).advice;
    let apart = "await offloop.to_process(function, ...)";
    assert_eq!(advice.expect("advice").cure.as_deref(), Some(apart));
}

#[test]
fn a_call_whose_head_is_above_the_line_has_no_cure_in_code() {
    let program = "class Slow:\n    def run(self):\n        time.sleep(1)\n\
                   async def view():\n    x = (Slow()\n         .run()\n         )\n";
    let entries = [
        ("/app/views.py", "Slow.run", 3),
        ("/app/views.py", "view", 6),
    ];
    let advice = diagnosis(&stall(Cause::Sleep, &entries), program).advice;
    let cure = advice.expect("advice").cure;
    assert_eq!(
        cure.as_deref(),
        Some("await offloop.to_thread(function, ...)")
    );
}

#[test]
fn a_lambda_on_the_line_awaits_nothing() {
    let cures = [(
        "loop.add_reader(fd, lambda: os.read(fd, 10))",
        "await offloop.to_thread(function, ...)",
    )];
    assert_said(&FILE, &[], &cures);
}

#[test]
fn a_line_understands_the_arguments_that_it_takes() {
    let get = ("/v/site-packages/httpx/_api.py", "get", 174);
    assert_said(
        &socket("10.0.0.9:80"),
        &[get],
        &[
            (
                "page = httpx.get(url, timeout=3)",
                "page = await client.get(url, timeout=3)",
            ),
            (
                "page = httpx.get(url, verify=False)",
                "page = await offloop.to_thread(httpx.get, url, verify=False)",
            ),
        ],
    );
}

#[test]
fn a_function_that_the_catalogue_has_no_name_for_is_named_by_its_place() {
    for (file, function, line, named) in [
        (
            "random.py",
            "Random.gauss",
            "x = rng.gauss()",
            "random.Random.gauss",
        ),
        (
            "random.py",
            "Random.sample",
            "x = random.sample(y, 3)",
            "random.sample",
        ),
        (
            "difflib.py",
            "ndiff",
            "x = difflib.ndiff(a, b)",
            "difflib.ndiff",
        ),
    ] {
        let file = format!("/lib/python3.13/{file}");
        let advice = advice_of(Cause::Python, &[(&file, function, 9)], line);
        assert_eq!(advice.function.as_deref(), Some(named));
    }
}
