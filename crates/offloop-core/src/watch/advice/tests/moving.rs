//! Where the call stands that is moved to a thread or a process, and when there is none.

use super::*;

#[test]
fn a_computation_moves_to_a_process_where_a_coroutine_calls_it() {
    let stall = stall(Cause::Python, &[("/app/views.py", "resize", 8), THUMBNAIL]);
    let diagnosis = diagnosis(&stall, PROGRAM);
    assert_eq!(diagnosis.source.as_deref(), Some("        total += row"));
    assert_eq!(diagnosis.call, None);
    let advice = diagnosis.advice.expect("advice");
    let cure = "small = await offloop.to_process(resize, img, size=(64, 64))";
    assert_eq!(advice.cure.as_deref(), Some(cure));
    let at = advice.at.expect("another line");
    assert_eq!((&*at.function, at.line), ("thumbnail", Some(3)));
    assert_eq!(advice.function, None);
}

#[test]
fn what_waits_in_a_plain_function_moves_to_a_thread_where_a_coroutine_calls_it() {
    let entries = [
        ("/app/views.py", "backoff", 12),
        ("/app/views.py", "resize", 9),
        THUMBNAIL,
    ];
    let advice = diagnosis(&stall(Cause::Sleep, &entries), PROGRAM).advice;
    let advice = advice.expect("advice");
    assert_eq!(advice.function.as_deref(), Some("time.sleep"));
    let cure = "small = await offloop.to_thread(resize, img, size=(64, 64))";
    assert_eq!(advice.cure.as_deref(), Some(cure));
    assert_eq!(advice.because, "a thread sleeps in its place");
    assert_eq!(
        advice.instead,
        [
            "make `backoff` an async def, with await asyncio.sleep(0.5)",
            "await asyncio.sleep(seconds)"
        ][..1]
    );
}

/// The cure and the other ways for a method that sleeps, where a coroutine's line leads to it.
fn cure_of_method(method: &str, line: &str) -> (String, Advice) {
    let program = format!(
        "class Slow:\n    def {method}(self):\n        time.sleep(1)\n\
         async def view():\n    {line}\n"
    );
    let qualified = format!("Slow.{method}");
    let entries = [
        ("/app/views.py", &*qualified, 3),
        ("/app/views.py", "view", 5),
    ];
    let advice = diagnosis(&stall(Cause::Sleep, &entries), &program).advice;
    let advice = advice.expect("advice");
    (advice.cure.clone().expect("a cure"), advice)
}

#[test]
fn what_python_calls_by_itself_has_no_name_to_be_moved_by() {
    for (method, line) in [
        ("__enter__", "with Slow():"),
        ("__getitem__", "slow[1]"),
        ("__call__", "s = Slow(); s()"),
        ("__iter__", "for item in slow:"),
    ] {
        let (cure, advice) = cure_of_method(method, line);
        assert_eq!(cure, "await offloop.to_thread(function, ...)", "{method}");
        assert!(advice.because.starts_with(APART), "{}", advice.because);
        assert_eq!(advice.instead, [""; 0]);
    }
}

#[test]
fn a_generator_and_a_property_are_not_moved_by_the_call_beside_them() {
    for (program, method, line) in [
        (
            "def rows():\n    while more():\n        time.sleep(1)\n        yield 1\n",
            "rows",
            "all = list(rows())",
        ),
        (
            "class Order:\n    @property\n    def total(self):\n        time.sleep(1)\n",
            "Order.total",
            "total = Order().total",
        ),
    ] {
        let sleep = program.lines().position(|text| text.ends_with("sleep(1)"));
        let sleep = i32::try_from(sleep.expect("it sleeps")).expect("small") + 1;
        let line_of_view = i32::try_from(program.lines().count()).expect("small") + 2;
        let program = format!("{program}async def view():\n    {line}\n");
        let entries = [
            ("/app/views.py", method, sleep),
            ("/app/views.py", "view", line_of_view),
        ];
        let advice = diagnosis(&stall(Cause::Sleep, &entries), &program).advice;
        let advice = advice.expect("advice");
        let moved = Some("await offloop.to_thread(function, ...)");
        assert_eq!(advice.cure.as_deref(), moved, "{line}");
        assert_eq!(advice.instead, [""; 0]);
        assert!(advice.because.starts_with(APART), "{}", advice.because);
    }
}

