//! Calls in loops: short ones, which are not moved one by one, and long ones.

use super::*;

const VIEWS: &str = "/app/views.py";
const UUID: (&str, &str, i32) = ("/lib/python3.13/uuid.py", "uuid4", 720);

/// The cure and its reason, where so many of the innermost entries did not stay.
fn advised(program: &str, entries: &[(&str, &str, i32)], unsettled: usize) -> (String, String) {
    let mut stall = stall(Cause::Python, entries);
    stall.stack.unsettled = unsettled;
    let advice = diagnosis(&stall, program).advice.expect("advice");
    (advice.cure.expect("a cure"), advice.because)
}

fn assert_whole((cure, because): (String, String)) {
    assert_eq!(cure, "await offloop.to_process(function, ...)");
    assert!(
        because.starts_with("move all of these short calls at once"),
        "{because}"
    );
}

#[test]
fn a_call_that_came_back_while_it_was_read_is_not_moved_by_itself() {
    let program = "\
async def view(request):
    for row in rows:
        total += tiny(row)

def tiny(row):
    return row + 1
";
    let entries = [(VIEWS, "tiny", 6), (VIEWS, "view", 3)];
    assert_whole(advised(program, &entries, 2));
    let (cure, _) = advised(program, &entries, 1);
    assert_eq!(cure, "total += await offloop.to_process(tiny, row)");
}

#[test]
fn a_call_in_a_loop_of_many_rounds_is_not_moved_by_itself() {
    let view = |line: &str| format!("async def view(request):\n    {line}\n");
    let entries = [UUID, (VIEWS, "view", 2)];
    assert_whole(advised(
        &view("keys = [uuid.uuid4() for _ in range(100_000)]"),
        &entries,
        0,
    ));
    assert_whole(advised(
        &view("for n in range(0, 1_000): use(uuid.uuid4())"),
        &entries,
        0,
    ));
    let entries = [UUID, (VIEWS, "view", 4)];
    let loops = "for n in range(1_000_000):\n        if n:\n            key = uuid.uuid4()";
    assert_whole(advised(&view(loops), &entries, 0));
    let few = loops.replace("1_000_000", "3");
    let (cure, _) = advised(&view(&few), &entries, 0);
    assert_eq!(cure, "key = await offloop.to_process(uuid.uuid4)");
}

#[test]
fn a_loop_in_the_arguments_of_a_call_is_a_part_of_it() {
    let program = "async def view():\n    key = make([n for n in range(1_000_000)])\n";
    let entries = [("/app/keys.py", "make", 7), (VIEWS, "view", 2)];
    let (cure, because) = advised(program, &entries, 1);
    assert!(!because.contains("short calls"), "{cure}: {because}");
}

#[test]
fn a_loop_beside_a_call_is_none_around_it() {
    let program = "\
async def view(request):
    for n in range(1_000_000):
        pass
    key = uuid.uuid4()
";
    let (cure, _) = advised(program, &[UUID, (VIEWS, "view", 4)], 0);
    assert_eq!(cure, "key = await offloop.to_process(uuid.uuid4)");
}
