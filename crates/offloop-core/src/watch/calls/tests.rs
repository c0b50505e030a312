//! Calls of single lines, and what is known of their arguments.

use super::*;

fn shown(text: &str) -> Vec<(String, &str)> {
    calls(text)
        .into_iter()
        .map(|call| (call.path, &text[call.range]))
        .collect()
}

fn pairs<'text>(found: &'text [(String, &'text str)]) -> Vec<(&'text str, &'text str)> {
    found.iter().map(|(path, all)| (&**path, *all)).collect()
}

#[test]
fn calls_are_found_with_their_receivers() {
    for (text, expected) in [
        ("    small = resize(img)", vec![("resize", "resize(img)")]),
        (
            "x = time.sleep(1) + 1",
            vec![("time.sleep", "time.sleep(1)")],
        ),
        (
            "json.loads(open(p).read())",
            vec![
                ("json.loads", "json.loads(open(p).read())"),
                ("open().read", "open(p).read()"),
                ("open", "open(p)"),
            ],
        ),
        (
            "a[0].b(1)(2).c.d()",
            vec![
                ("a[].b()().c.d", "a[0].b(1)(2).c.d()"),
                ("a[].b()", "a[0].b(1)(2)"),
                ("a[].b", "a[0].b(1)"),
            ],
        ),
        ("', '.join(x)", vec![(".join", "', '.join(x)")]),
        ("if (a and b): return (c)", vec![]),
        ("def f(x): pass", vec![]),
        ("class A(B): pass", vec![]),
        ("return not (x)", vec![]),
        ("f(", vec![("f", "f(")]),
        ("# f(x)", vec![]),
        ("'f(x)'", vec![]),
        (".all()", vec![(".all", ".all()")]),
    ] {
        assert_eq!(pairs(&shown(text)), expected, "{text}");
    }
}

#[test]
fn arguments_are_one_line_without_comments() {
    let text = "get(\n    url,  # where\n    headers={\n        'a': 1,\n    },\n)";
    let arguments = calls(text).remove(0).arguments.expect("closed");
    assert_eq!(arguments.all, "url, headers={'a': 1}");
    assert_eq!(arguments.first.as_deref(), Some("url"));
    assert_eq!(arguments.rest, "headers={'a': 1}");
    let of = |text: &str| calls(text).remove(0).arguments.expect("closed");
    assert_eq!(of("f(a=1, b=2)").first, None);
    assert_eq!(of("f(a=1, b=2)").rest, "a=1, b=2");
    assert_eq!(of("f(a == 1)").first.as_deref(), Some("a == 1"));
    assert_eq!(of("f(*a)").first, None);
    assert_eq!(of("f(g(1, 2), 3)").first.as_deref(), Some("g(1, 2)"));
    assert_eq!(of("f(x for x in y)").all, "(x for x in y)");
    assert_eq!(of("f([x for x in y], 2)").rest, "2");
    assert_eq!(of("f()"), Arguments::default());
    assert_eq!(of("f(*a, b, c=d, **e)").names, ["c"]);
    assert_eq!(of("f(*a, b, c=d, **e)").unnamed, 3);
    assert_eq!(calls("f(a,").remove(0).arguments, None);
}

#[test]
fn awaited_calls_and_decorators_are_told() {
    assert!(calls("await f(x)").remove(0).is_awaited);
    assert!(!calls("f(await x)").remove(0).is_awaited);
    assert!(!calls("@retry(3)").remove(0).is_direct);
    let receiver = |text: &str| calls(text).remove(0).receiver;
    assert_eq!(receiver("open(p).read()").as_deref(), Some("open(p)"));
    assert_eq!(receiver("f(x)"), None);
    let given = |text: &str| calls(text).remove(0).given;
    assert_eq!(given("open(p, 'rb').read()").as_deref(), Some("p"));
    assert_eq!(given("file.read()"), None);
    assert_eq!(calls("open(p, 'rb').read()").remove(0).beside, "'rb'");
}

#[test]
fn arguments_that_compute_are_told_from_those_that_are_there() {
    let compute = |text: &str| calls(text).remove(0).arguments.expect("closed").compute;
    for text in [
        "f()",
        "f(a, b.c, d=-1)",
        "f(*a, **b)",
        "f(text.encode(), len(b))",
        "f('a*b')",
        "f(x[0], (1, 2), {})",
        "f(not a, key=lambda x: x)",
    ] {
        assert!(!compute(text), "{text}");
    }
    for text in [
        "f(g(x))",
        "f(b'x' * 6)",
        "f(x for x in y)",
        "f([x for x in y])",
        "f(make())",
        "f(a.b(c))",
        "f(a + b)",
    ] {
        assert!(compute(text), "{text}");
    }
}

#[test]
fn a_place_in_a_lambda_is_known() {
    for (text, expected) in [
        ("f(lambda: g())", true),
        ("f(lambda x, y: h(g()), 1)", true),
        ("f(lambda: 1, g())", false),
        ("f(lambda: 1) + g()", false),
        ("f(x, g())", false),
        ("f(lambda: lambda: 1, g())", false),
    ] {
        assert_eq!(
            is_in_lambda(text, text.find("g(").expect("g")),
            expected,
            "{text}"
        );
    }
}

#[test]
fn any_text_has_calls_in_bounds() {
    let pieces = [
        "f", "(", ")", ".", "[", "]", "await ", "'", "\"", ",", "\n", "x", " ", "{", "}", "=",
        "def ", "#", "漢",
    ];
    for seed in 1..=3_000 {
        let mut random = crate::random::random_below(seed);
        let count = random(30);
        let text: String = (0..count)
            .map(|_| pieces[usize::try_from(random(pieces.len() as u64)).expect("small")])
            .collect();
        for call in calls(&text) {
            assert!(text.get(call.range).is_some(), "seed {seed}: {text:?}");
        }
    }
}
