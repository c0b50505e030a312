//! What is said, moment by moment, and any history with few culprits and many.

use super::*;
use crate::random::random_below;
use crate::watch::samples::{FOUND, OVER, at_line, sleeping, user_places};
use crate::watch::{Catalogue, Cause, Quality, Stack};

const STYLE: Style = Style {
    colours: false,
    columns: 90,
    ascii: false,
};

const fn goes_on(doubled: u32) -> Moment {
    Moment::GoesOn { doubled }
}

fn tell(teller: &mut Teller, stall: &Stall) -> Option<String> {
    let mut sources = |_: &str| None;
    let diagnosis = Diagnosis::of(stall, Catalogue::shipped(), &user_places(), &mut sources);
    teller.tell(stall, &diagnosis)
}

fn teller() -> Teller {
    Teller::new(STYLE, user_places())
}

/// What is said of a stall at line 41.
fn said(teller: &mut Teller, number: u64, moment: Moment, ms: u64) -> String {
    tell(teller, &sleeping(number, moment, ms)).unwrap_or_default()
}

const BLOCK: &str = "offloop: event loop has been blocked for 50 ms and still is\n";

#[test]
fn a_new_culprit_gets_a_block_and_then_lines() {
    let mut teller = teller();
    let block = said(&mut teller, 1, FOUND, 50);
    assert!(block.starts_with(BLOCK), "{block}");
    assert_eq!(
        [
            said(&mut teller, 1, goes_on(1), 100),
            said(&mut teller, 1, goes_on(2), 200),
            said(&mut teller, 1, OVER, 312),
        ],
        [
            "offloop: still blocked: 100 ms at views.py:41 in thumbnail",
            "offloop: still blocked: 200 ms at views.py:41 in thumbnail",
            "offloop: it was 312 ms at views.py:41 in thumbnail",
        ]
    );
}

#[test]
fn a_thread_that_is_stopped_is_told_of_once() {
    let mut teller = teller();
    let mut said = |number, moment, ms| {
        let stall = Stall {
            cause: Cause::Stopped,
            ..sleeping(number, moment, ms)
        };
        tell(&mut teller, &stall)
    };
    assert!(said(1, FOUND, 50).is_some_and(|block| block.contains("no code is to blame")));
    for (number, moment, ms) in [
        (1, goes_on(1), 100),
        (1, OVER, 120),
        (2, FOUND, 50),
        (2, OVER, 60),
    ] {
        assert_eq!(said(number, moment, ms), None);
    }
}

#[test]
fn a_short_repeat_is_one_line_at_its_end() {
    let mut teller = teller();
    said(&mut teller, 1, FOUND, 50);
    said(&mut teller, 1, OVER, 300);
    assert_eq!(
        [
            said(&mut teller, 2, FOUND, 50),
            said(&mut teller, 2, goes_on(1), 100),
            said(&mut teller, 2, OVER, 120),
            said(&mut teller, 3, Moment::Over { was_found: false }, 80),
        ],
        [
            "",
            "",
            "offloop: blocked again for 120 ms at views.py:41 in thumbnail (2 times, 420 ms)",
            "offloop: blocked again for 80 ms at views.py:41 in thumbnail (3 times, 500 ms)",
        ]
    );
}

#[test]
fn a_repeat_that_does_not_come_back_is_told_of_while_it_lasts() {
    let mut teller = teller();
    said(&mut teller, 1, FOUND, 50);
    said(&mut teller, 1, OVER, 60);
    assert_eq!(said(&mut teller, 2, FOUND, 50), "");
    assert_eq!(said(&mut teller, 2, goes_on(1), 100), "");
    assert_eq!(
        said(&mut teller, 2, goes_on(2), 200),
        "offloop: still blocked: 200 ms at views.py:41 in thumbnail"
    );
    assert_eq!(
        said(&mut teller, 2, OVER, 1_204),
        "offloop: it was 1.204 s at views.py:41 in thumbnail"
    );
}

#[test]
fn what_was_over_before_it_was_found_gets_its_block_at_the_end() {
    let block = said(&mut teller(), 1, Moment::Over { was_found: false }, 80);
    assert!(block.starts_with("offloop: event loop blocked for 80 ms\n"));
}

