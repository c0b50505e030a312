//! What is said of functions that no line of the program calls, or whose call the text hides.

use super::*;

/// What is said where a function leads from a coroutine's line to the one that sleeps.
fn advice_beside(program: &str, entries: &[(&str, i32)]) -> Advice {
    let entries: Vec<_> = entries
        .iter()
        .map(|(function, line)| ("/app/views.py", *function, *line))
        .collect();
    let advice = diagnosis(&stall(Cause::Sleep, &entries), program).advice;
    advice.expect("advice")
}

#[test]
fn what_the_interpreter_calls_is_told_in_words() {
    let program = "def on_signal(*_):\n    time.sleep(1)\nasync def view():\n\
                   \x20   signal.signal(signal.SIGALRM, on_signal)\n\
                   \x20   while time.monotonic() < end: pass\n";
    let entries = [("on_signal", 2), ("view", 5)];
    let advice = advice_beside(program, &entries);
    assert_eq!(advice.cure, None);
    assert_eq!(advice.because, format!("`on_signal` {HOOKED}"));
    assert_eq!(advice.instead, [""; 0]);
    let idle = diagnosis(
        &stall(Cause::Sleep, &[("/app/views.py", "on_signal", 2)]),
        program,
    );
    let advice = idle.advice.expect("advice");
    assert_eq!(advice.because, format!("`on_signal` {HOOKED}"));
    let unknown = program.replace("signal.signal(", "on(");
    let advice = advice_beside(&unknown, &entries);
    let apart = Some("await offloop.to_thread(function, ...)");
    assert_eq!(advice.cure.as_deref(), apart);
    assert_eq!(advice.instead, [""; 0]);
}

#[test]
fn the_end_of_an_object_is_told_in_words() {
    let program = "class Slow:\n    def __del__(self):\n        time.sleep(1)\n\
                   async def view():\n    clear(slow)\n";
    let advice = advice_beside(program, &[("Slow.__del__", 3), ("view", 5)]);
    assert_eq!(advice.cure, None);
    assert!(
        advice
            .because
            .starts_with("close such objects in a thread: `Slow.__del__` runs in")
    );
}

#[test]
fn the_body_of_a_class_is_no_call_of_it() {
    let program = "async def view():\n    class X:\n        time.sleep(1)\n";
    let advice = advice_beside(program, &[("view.<locals>.X", 3), ("view", 2)]);
    let apart = Some("await offloop.to_thread(function, ...)");
    assert_eq!(advice.cure.as_deref(), apart);
    assert_eq!(advice.instead, [""; 0]);
}

#[test]
fn what_a_library_calls_is_not_to_be_made_a_coroutine() {
    let program = "class Slow(logging.Handler):\n    def emit(self, record):\n\
                   \x20       time.sleep(1)\nasync def view():\n    log.warning('x')\n";
    let logging = "/lib/python3.13/logging/__init__.py";
    let entries = [
        ("/app/views.py", "Slow.emit", 3),
        (logging, "Logger.handle", 1700),
        (logging, "Logger.warning", 1550),
        ("/app/views.py", "view", 5),
    ];
    let advice = diagnosis(&stall(Cause::Sleep, &entries), program).advice;
    let advice = advice.expect("advice");
    let cure = "await offloop.to_thread(log.warning, 'x')";
    assert_eq!(advice.cure.as_deref(), Some(cure));
    assert_eq!(advice.instead, [""; 0]);
}

#[test]
fn without_source_text_no_function_that_may_be_a_coroutine_is_moved() {
    for cause in [Cause::Sleep, Cause::Python, Cause::Unknown] {
        let stall = stall(cause, &[("<string>", "main", 3)]);
        let diagnosis = diagnosis(&stall, "");
        let advice = diagnosis.advice.expect("advice");
        assert!(advice.because.starts_with(APART), "{}", advice.because);
        assert!(advice.cure.expect("a cure").ends_with("(function, ...)"));
    }
}

#[test]
fn the_word_yield_in_a_docstring_makes_no_generator() {
    let program = "def helper(x):\n    '''It may yield the wrong thing.'''\n    time.sleep(1)\n\
                   async def view():\n    value = helper(3)\n";
    let advice = advice_beside(program, &[("helper", 3), ("view", 5)]);
    let cure = "value = await offloop.to_thread(helper, 3)";
    assert_eq!(advice.cure.as_deref(), Some(cure));
}
