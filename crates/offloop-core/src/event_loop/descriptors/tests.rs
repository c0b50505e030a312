//! The table of descriptors before a kernel that is simulated: numbers are opened and closed, and
//! what a number stands for may be open under another name.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use super::{Change, Descriptors, Target};
use crate::event_loop::{Interest, Kernel, Side, Watcher};
use crate::random::random_below;

/// The watchers of these tests.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Waiting {
    /// A callback of the program's, which may have given a file object.
    Callback(u32),
    /// As a stream.
    Always(u32),
    /// As a call on a socket.
    Once(u32),
}

impl Watcher for Waiting {
    fn is_once(&self) -> bool {
        matches!(self, Self::Once(_))
    }

    fn may_have_file(&self) -> bool {
        matches!(self, Self::Callback(_))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Impossible,
    Unknown,
    Closed,
}

/// What the kernel was told of one file, and whether it tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    fd: i32,
    interest: Interest,
    armed: bool,
}

/// The kernel: which file each number stands for, and what it was told of files.
#[derive(Default)]
struct Simulated {
    open: RefCell<HashMap<i32, u32>>,
    told: RefCell<HashMap<u32, Told>>,
    calls: Cell<usize>,
}

impl Simulated {
    fn open(&self, fd: i32, file: u32) {
        assert_eq!(self.open.borrow_mut().insert(fd, file), None);
    }

    /// Closes a number; the kernel forgets the file unless another name keeps it.
    fn close(&self, fd: i32, has_another_name: bool) {
        let file = self.open.borrow_mut().remove(&fd).expect("open");
        if !has_another_name {
            self.told.borrow_mut().remove(&file);
        }
    }

    fn file(&self, fd: i32) -> Result<u32, Refusal> {
        self.calls.set(self.calls.get() + 1);
        self.open.borrow().get(&fd).copied().ok_or(Refusal::Closed)
    }

    /// What is told of the file that a number stands for.
    fn armed(&self, fd: i32) -> Interest {
        let open = self.open.borrow();
        let told = self.told.borrow();
        let told = open.get(&fd).and_then(|file| told.get(file));
        told.filter(|told| told.armed && told.fd == fd)
            .map_or(Interest::NONE, |told| told.interest)
    }

    /// The kernel tells that a number is ready, if it was asked to; what was asked for once is not
    /// told again.
    fn tell(&self, fd: i32) -> Option<Interest> {
        let file = *self.open.borrow().get(&fd)?;
        let mut all = self.told.borrow_mut();
        let told = all.get_mut(&file).filter(|told| told.armed)?;
        told.armed = !told.interest.once;
        Some(told.interest)
    }
}

impl Kernel for Simulated {
    type Error = Refusal;

    fn impossible() -> Refusal {
        Refusal::Impossible
    }

    fn is_unknown(error: &Refusal) -> bool {
        *error == Refusal::Unknown
    }

    fn is_closed(error: &Refusal) -> bool {
        *error == Refusal::Closed
    }

    fn add(&self, fd: i32, interest: Interest) -> Result<(), Refusal> {
        let told = Told {
            fd,
            interest,
            armed: true,
        };
        self.told.borrow_mut().insert(self.file(fd)?, told);
        Ok(())
    }

    fn modify(&self, fd: i32, interest: Interest) -> Result<(), Refusal> {
        let file = self.file(fd)?;
        let mut all = self.told.borrow_mut();
        let told = all.get_mut(&file).ok_or(Refusal::Unknown)?;
        (told.interest, told.armed) = (interest, true);
        Ok(())
    }

    fn forget(&self, fd: i32) -> Result<(), Refusal> {
        if let Ok(file) = self.file(fd) {
            self.told.borrow_mut().remove(&file);
        }
        Ok(())
    }

    fn renew(&self) -> Result<(), Refusal> {
        self.told.borrow_mut().clear();
        Ok(())
    }
}

/// A loop's table and its kernel. Files are named by letters.
#[derive(Default)]
struct Fixture {
    kernel: Simulated,
    table: Descriptors<Waiting, char>,
}

