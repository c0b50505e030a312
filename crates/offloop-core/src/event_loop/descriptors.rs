//! Descriptors, the watchers that wait for them, and what the kernel is told of that.
//!
//! The kernel is told of a change at once, and only of changes. To watch a number that is no
//! descriptor any more gives the kernel's error; to forget one gives none.
//!
//! A program names a descriptor by its number or by a file object. The object that it gave is kept,
//! as in Python's selectors: a socket that was closed meanwhile has no number any more, and is
//! found by what it is. Once another socket with its number is watched, the closed one is out of
//! use, with its watchers: they would be called for the new socket.
//!
//! Shape:      a table by number. Watchers (`W`) and what names a descriptor (`F`) are the
//!             driver's.
//! Invariants: 1. `files` has an entry only while a watcher waits that may have named a file.
//!             2. What leaves the table is returned: to drop it may run any code, which is the
//!                caller's affair.
//!             3. `count` is the number of descriptors that have a watcher.
//! Source:     selectors.py (`_fileobj_lookup`), asyncio/selector_events.py, epoll(7).

use std::collections::HashMap;

use super::interest::{Interest, Kernel, Side, Watcher};

/// The watchers of one descriptor.
struct Watch<W> {
    reader: Option<W>,
    writer: Option<W>,
    /// The kernel knows the descriptor, but tells nothing until it is asked again: a watcher that
    /// is told once was told.
    dormant: bool,
}

impl<W> Default for Watch<W> {
    fn default() -> Self {
        Self {
            reader: None,
            writer: None,
            dormant: false,
        }
    }
}

impl<W: Watcher> Watch<W> {
    fn interest(&self) -> Interest {
        let is_once = |watcher: &Option<W>| watcher.as_ref().is_some_and(W::is_once);
        Interest {
            read: self.reader.is_some(),
            write: self.writer.is_some(),
            once: is_once(&self.reader) || is_once(&self.writer),
        }
    }

    /// What the kernel has been told.
    fn known(&self) -> Interest {
        if self.dormant {
            Interest::KNOWN
        } else {
            self.interest()
        }
    }

    /// The kernel has been told of a change. If it refused, the descriptor loses its watchers.
    fn settle<F, E>(&mut self, told: Result<(), E>, gone: &mut Gone<W, F>) -> Result<(), E> {
        if told.is_err() {
            let watch = std::mem::take(self);
            gone.others = [watch.reader, watch.writer];
        }
        self.dormant = false;
        told
    }

    fn may_have_file(&self) -> bool {
        let may = |watcher: &Option<W>| watcher.as_ref().is_some_and(W::may_have_file);
        may(&self.reader) || may(&self.writer)
    }

    fn side(&mut self, side: Side) -> &mut Option<W> {
        match side {
            Side::Reader => &mut self.reader,
            Side::Writer => &mut self.writer,
        }
    }
}

/// One side of a descriptor, and its watcher from now on.
pub struct Change<W, F> {
    /// Which side.
    pub side: Side,
    /// The new watcher, or none.
    pub watcher: Option<W>,
    /// By what the program named the descriptor.
    pub file: Option<F>,
    /// What the number stands for.
    pub target: Target,
}

impl<W, F> Change<W, F> {
    /// Takes the watcher of a side away.
    #[must_use]
    pub const fn removal(side: Side) -> Self {
        Self {
            side,
            watcher: None,
            file: None,
            target: Target::Same,
        }
    }
}

/// What stands behind a number that the table may have an entry for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// What is watched, as far as is known.
    Same,
    /// A new descriptor: the file object of the watched one was closed.
    New,
    /// Nothing, or what the program does not mean: it has named a file object that was closed.
    Closed,
}

/// What a change has put out of use.
pub struct Gone<W, F> {
    /// Of the side that was to be changed.
    pub watcher: Option<W>,
    /// Further watchers, of a descriptor that was closed.
    pub others: [Option<W>; 2],
    /// What named it.
    pub files: Vec<F>,
}

impl<W, F> Default for Gone<W, F> {
    fn default() -> Self {
        Self {
            watcher: None,
            others: [None, None],
            files: Vec::new(),
        }
    }
}

/// Why the kernel has refused a change, and what has gone with that.
pub type Refused<K, W, F> = (<K as Kernel>::Error, Gone<W, F>);

/// Which watchers wait for which descriptor.
pub struct Descriptors<W, F> {
    table: Vec<Watch<W>>,
    count: usize,
    /// What the program gave in place of a number.
    files: HashMap<i32, F>,
    /// Closed file objects whose number is watched for another file; at most one for each number.
    displaced: Vec<(i32, F)>,
}

impl<W, F> Default for Descriptors<W, F> {
    fn default() -> Self {
        Self {
            table: Vec::new(),
            count: 0,
            files: HashMap::new(),
            displaced: Vec::new(),
        }
    }
}