#[test]
fn the_end_names_the_place_though_it_comes_without_a_stack() {
    let mut teller = teller();
    said(&mut teller, 1, FOUND, 50);
    let mut over = sleeping(1, OVER, 120);
    over.stack.entries.clear();
    over.cause = Cause::Unknown;
    assert_eq!(
        tell(&mut teller, &over).as_deref(),
        Some("offloop: it was 120 ms at views.py:41 in thumbnail")
    );
}

#[test]
fn a_culprit_that_is_known_late_gets_its_block_then() {
    let mut teller = teller();
    let mut found = sleeping(1, FOUND, 50);
    found.stack = Stack {
        entries: Vec::new(),
        quality: Quality::Missing("the thread was moving".into()),
        ..found.stack
    };
    let first = tell(&mut teller, &found).expect("a block");
    assert!(first.contains("there is no stack: the thread was moving"));
    let second = said(&mut teller, 1, goes_on(1), 100);
    assert!(second.contains("views.py:41 in thumbnail\n"), "{second}");
    assert!(said(&mut teller, 1, OVER, 120).starts_with("offloop: it was 120 ms at views"));
}

#[test]
fn stalls_that_were_not_told_are_counted_in_the_next_text() {
    let mut teller = teller();
    said(&mut teller, 1, FOUND, 50);
    said(&mut teller, 1, OVER, 60);
    let mut silent = sleeping(2, FOUND, 50);
    silent.suppressed = 2;
    assert_eq!(tell(&mut teller, &silent), None);
    let mut over = sleeping(2, OVER, 70);
    over.suppressed = 1;
    assert_eq!(
        tell(&mut teller, &over).as_deref(),
        Some(
            "offloop: 3 stalls before this one were not told: there were too many\n\
             offloop: blocked again for 70 ms at views.py:41 in thumbnail (2 times, 130 ms)"
        )
    );
    let mut found = sleeping(3, FOUND, 50);
    found.stack = at_line(42);
    found.suppressed = 1;
    let block = tell(&mut teller, &found).expect("a block");
    assert!(block.contains("1 stall before this one was not told: there were too many"));
}

#[test]
fn what_is_not_at_a_line_is_said_by_what_is_known() {
    let mut teller = teller();
    let mut lines = Vec::new();
    for (cause, callback) in [
        (Cause::Starved, Some("tick")),
        (Cause::Unknown, Some("tick")),
        (Cause::Callbacks, None),
    ] {
        for number in 1..=2 {
            let mut stall = sleeping(number, Moment::Over { was_found: false }, 60);
            stall.cause = cause.clone();
            stall.callback = callback.map(Into::into);
            stall.stack.entries.clear();
            lines.push(tell(&mut teller, &stall).expect("words"));
        }
    }
    assert_eq!(
        [&*lines[1], &*lines[3], &*lines[5]],
        [
            "offloop: blocked again for 60 ms: the system did not let the process run \
             (2 times, 120 ms)",
            "offloop: blocked again for 60 ms in tick (2 times, 120 ms)",
            "offloop: blocked again for 60 ms (2 times, 120 ms)",
        ]
    );
}

#[test]
fn a_line_is_cut_in_its_path_and_function_before_its_numbers() {
    let mut teller = teller();
    let mut stall = sleeping(1, Moment::Over { was_found: false }, 60);
    stall.stack = crate::watch::samples::stack(&[(
        "/app/a/very/deep/folder/with/many/parts/in/its/name/views.py",
        "Application.endpoint.<locals>.handler_of_thumbnails_and_more",
        41,
    )]);
    tell(&mut teller, &stall);
    stall.number = 2;
    assert_eq!(
        tell(&mut teller, &stall).as_deref(),
        Some(
            "offloop: blocked again for 60 ms at …ame/views.py:41 in Application.end… \
             (2 times, 120 ms)"
        )
    );
}

