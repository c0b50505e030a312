//! What to write instead of the line that blocks: the cure, as a line of code.
//!
//! Where the culprit is a coroutine, the cure stands in its own line. Where it is a plain function,
//! nothing in it can be awaited; the cure is then the call of it in the nearest coroutine further
//! out, moved to a thread or a process as a whole.
//!
//! Invariants: 1. A call is named only if the stack or the catalogue says which one it is, or if it
//!                is the only one on the line.
//!             2. Names and arguments are those of the source line; what is not known is `...`.

use super::calls::Call;
use super::catalogue::{Catalogue, Cure, Function, Kind, Remedy};
use super::cause::Cause;
use super::culprit::Culprit;
use super::places::{Owner, Places};
use super::record::{Entry, Stall};
use super::site::{Site, UNNAMED, callable, is_lambda};
use super::text::Sources;

mod fitting;
mod repeated;
mod rewritten;

use fitting::{fits, is_movable, is_whole};
use rewritten::{entered, in_statement, moved, rendered};

/// Where there is no function that could be moved.
const APART: &str = "put what blocks into a function of its own";

/// Where a library's coroutine blocks, which is awaited as it should be.
const AWAITED: &str =
    "it is awaited already, and blocks in the library's own code: give it less at once";

/// Where a thread would do, if the call let go of the GIL.
const KEEPS_GIL: &str = "it keeps the GIL while it waits: in a thread it would stop the loop, too";

/// Where what blocks changes what it is given, which a process would have a copy of.
const CHANGES: &str = "put what blocks into a function of its own that returns what it makes";

/// Why a thread is the place of what changes its arguments.
const SHARED: &str =
    "a thread shares its memory and takes turns with the loop; a process would change a copy";

/// A function that the interpreter calls by itself.
const HOOKED: &str = "is called by the interpreter, between any two lines: let it only note what \
                      has happened, and a coroutine do the work";

/// What to do about a stall.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    /// The function that blocks, by its name in the catalogue.
    pub function: Option<String>,
    /// What to write; none where code cannot help.
    pub cure: Option<String>,
    /// Where, if not in the culprit's line.
    pub at: Option<Entry>,
    /// Why it helps, or what it needs.
    pub because: String,
    /// Other ways.
    pub instead: Vec<String>,
}

/// A stall whose culprit is known, and perhaps the function that it calls.
pub(super) struct Found<'a> {
    pub(super) stall: &'a Stall,
    pub(super) culprit: &'a Culprit,
    pub(super) function: Option<(&'a Function, String)>,
    pub(super) remedy: Option<&'a Remedy>,
    pub(super) places: &'a Places,
    pub(super) catalogue: &'a Catalogue,
    /// What leads to it is made by a call, and runs where its items are taken.
    pub(super) is_generator: bool,
    /// The culprit is a function that cannot await, and that no coroutine leads to.
    pub(super) is_plain: bool,
    /// The function that leads to it, if the interpreter calls that, and not a line further out.
    pub(super) hooked: Option<String>,
}