impl Fixture {
    fn with_open(fd: i32) -> Self {
        let fixture = Self::default();
        fixture.kernel.open(fd, 1);
        fixture
    }

    fn change(
        &mut self,
        fd: i32,
        side: Side,
        watcher: Option<Waiting>,
        (file, target): (Option<char>, Target),
    ) -> Result<(Option<Waiting>, [Option<Waiting>; 2]), Refusal> {
        let change = Change {
            side,
            watcher,
            file,
            target,
        };
        match self.table.exchange(&self.kernel, fd, change) {
            Ok(gone) => Ok((gone.watcher, gone.others)),
            Err((error, _)) => Err(error),
        }
    }

    /// Watches one side by the number; returns the watcher that was there before.
    fn watch(&mut self, fd: i32, side: Side, watcher: Waiting) -> Result<Option<Waiting>, Refusal> {
        let named = (None, Target::Same);
        Ok(self.change(fd, side, Some(watcher), named)?.0)
    }

    fn unwatch(&mut self, fd: i32, side: Side) -> Option<Waiting> {
        let named = (None, Target::Same);
        self.change(fd, side, None, named).expect("no error").0
    }

    /// The watchers that are told that a number is ready. A watcher that waits once is taken out.
    fn ready(&mut self, fd: i32) -> Option<Vec<Waiting>> {
        let ready = self.kernel.tell(fd)?;
        let mut told = Vec::new();
        let known = self.table.ready(&self.kernel, fd, ready, |_, place| {
            if place.as_ref().is_some_and(Watcher::is_once) {
                told.extend(place.take());
            } else {
                told.extend(place.clone());
            }
        });
        known.then_some(told)
    }
}

fn reads(once: bool) -> Interest {
    Interest {
        read: true,
        write: false,
        once,
    }
}

#[test]
fn the_kernel_is_told_what_is_watched_and_forgets_it_after() {
    let mut fixture = Fixture::with_open(5);
    assert_eq!(fixture.watch(5, Side::Reader, Waiting::Always(1)), Ok(None));
    assert_eq!(fixture.kernel.armed(5), reads(false));
    assert_eq!(fixture.table.len(), 1);
    assert_eq!(fixture.unwatch(5, Side::Reader), Some(Waiting::Always(1)));
    assert_eq!(fixture.kernel.armed(5), Interest::NONE);
    assert!(fixture.table.is_empty());
}

#[test]
fn both_sides_of_a_descriptor_are_one_interest() {
    let mut fixture = Fixture::with_open(5);
    assert_eq!(fixture.watch(5, Side::Reader, Waiting::Always(1)), Ok(None));
    assert_eq!(fixture.watch(5, Side::Writer, Waiting::Always(2)), Ok(None));
    assert!(fixture.kernel.armed(5).read && fixture.kernel.armed(5).write);
    assert_eq!(fixture.table.len(), 1);
    assert_eq!(
        fixture.ready(5),
        Some(vec![Waiting::Always(1), Waiting::Always(2)])
    );
    assert_eq!(fixture.unwatch(5, Side::Writer), Some(Waiting::Always(2)));
    assert_eq!(fixture.kernel.armed(5), reads(false));
}

#[test]
fn a_watcher_that_is_told_once_costs_one_call_for_each_wait() {
    let mut fixture = Fixture::with_open(5);
    for number in 0..10 {
        assert_eq!(
            fixture.watch(5, Side::Reader, Waiting::Once(number)),
            Ok(None)
        );
        assert_eq!(fixture.table.len(), 1);
        assert_eq!(fixture.ready(5), Some(vec![Waiting::Once(number)]));
        assert!(fixture.table.is_empty());
        assert_eq!(fixture.ready(5), None);
    }
    assert_eq!(fixture.kernel.calls.get(), 10);
}

#[test]
fn the_kernel_is_told_of_changes_only() {
    let mut fixture = Fixture::with_open(5);
    assert_eq!(fixture.unwatch(5, Side::Reader), None);
    assert_eq!(fixture.kernel.calls.get(), 0);
    assert_eq!(fixture.watch(5, Side::Reader, Waiting::Once(1)), Ok(None));
    assert_eq!(fixture.unwatch(5, Side::Writer), None);
    assert_eq!(fixture.kernel.calls.get(), 1);
    assert_eq!(fixture.ready(5), Some(vec![Waiting::Once(1)]));
    // It is known, and asleep.
    assert_eq!(fixture.unwatch(5, Side::Reader), None);
    assert_eq!(fixture.kernel.calls.get(), 1);
}