#[test]
fn a_narrow_line_has_the_place_rather_than_the_count() {
    let mut teller = teller();
    said(&mut teller, 1, Moment::Over { was_found: false }, 60);
    teller.set_style(Style {
        columns: 62,
        ..STYLE
    });
    assert_eq!(
        said(&mut teller, 2, Moment::Over { was_found: false }, 60),
        "offloop: blocked again for 60 ms at views.py:41 in thumbnail"
    );
}

#[test]
fn no_culprit_gets_two_blocks_and_memory_is_bounded() {
    for seed in 1..=20 {
        let mut random = random_below(seed);
        let mut teller = teller();
        teller.keys_max = 16;
        let mut blocks: HashMap<u64, u32> = HashMap::new();
        let mut lines_of_culprits: HashMap<u64, u64> = HashMap::new();
        for number in 1..=2_000 {
            let line = random(40);
            let mut stall = sleeping(number, FOUND, 50);
            stall.stack = at_line(i32::try_from(line).expect("small"));
            let mut texts = vec![tell(&mut teller, &stall)];
            if random(8) > 0 {
                stall.moment = OVER;
                texts.push(tell(&mut teller, &stall));
                assert!(texts[1].is_some(), "the end of each stall is told");
            }
            for text in texts.into_iter().flatten() {
                if text.lines().count() > 2 {
                    *blocks.entry(line).or_default() += 1;
                } else {
                    *lines_of_culprits.entry(line).or_default() += 1;
                }
            }
        }
        assert!(blocks.values().all(|&count| count == 1), "seed {seed}");
        assert_eq!(blocks.len(), 16, "seed {seed}");
        assert_eq!(lines_of_culprits.len(), 40, "seed {seed}");
        assert!(teller.open.len() <= OPEN_MAX && teller.told.len() == 16);
    }
}

#[test]
fn a_comment_silences_a_stall_if_it_has_a_reason() {
    let mut teller = teller();
    let mut tell_with = |number, comment: &str| {
        let stall = sleeping(number, FOUND, 50);
        let program = format!("{}    sleep(1)  {comment}\n", "\n".repeat(40));
        let mut sources = crate::watch::samples::files(&[("/app/views.py", &program)]);
        let places = user_places();
        let diagnosis = Diagnosis::of(&stall, Catalogue::shipped(), &places, &mut sources);
        teller.tell(&stall, &diagnosis)
    };
    assert_eq!(tell_with(1, "# offloop: allow at the start only"), None);
    let first = tell_with(2, "# offloop: allow").expect("an error and a block");
    let error = "offloop: `# offloop: allow` needs a reason at views.py:41 in thumbnail";
    assert_eq!(first.lines().next(), Some(error));
    assert!(first.lines().count() > 3, "{first}");
    assert_eq!(tell_with(3, "# offloop: allow"), None);
}

/// A diagnosis for line 41, which a comment allows.
fn allowed() -> Diagnosis {
    let stack = at_line(41);
    Diagnosis {
        culprit: crate::watch::Culprit::of(&stack, &user_places()),
        allowance: Some(crate::watch::Allowance {
            entry: stack.entries[0].clone(),
            reason: Some("at the start only".into()),
        }),
        ..Diagnosis::default()
    }
}

#[test]
fn an_allowed_stall_is_silent_to_its_end_unless_it_goes_on_elsewhere() {
    let mut teller = teller();
    assert_eq!(teller.tell(&sleeping(1, FOUND, 50), &allowed()), None);
    assert_eq!(
        teller.tell(&sleeping(1, OVER, 90), &Diagnosis::default()),
        None
    );
    assert_eq!(teller.tell(&sleeping(2, FOUND, 50), &allowed()), None);
    let mut further = sleeping(2, goes_on(1), 100);
    further.stack = at_line(77);
    let block = tell(&mut teller, &further).expect("a block");
    assert!(block.contains("views.py:77 in thumbnail\n"), "{block}");
}

#[test]
fn a_stall_that_was_told_is_told_to_its_end() {
    let mut teller = teller();
    said(&mut teller, 1, FOUND, 50);
    let allowed = allowed();
    let over = teller.tell(&sleeping(1, OVER, 80), &allowed);
    assert_eq!(
        over.as_deref(),
        Some("offloop: it was 80 ms at views.py:41 in thumbnail")
    );
}