#[test]
fn a_lambda_is_moved_by_the_only_call() {
    let program = "work = lambda: time.sleep(1)\nasync def view():\n    work()\n";
    let entries = [
        ("/app/views.py", "<lambda>", 1),
        ("/app/views.py", "view", 3),
    ];
    let advice = diagnosis(&stall(Cause::Sleep, &entries), program).advice;
    let cure = advice.expect("advice").cure;
    assert_eq!(cure.as_deref(), Some("await offloop.to_thread(work)"));
}

#[test]
fn nothing_is_awaited_in_a_lambda_that_the_loop_calls() {
    for (line, shown) in [
        (
            "loop.call_soon(lambda: time.sleep(.002))",
            "await asyncio.sleep(.002)",
        ),
        ("work = lambda: slow(1)", "await offloop.to_thread(slow, 1)"),
        (
            "loop.call_soon(lambda: slow(1))",
            "await offloop.to_thread(function, ...)",
        ),
    ] {
        let program = format!("async def view():\n    {line}\n");
        let entries = [("/app/views.py", "view.<locals>.<lambda>", 2)];
        let advice = diagnosis(&stall(Cause::Sleep, &entries), &program).advice;
        let advice = advice.expect("advice");
        assert_eq!(advice.cure, None, "{line}");
        let because = format!(
            "a lambda is called by the loop or by a library and cannot await: let it create a \
             task that does, with {shown}; "
        );
        assert!(advice.because.starts_with(&because), "{}", advice.because);
    }
}

#[test]
fn what_a_call_of_a_class_or_of_an_object_runs_is_moved_by_that_call() {
    for (method, line, moved) in [
        (
            "__init__",
            "slow = Slow(1)",
            "slow = await offloop.to_thread(Slow, 1)",
        ),
        ("__call__", "slow(1)", "await offloop.to_thread(slow, 1)"),
    ] {
        let (cure, advice) = cure_of_method(method, line);
        assert_eq!(cure, moved);
        assert_eq!(advice.instead, [""; 0]);
    }
}

#[test]
fn a_plain_callback_is_told_that_it_cannot_await() {
    let program = "def tick():\n    time.sleep(1)\n";
    let tick = stall(Cause::Sleep, &[("/app/views.py", "tick", 2)]);
    let advice = diagnosis(&tick, program).advice.expect("advice");
    assert_eq!(advice.cure, None);
    assert_eq!(
        advice.because,
        "`tick` is called by the loop or by a library and cannot await: let it create a task that \
         does, with await asyncio.sleep(1); other tasks run while this one sleeps"
    );
}

#[test]
fn a_line_of_a_library_is_not_the_place_of_a_cure() {
    let library = "/v/site-packages/starlette/routing.py";
    let program = "def handler():\n    time.sleep(1)\n";
    let source = "async def app():\n    handler()\n";
    let entries = [("/app/views.py", "handler", 2), (library, "app", 2)];
    let mut sources = files(&[("/app/views.py", program), (library, source)]);
    let stall = stall(Cause::Sleep, &entries);
    let advice = Diagnosis::of(&stall, Catalogue::shipped(), &user_places(), &mut sources)
        .advice
        .expect("advice");
    assert_eq!(advice.at, None);
    assert!(
        advice
            .because
            .starts_with("`handler` is called by the loop")
    );
}

#[test]
fn a_part_of_a_line_is_not_moved_as_a_call() {
    let program = "async def view():\n    total = sum(f(x) for x in rows)\n";
    let part = ("/app/views.py", "view.<locals>.<genexpr>", 2);
    let stall = stall(Cause::Python, &[part, ("/app/views.py", "view", 2)]);
    let advice = diagnosis(&stall, program).advice.expect("advice");
    assert_eq!(
        advice.cure.as_deref(),
        Some("await offloop.to_process(function, ...)")
    );
    assert!(
        advice
            .because
            .starts_with("put what blocks into a function of its own")
    );
}

#[test]
fn what_is_done_part_by_part_is_told_in_words() {
    let program = "async def view():\n    return copy.deepcopy(rows)\n";
    let copy = ("/lib/python3.13/copy.py", "deepcopy", 118);
    let stall = stall(Cause::Python, &[copy, ("/app/views.py", "view", 2)]);
    let advice = diagnosis(&stall, program).advice.expect("advice");
    assert_eq!(advice.cure, None);
    assert_eq!(
        advice.because,
        "copy a part at a time, with await asyncio.sleep(0) between two parts"
    );
}