#[test]
fn a_watcher_beside_one_that_is_told_once_is_told_on() {
    let mut fixture = Fixture::with_open(5);
    assert_eq!(fixture.watch(5, Side::Reader, Waiting::Always(1)), Ok(None));
    assert_eq!(fixture.watch(5, Side::Writer, Waiting::Once(2)), Ok(None));
    assert_eq!(
        fixture.ready(5),
        Some(vec![Waiting::Always(1), Waiting::Once(2)])
    );
    assert_eq!(fixture.ready(5), Some(vec![Waiting::Always(1)]));
    assert_eq!(fixture.kernel.armed(5), reads(false));
}

#[test]
fn a_number_that_is_no_descriptor_is_refused_and_leaves_nothing() {
    let mut fixture = Fixture::default();
    for (fd, refusal) in [(-1, Refusal::Impossible), (1_000_000, Refusal::Closed)] {
        let watched = fixture.watch(fd, Side::Reader, Waiting::Always(1));
        assert_eq!(watched, Err(refusal));
        assert_eq!(fixture.table.watchers().count(), 0);
    }
    assert!(fixture.table.table.is_empty());
    assert_eq!(fixture.unwatch(3, Side::Reader), None);
}

#[test]
fn a_descriptor_that_was_closed_is_forgotten_without_an_error() {
    let mut fixture = Fixture::with_open(5);
    assert_eq!(fixture.watch(5, Side::Reader, Waiting::Always(1)), Ok(None));
    fixture.kernel.close(5, false);
    assert_eq!(fixture.unwatch(5, Side::Reader), Some(Waiting::Always(1)));
}

#[test]
fn a_number_that_means_something_else_by_now_is_watched_anew() {
    let mut fixture = Fixture::with_open(5);
    assert_eq!(
        fixture.watch(5, Side::Reader, Waiting::Callback(1)),
        Ok(None)
    );
    assert_eq!(
        fixture.watch(5, Side::Writer, Waiting::Callback(2)),
        Ok(None)
    );
    fixture.kernel.close(5, false);
    fixture.kernel.open(5, 2);
    // The watcher at the other side waits for the old descriptor, and is taken out.
    let named = (None, Target::Same);
    let gone = fixture.change(5, Side::Reader, Some(Waiting::Callback(3)), named);
    let others = [Some(Waiting::Callback(2)), None];
    assert_eq!(gone, Ok((Some(Waiting::Callback(1)), others)));
    assert_eq!(fixture.kernel.armed(5), reads(false));
}

#[test]
fn a_closed_file_is_found_by_what_it_is() {
    let mut fixture = Fixture::with_open(5);
    let named = (Some('a'), Target::Same);
    let watched = fixture.change(5, Side::Reader, Some(Waiting::Callback(1)), named);
    assert_eq!(watched, Ok((None, [None, None])));
    fixture.kernel.close(5, false);
    assert_eq!(fixture.table.find_file(|file| *file == 'a'), Some(5));
    assert_eq!(fixture.unwatch(5, Side::Reader), Some(Waiting::Callback(1)));
    assert_eq!(fixture.table.find_file(|file| *file == 'a'), None);
    assert_eq!(fixture.table.files().count(), 0);
}

#[test]
fn another_socket_with_the_number_of_a_closed_one_puts_that_out_of_use() {
    let mut fixture = Fixture::with_open(5);
    for side in [Side::Reader, Side::Writer] {
        let named = (Some('a'), Target::Same);
        let watched = fixture.change(5, side, Some(Waiting::Callback(1)), named);
        assert_eq!(watched, Ok((None, [None, None])));
    }
    fixture.kernel.close(5, false);
    fixture.kernel.open(5, 2);
    let named = (Some('b'), Target::New);
    let gone = fixture.change(5, Side::Reader, Some(Waiting::Callback(2)), named);
    let both = [Some(Waiting::Callback(1)), Some(Waiting::Callback(1))];
    assert_eq!(gone, Ok((None, both)));
    assert_eq!(fixture.table.file_at(5), Some(&'b'));
    let displaced = fixture.table.take_displaced(|_, file| *file == 'a');
    assert_eq!(displaced, Some('a'));
    assert_eq!(fixture.kernel.armed(5), reads(false));
}