impl<W: Watcher, F> Descriptors<W, F> {
    /// Sets or clears one side; returns what was there before, for the caller to cancel.
    ///
    /// # Errors
    /// The kernel's, and the watchers that have gone with that: the refused watcher, or both
    /// of a descriptor that was closed before it was forgotten.
    pub fn exchange<K: Kernel>(
        &mut self,
        kernel: &K,
        fd: i32,
        change: Change<W, F>,
    ) -> Result<Gone<W, F>, Refused<K, W, F>> {
        let before = self.is_watched(fd);
        let outcome = self.exchange_uncounted(kernel, fd, change);
        self.recount(fd, before);
        outcome
    }

    fn at(&self, fd: i32) -> Option<&Watch<W>> {
        self.table.get(usize::try_from(fd).ok()?)
    }

    fn is_watched(&self, fd: i32) -> bool {
        self.at(fd).is_some_and(|watch| !watch.interest().is_none())
    }

    /// Counts a descriptor that was watched before, or was not.
    fn recount(&mut self, fd: i32, before: bool) {
        match (before, self.is_watched(fd)) {
            (false, true) => self.count += 1,
            (true, false) => self.count -= 1,
            _ => {}
        }
    }

    fn exchange_uncounted<K: Kernel>(
        &mut self,
        kernel: &K,
        fd: i32,
        change: Change<W, F>,
    ) -> Result<Gone<W, F>, Refused<K, W, F>> {
        let mut gone = Gone::default();
        let Ok(index) = usize::try_from(fd) else {
            gone.others[0] = change.watcher;
            return Err((K::impossible(), gone));
        };
        if change.target == Target::New {
            self.displace(fd, &mut gone);
        }
        let result = if change.watcher.is_none() {
            self.clear(kernel, index, change.side, &mut gone)
        } else {
            self.put(kernel, index, change, &mut gone)
        };
        let has_files = !self.files.is_empty() || !self.displaced.is_empty();
        if has_files
            && let Some(watch) = self.table.get(index)
            && !watch.may_have_file()
        {
            gone.files.extend(self.files.remove(&fd));
            let displaced = self.take_displaced(|other, _| other == fd);
            gone.files.extend(displaced);
        }
        match result {
            Ok(()) => Ok(gone),
            Err(error) => Err((error, gone)),
        }
    }

    /// Takes out the watchers of the closed file object that had the number before.
    fn displace(&mut self, fd: i32, gone: &mut Gone<W, F>) {
        let index = usize::try_from(fd).ok();
        let Some(watch) = index.and_then(|index| self.table.get_mut(index)) else {
            return;
        };
        let watch = std::mem::take(watch);
        gone.others = [watch.reader, watch.writer];
        let displaced = self.take_displaced(|other, _| other == fd);
        gone.files.extend(displaced);
        let file = self.files.remove(&fd);
        self.displaced.extend(file.map(|file| (fd, file)));
    }

    /// Takes out the closed file object that `is_it`: it lost its watchers when another file got
    /// its number.
    pub fn take_displaced(&mut self, is_it: impl Fn(i32, &F) -> bool) -> Option<F> {
        let has_it = |(fd, file): &(i32, F)| is_it(*fd, file);
        let index = self.displaced.iter().position(has_it)?;
        Some(self.displaced.swap_remove(index).1)
    }

    fn put<K: Kernel>(
        &mut self,
        kernel: &K,
        index: usize,
        change: Change<W, F>,
        gone: &mut Gone<W, F>,
    ) -> Result<(), K::Error> {
        let fd = i32::try_from(index).unwrap_or(-1);
        let Change {
            side,
            watcher,
            mut file,
            target,
        } = change;
        if index >= self.table.len() {
            let mut watch = Watch::default();
            *watch.side(side) = watcher;
            // Asked first: a wrong number may be a great one.
            if let Err(error) = kernel.add(fd, watch.interest()) {
                gone.others = [watch.reader, watch.writer];
                return Err(error);
            }
            if let Some(file) = file {
                self.files.insert(fd, file);
            }
            self.table.resize_with(index, Watch::default);
            self.table.push(watch);
            return Ok(());
        }
        let watch = &mut self.table[index];
        let before = watch.known();
        // By what the program has named it first it is known.
        if !watch.may_have_file()
            && let Some(file) = file.take()
        {
            self.files.insert(fd, file);
        }
        gone.watcher = std::mem::replace(watch.side(side), watcher);
        let after = watch.interest();
        let told = if before.is_none() {
            kernel.add(fd, after)
        } else if target == Target::Closed && before == after {
            Ok(())
        } else {
            // A watcher that replaces another tells the kernel again: the number may mean a new
            // descriptor by now.
            match kernel.modify(fd, after) {
                Err(error) if target == Target::Closed => Err(error),
                Err(error) if K::is_unknown(&error) => {
                    // It does, and the watcher at the other side waits for the old descriptor.
                    gone.others[0] = watch.side(side.other()).take();
                    if let Some(file) = file.take() {
                        gone.files.extend(self.files.insert(fd, file));
                    }
                    kernel.add(fd, watch.interest())
                }
                // A number that is closed may be watched for as much as before, as in Python's
                // selectors, which do not ask the kernel.
                Err(error) if K::is_closed(&error) && before == after => Ok(()),
                result => result,
            }
        };
        watch.settle(told, gone)
    }