impl Found<'_> {
    pub(super) fn advice(
        &self,
        site: &Site,
        call: Option<&Call>,
        outer: Option<&(Site, usize)>,
    ) -> Option<Advice> {
        let name = self.function.as_ref().map(|(_, name)| name.clone());
        let advice = match outer {
            _ if matches!(self.stall.cause, Cause::OtherThread { .. }) => self.elsewhere(None)?,
            _ if let Some(name) = &self.hooked => Advice {
                at: outer.map(|(outer, _)| outer.entry.clone()),
                because: format!("`{name}` {HOOKED}"),
                ..Advice::default()
            },
            Some((outer, index)) if let Some(advice) = self.imported(outer, *index) => advice,
            Some((outer, index)) => {
                let mut advice = self.elsewhere(Some((outer, *index)))?;
                advice
                    .instead
                    .splice(0..0, self.made_async(site, call, (outer, *index)));
                advice
            }
            None if self.is_plain => self.in_a_task(self.in_place(site, call)?),
            None => self.in_place(site, call)?,
        };
        Some(Advice {
            function: name,
            ..advice
        })
    }

    /// What to do about a module that a coroutine imports, and whose own lines block.
    fn imported(&self, outer: &Site, index: usize) -> Option<Advice> {
        let between = &self.stall.stack.entries[self.culprit.index..index];
        let (function, _) = self.catalogue.on_stack(between, self.places)?;
        let statement = outer.statement.as_ref()?;
        (function.kind == Kind::Import).then(|| Advice {
            cure: Some(statement.text.trim().to_owned()),
            at: Some(outer.entry.clone()),
            because: function.remedy.because.clone(),
            instead: function.remedy.instead.clone(),
            ..Advice::default()
        })
    }

    /// Where the nearest coroutine calls what leads to the culprit, which is a plain function.
    pub(super) fn outer(&self, sources: &mut dyn Sources) -> Option<(Site, usize)> {
        let index = self.coroutine(sources)?;
        let outer = Site::of(&self.stall.stack.entries[index], sources);
        (index > self.culprit.index).then_some((outer, index))
    }

    /// The function that leads to the culprit, if the interpreter calls it by itself: a handler of
    /// a signal, a callback of the garbage collection. Destructors are told of elsewhere.
    pub(super) fn hooked(
        &self,
        outer: Option<&(Site, usize)>,
        sources: &mut dyn Sources,
    ) -> Option<String> {
        let index = outer.map_or(self.culprit.index, |(_, index)| index - 1);
        let entry = &self.stall.stack.entries[index];
        let name = entry.function.rsplit('.').next().unwrap_or_default();
        let is_called = outer.is_some_and(|(outer, _)| outer.calls_by_name(&entry.function));
        let is_ours = self.places.owner(&entry.filename) == Owner::User;
        let text = sources.text(&entry.filename).filter(|_| is_ours);
        let is_hooked = text.is_some_and(|text| text.hooks(name));
        (is_hooked && !is_called).then(|| name.to_owned())
    }

    /// Whether the culprit is known to be a function that cannot await.
    pub(super) fn is_plain(&self, sources: &mut dyn Sources) -> bool {
        let entry = &self.culprit.entry;
        let line = entry.line.and_then(|line| u32::try_from(line).ok());
        let text = sources.text(&entry.filename);
        let is_coroutine = text
            .zip(line)
            .and_then(|(text, line)| text.is_coroutine(&entry.function, line));
        self.culprit.owner == Owner::User
            && (is_coroutine == Some(false) || is_lambda(&entry.function))
            && !matches!(self.stall.cause, Cause::OtherThread { .. })
    }

    /// The place on the stack of the user's nearest coroutine, from the culprit outward.
    fn coroutine(&self, sources: &mut dyn Sources) -> Option<usize> {
        let entries = self.stall.stack.entries.iter().enumerate();
        let mut outward = entries.skip(self.culprit.index);
        outward.find_map(|(index, entry)| {
            let line = u32::try_from(entry.line?).ok()?;
            if self.places.owner(&entry.filename) != Owner::User {
                return None;
            }
            let text = sources.text(&entry.filename)?;
            (text.is_coroutine(&entry.function, line) == Some(true)).then_some(index)
        })
    }

    /// Whether the work goes to a process; otherwise to a thread.
    fn to_process(&self) -> bool {
        if self.stall.keeps_gil {
            return true;
        }
        let by_function = self.function.as_ref().map(|(function, _)| &function.remedy);
        match by_function.and_then(|remedy| remedy.cure.as_ref()) {
            Some(Cure::Process) => true,
            Some(Cure::Thread) => false,
            Some(Cure::Line(_) | Cure::Words) | None => {
                matches!(self.remedy, Some(remedy) if remedy.cure == Some(Cure::Process))
            }
        }
    }

    /// The reason of a move, which is that of the cause where the function has a line of its own.
    fn reason(&self) -> String {
        let function = self.function.as_ref().map(|(function, _)| *function);
        match (function, self.remedy) {
            (Some(function), _) if function.moved.is_some() => {
                function.moved.clone().unwrap_or_default()
            }
            (Some(function), _)
                if matches!(function.remedy.cure, Some(Cure::Thread | Cure::Process)) =>
            {
                self.because(&function.remedy)
            }
            (_, Some(remedy)) => self.because(remedy),
            _ => String::new(),
        }
    }

    /// Whether the thread computes, which the arguments of a call may do as well.
    const fn computes(&self) -> bool {
        matches!(
            self.stall.cause,
            Cause::Python | Cause::Native { .. } | Cause::Unknown
        )
    }

    /// Whether a call changes what it is given: a process would change a copy.
    fn changes(&self, call: Option<&Call>, text: Option<&str>) -> bool {
        let function = self.function.as_ref();
        let is_known = function.is_some_and(|(function, _)| function.changes);
        let is_whole = call
            .zip(text)
            .is_some_and(|(call, text)| is_whole(call, text));
        let computes = self.computes() && !self.stall.keeps_gil;
        self.to_process() && (is_known || (computes && is_whole))
    }

    /// Whether the function of the catalogue waits only as its items are taken.
    fn is_lazy(&self) -> bool {
        let cure = self
            .function
            .as_ref()
            .map(|(function, _)| &function.remedy.cure);
        matches!(cure, Some(Some(Cure::Line(line))) if line.contains("{call}"))
    }

    /// A call moved off the loop, with the reason; none where that would not be the same. The
    /// statement is shown around it if there is one to show.
    fn moved(&self, call: &Call, text: Option<&str>, shown: Option<&str>) -> Option<Said> {
        if self.is_generator || !is_movable(call, text) {
            return None;
        }
        let changes = self.changes(Some(call), text);
        let keeps_gil = matches!(self.stall.cause, Cause::Native { holds_gil: true });
        if changes && (keeps_gil || self.stall.keeps_gil) {
            return None;
        }
        let to_process = self.to_process() && !changes;
        let arguments = call.arguments.as_ref();
        if to_process && arguments.is_some_and(|arguments| arguments.is_generator) {
            return None;
        }
        let cure = in_statement(shown, call, &moved(call, to_process));
        let reason = if changes {
            SHARED.to_owned()
        } else {
            self.reason()
        };
        Some((cure, reason))
    }

    /// What is said where no line can take the place of the one that blocks.
    fn apart(&self, changes: bool) -> Said {
        let what = if changes { CHANGES } else { APART };
        let cure = rewritten::moved_by_name(UNNAMED, self.to_process());
        (cure, format!("{what}; {}", self.reason()))
    }

    /// What a function does instead that cannot await, and that the loop or a library calls.
    fn in_a_task(&self, advice: Advice) -> Advice {
        let qualified = &self.culprit.entry.function;
        let name = qualified.rsplit('.').next().unwrap_or(qualified);
        let what = if is_lambda(name) {
            "a lambda".to_owned()
        } else {
            format!("`{name}`")
        };
        let does = match &advice.cure {
            Some(cure) => format!("that does, with {cure}"),
            None => "for the work".to_owned(),
        };
        Advice {
            cure: None,
            because: format!(
                "{what} is called by the loop or by a library and cannot await: let it create a \
                 task {does}; {}",
                advice.because
            ),
            ..advice
        }
    }

    /// Why a remedy helps, or what takes its place.
    fn because(&self, remedy: &Remedy) -> String {
        if self.stall.keeps_gil && remedy.cure == Some(Cure::Thread) {
            KEEPS_GIL.to_owned()
        } else {
            remedy.because.clone()
        }
    }

    /// The culprit cannot await: what calls it, further out, is moved as a whole.
    fn elsewhere(&self, outer: Option<(&Site, usize)>) -> Option<Advice> {
        let entries = &self.stall.stack.entries;
        let called = outer.map_or(Some(&self.culprit.entry), |(_, index)| {
            entries.get(index.checked_sub(1)?)
        })?;
        let site = outer.map(|(site, _)| site);
        let at = site.map(|site| site.entry.clone());
        let text = site.and_then(Site::text);
        let call = site.and_then(|site| site.call_of(Some(called)));
        if let Some((site, index)) = outer
            && self.is_repeated(site, index, call)
        {
            return Some(self.as_whole(at));
        }
        let by_name = site.is_none_or(|site| site.calls_by_name(&called.function));
        let to_process = self.to_process();
        let is_named = by_name && !self.is_generator && callable(&called.function) != UNNAMED;
        let (cure, because) = match call {
            Some(call) => self
                .moved(call, text, text)
                .unwrap_or_else(|| self.apart(self.changes(Some(call), text))),
            None if is_named
                && !site.is_some_and(|site| site.reads(callable(&called.function))) =>
            {
                let name = callable(&called.function);
                (rewritten::moved_by_name(name, to_process), self.reason())
            }
            None => self.apart(false),
        };
        Some(Advice {
            cure: Some(cure),
            at,
            because,
            ..Advice::default()
        })
    }

    /// The catalogue's own cure for a plain function, if it were a coroutine.
    fn made_async(
        &self,
        site: &Site,
        call: Option<&Call>,
        (outer, index): (&Site, usize),
    ) -> Option<String> {
        let (function, name) = self.function.as_ref()?;
        let Some(Cure::Line(line)) = &function.remedy.cure else {
            return None;
        };
        // What a library or the interpreter calls is not awaited by it.
        let entries = &self.stall.stack.entries[self.culprit.index..index];
        let mut files = entries.iter().map(|entry| &entry.filename);
        let is_ours = files.all(|file| self.places.owner(file) == Owner::User);
        let is_called = entries
            .last()
            .is_some_and(|called| outer.calls_by_name(&called.function));
        let fits = call.is_some_and(|call| fits(function, line, call, site.text()));
        if !line.starts_with("await ") || !fits || !is_ours || !is_called {
            return None;
        }
        let cure = rendered(line, call, name);
        let function = callable(&site.entry.function);
        // One that Python calls by itself, or a part of a line, cannot be a coroutine.
        if !site.entry.function.ends_with(function) || self.is_generator {
            return None;
        }
        Some(format!("make `{function}` an async def, with {cure}"))
    }

    /// The culprit can await, or it is not known whether it can.
    fn in_place(&self, site: &Site, call: Option<&Call>) -> Option<Advice> {
        if self.is_repeated(site, self.culprit.index, call) {
            return Some(self.as_whole(None));
        }
        let text = self.text(site);
        let Some((function, name)) = &self.function else {
            return self.in_place_unknown(site, call);
        };
        let remedy = &function.remedy;
        let fill = |text: &str| rendered(text, call, name);
        let (cure, because) = match (remedy.cure.as_ref()?, call) {
            (Cure::Words, _) => (None, self.because(remedy)),
            (Cure::Line(line), call) if function.kind == Kind::Import => {
                let import = text.filter(|_| call.is_none()).map(str::trim);
                let cure = import.map_or_else(|| fill(line), str::to_owned);
                (Some(cure), self.because(remedy))
            }
            (Cure::Line(line), Some(call)) if fits(function, line, call, text) => {
                let is_entered = text.is_some_and(|text| entered(call, text));
                let line = if is_entered {
                    "async with {receiver}:"
                } else {
                    line
                };
                let cure = in_statement(self.shown(site), call, &fill(line));
                (Some(cure), fill(&self.because(remedy)))
            }
            _ => {
                let (cure, because) = self.moved_in_place(site, call);
                (Some(cure), because)
            }
        };
        // A thread is not told as another way beside itself.
        let thread = "await offloop.to_thread(";
        let is_thread = cure.as_ref().is_some_and(|cure| cure.contains(thread));
        let shows = |way: &String| !(is_thread && way.starts_with(thread));
        Some(Advice {
            because,
            instead: remedy
                .instead
                .iter()
                .map(|way| fill(way))
                .filter(shows)
                .collect(),
            cure,
            ..Advice::default()
        })
    }

    /// The culprit's statement; none for a lambda, of which it is more than the body.
    fn text<'site>(&self, site: &'site Site) -> Option<&'site str> {
        site.text().filter(|_| !is_lambda(&site.entry.function))
    }

    /// The statement that a cure is shown in: not that of a function that cannot await.
    fn shown<'site>(&self, site: &'site Site) -> Option<&'site str> {
        self.text(site).filter(|_| !self.is_plain)
    }

    /// A function of the catalogue moved as it is, where it is called.
    fn moved_in_place(&self, site: &Site, call: Option<&Call>) -> Said {
        let text = self.text(site);
        let changes = self.changes(call, text);
        if let Some(call) = call {
            let arguments = call.arguments.as_ref();
            let computes = arguments.is_some_and(|all| all.compute) && self.computes();
            let moved = self.moved(call, text, self.shown(site));
            return moved
                .filter(|_| !computes && !self.is_lazy())
                .unwrap_or_else(|| self.apart(changes));
        }
        let inner = &self.stall.stack.entries[..self.culprit.index];
        let innermost = inner
            .get(inner.len().saturating_sub(1)..)
            .unwrap_or_default();
        let is_called = self.catalogue.on_stack(innermost, self.places).is_some();
        match &self.function {
            Some((_, name)) if is_called && !changes && !name.contains(".__") => (
                rewritten::moved_by_name(name, self.to_process()),
                self.reason(),
            ),
            _ => self.apart(changes),
        }
    }

    fn in_place_unknown(&self, site: &Site, call: Option<&Call>) -> Option<Advice> {
        let remedy = self.remedy?;
        let called = self.stall.stack.entries[..self.culprit.index].last();
        if site.awaits(called) {
            return Some(Advice {
                because: AWAITED.to_owned(),
                ..Advice::default()
            });
        }
        let name = called.map_or(UNNAMED, |called| callable(&called.function));
        let by_name = called.is_some_and(|called| site.calls_by_name(&called.function));
        let (cure, because) = if call.is_none() && by_name && !self.is_generator {
            (
                rewritten::moved_by_name(name, self.to_process()),
                self.because(remedy),
            )
        } else {
            self.moved_in_place(site, call)
        };
        let mut instead = remedy.instead.clone();
        if self.stall.cause == Cause::Python && call.is_none() && called.is_none() {
            instead.push("await asyncio.sleep(0) once in a while, to let the loop run".to_owned());
        }
        Some(Advice {
            cure: Some(cure),
            because,
            instead,
            ..Advice::default()
        })
    }
}

/// A cure and its reason.
type Said = (String, String);

#[cfg(test)]
mod tests;