#[test]
fn a_file_that_is_open_under_another_name_has_no_watcher_until_all_is_told_anew() {
    let mut fixture = Fixture::with_open(5);
    fixture.kernel.open(6, 3);
    assert_eq!(fixture.watch(5, Side::Reader, Waiting::Always(1)), Ok(None));
    assert_eq!(fixture.watch(6, Side::Reader, Waiting::Once(2)), Ok(None));
    fixture.kernel.close(5, true);
    assert_eq!(fixture.unwatch(5, Side::Reader), Some(Waiting::Always(1)));
    // The kernel tells of it still, by its old number.
    let known = fixture
        .table
        .ready(&fixture.kernel, 5, reads(false), |_, _| unreachable!());
    assert!(!known);
    assert_eq!(fixture.table.renew(&fixture.kernel), Ok(()));
    assert_eq!(fixture.kernel.told.borrow().len(), 1);
    assert_eq!(fixture.kernel.armed(6), reads(true));
}

#[test]
fn a_wait_is_found_also_when_its_socket_has_no_number_any_more() {
    let mut fixture = Fixture::with_open(5);
    assert_eq!(fixture.watch(5, Side::Writer, Waiting::Once(7)), Ok(None));
    let is_it = |watcher: &Waiting| *watcher == Waiting::Once(7);
    for fd in [5, -1] {
        let found = fixture.table.find(fd, is_it);
        assert_eq!(found, Some((&Waiting::Once(7), Side::Writer)));
    }
    assert_eq!(fixture.table.find(4, is_it), None);
}

/// Descriptors that are not closed without telling the loop.
#[test]
fn the_kernel_always_knows_what_is_watched() {
    for seed in 1..=200 {
        let mut random = random_below(seed);
        let mut fixture = Fixture::default();
        let mut model: HashMap<(i32, bool), Waiting> = HashMap::new();
        for fd in 0..6 {
            fixture.kernel.open(fd, 100 + fd.unsigned_abs());
        }
        for number in 0..400 {
            let fd = random(6) as i32;
            let reads = random(2) == 0;
            let side = if reads { Side::Reader } else { Side::Writer };
            match random(4) {
                0 => {
                    assert_eq!(fixture.unwatch(fd, side), model.remove(&(fd, reads)));
                }
                1 => {
                    let told = fixture.ready(fd).unwrap_or_default();
                    let both = [(fd, true), (fd, false)].map(|key| model.get(&key).cloned());
                    assert_eq!(told, both.into_iter().flatten().collect::<Vec<_>>());
                    model.retain(|_, watcher| !watcher.is_once() || !told.contains(watcher));
                }
                _ => {
                    let kinds = [Waiting::Callback, Waiting::Always, Waiting::Once];
                    let watcher = kinds[random(3) as usize](number);
                    let before = model.insert((fd, reads), watcher.clone());
                    assert_eq!(fixture.watch(fd, side, watcher), Ok(before));
                }
            }
            for fd in 0..6 {
                let sides = [(fd, true), (fd, false)].map(|key| model.get(&key));
                let is_once = |watcher: &&Waiting| watcher.is_once();
                let wanted = Interest {
                    read: sides[0].is_some(),
                    write: sides[1].is_some(),
                    once: sides.iter().flatten().any(is_once),
                };
                assert_eq!(fixture.kernel.armed(fd), wanted, "seed {seed}");
                assert_eq!(fixture.table.watchers_at(fd), sides, "seed {seed}");
            }
            let watched = (0..6).filter(|fd| {
                let mut keys = model.keys();
                keys.any(|(other, _)| other == fd)
            });
            assert_eq!(fixture.table.len(), watched.count(), "seed {seed}");
        }
    }
}