    fn clear<K: Kernel>(
        &mut self,
        kernel: &K,
        index: usize,
        side: Side,
        gone: &mut Gone<W, F>,
    ) -> Result<(), K::Error> {
        let Some(watch) = self.table.get_mut(index) else {
            return Ok(());
        };
        let before = watch.known();
        gone.watcher = watch.side(side).take();
        let after = watch.interest();
        if before != after && !(watch.dormant && after.is_none()) {
            let fd = i32::try_from(index).unwrap_or(-1);
            let told = if after.is_none() {
                kernel.forget(fd)
            } else {
                kernel.modify(fd, after)
            };
            return watch.settle(told, gone);
        }
        Ok(())
    }

    /// Shows `tell` each watcher of what `fd` is ready for: a place, out of which it takes a
    /// watcher that is told once. False when there is none: `fd` was closed, and what it has
    /// meant is still open under another number, or in a child.
    #[must_use]
    pub fn ready<K: Kernel>(
        &mut self,
        kernel: &K,
        fd: i32,
        ready: Interest,
        mut tell: impl FnMut(Side, &mut Option<W>),
    ) -> bool {
        let watch = usize::try_from(fd)
            .ok()
            .and_then(|index| self.table.get_mut(index));
        let Some(watch) = watch.filter(|watch| !watch.known().is_none()) else {
            return false;
        };
        let once = watch.interest().once;
        if ready.read {
            tell(Side::Reader, &mut watch.reader);
        }
        if ready.write {
            tell(Side::Writer, &mut watch.writer);
        }
        if once {
            let left = watch.interest();
            // An error means that the descriptor was closed: the kernel tells no more of it.
            watch.dormant = left.is_none() || kernel.modify(fd, left).is_err();
            // It was watched, and a wait is over with that.
            self.recount(fd, true);
        }
        true
    }

    /// Has the kernel forget everything, and tells it anew of what is watched.
    ///
    /// # Errors
    /// The kernel's.
    pub fn renew<K: Kernel>(&mut self, kernel: &K) -> Result<(), K::Error> {
        kernel.renew()?;
        for (fd, watch) in (0..).zip(&mut self.table) {
            watch.dormant = false;
            let interest = watch.interest();
            if interest.is_none() {
                continue;
            }
            match kernel.add(fd, interest) {
                // Closed, and not forgotten yet: the kernel told nothing of it before either.
                Err(error) if K::is_closed(&error) => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// The watchers at both sides of a descriptor.
    #[must_use]
    pub fn watchers_at(&self, fd: i32) -> [Option<&W>; 2] {
        self.at(fd).map_or([None, None], |watch| {
            [watch.reader.as_ref(), watch.writer.as_ref()]
        })
    }

    /// Where the watcher waits that `is_it`: at this descriptor, or at any if that has no number
    /// any more.
    pub fn find(&self, fd: i32, is_it: impl Fn(&W) -> bool) -> Option<(&W, Side)> {
        let find = |watch: &'_ Watch<W>| -> Option<Side> {
            if watch.reader.as_ref().is_some_and(&is_it) {
                return Some(Side::Reader);
            }
            let writes = watch.writer.as_ref().is_some_and(&is_it);
            writes.then_some(Side::Writer)
        };
        let with_side = |watch| find(watch).map(|side| (watch, side));
        let (watch, side) = match usize::try_from(fd) {
            Ok(index) => self.table.get(index).and_then(with_side),
            Err(_) => self.table.iter().find_map(with_side),
        }?;
        let watcher = match side {
            Side::Reader => watch.reader.as_ref(),
            Side::Writer => watch.writer.as_ref(),
        };
        Some((watcher?, side))
    }

    /// How many descriptors are watched, for whatever.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether none is.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The least number under which the file object is watched that `is_it`.
    pub fn find_file(&self, is_it: impl Fn(&F) -> bool) -> Option<i32> {
        let found = self.files.iter().filter(|(_, held)| is_it(held));
        found.map(|(fd, _)| *fd).min()
    }

    /// What the program named a watched descriptor by.
    #[must_use]
    pub fn file_at(&self, fd: i32) -> Option<&F> {
        self.files.get(&fd)
    }

    /// All watchers.
    pub fn watchers(&self) -> impl Iterator<Item = &W> {
        self.table
            .iter()
            .flat_map(|watch| watch.reader.iter().chain(&watch.writer))
    }

    /// Everything that names a descriptor.
    pub fn files(&self) -> impl Iterator<Item = &F> {
        let displaced = self.displaced.iter().map(|(_, file)| file);
        self.files.values().chain(displaced)
    }
}

#[cfg(test)]
mod tests;
