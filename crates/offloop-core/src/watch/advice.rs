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

mod rewritten;

use rewritten::{in_statement, moved, rendered};

/// Where there is no function that could be moved.
const APART: &str = "put what blocks into a function of its own";

/// Where a library's coroutine blocks, which is awaited as it should be.
const AWAITED: &str =
    "it is awaited already, and blocks in the library's own code: give it less at once";

/// Where a thread would do, if the call let go of the GIL.
const KEEPS_GIL: &str = "it keeps the GIL while it waits: in a thread it would stop the loop, too";

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
            Some((outer, index)) if let Some(advice) = self.imported(outer, *index) => advice,
            Some((outer, index)) => {
                let mut advice = self.elsewhere(Some((outer, *index)))?;
                let called = &self.stall.stack.entries[*index - 1];
                if !outer.reads(callable(&called.function)) {
                    advice.instead.splice(0..0, self.made_async(site, call));
                }
                advice
            }
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
            _ => matches!(self.remedy, Some(remedy) if remedy.cure == Some(Cure::Process)),
        }
    }

    /// The reason of a move, which is that of the cause.
    fn reason(&self) -> String {
        match (&self.function, self.remedy) {
            (Some((function, _)), _) if !matches!(function.remedy.cure, Some(Cure::Line(_))) => {
                self.because(&function.remedy)
            }
            (_, Some(remedy)) => self.because(remedy),
            _ => String::new(),
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
        let call = site
            .and_then(|site| site.call_of(Some(called)))
            .filter(|_| !self.is_generator);
        let to_process = self.to_process();
        let name = match callable(&called.function) {
            name if self.is_generator || site.is_some_and(|site| site.reads(name)) => UNNAMED,
            name => name,
        };
        let is_part = call.is_none() && name == UNNAMED;
        let cure = match (site, call) {
            (Some(site), Some(call)) => in_statement(
                site.statement.as_ref().map(|statement| &*statement.text),
                call,
                &moved(call, to_process),
            ),
            _ => rewritten::moved_by_name(name, to_process),
        };
        let because = if is_part {
            format!("{APART}; {}", self.reason())
        } else {
            self.reason()
        };
        Some(Advice {
            function: None,
            cure: Some(cure),
            at: site.map(|site| site.entry.clone()),
            because,
            instead: Vec::new(),
        })
    }

    /// The catalogue's own cure for a plain function, if it were a coroutine.
    fn made_async(&self, site: &Site, call: Option<&Call>) -> Option<String> {
        let (function, name) = self.function.as_ref()?;
        let Some(Cure::Line(line)) = &function.remedy.cure else {
            return None;
        };
        if !line.starts_with("await ") {
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
        let text = site.statement.as_ref().map(|statement| &*statement.text);
        // Inside of a lambda the new expression would be no Python.
        let text = text.filter(|_| !is_lambda(&site.entry.function));
        let Some((function, name)) = &self.function else {
            return self.in_place_unknown(site, text, call);
        };
        let remedy = &function.remedy;
        let cure = match (remedy.cure.as_ref()?, call) {
            (Cure::Line(line), _) if function.kind == Kind::Import && call.is_none() => {
                text.map_or_else(|| rendered(line, None, name), |text| text.trim().to_owned())
            }
            // A cure that takes nothing from the call does not stand in its place.
            (Cure::Line(line), Some(call)) if line.contains('{') => {
                in_statement(text, call, &rendered(line, Some(call), name))
            }
            (Cure::Line(line), call) => rendered(line, call, name),
            (_, Some(call)) => in_statement(text, call, &moved(call, self.to_process())),
            (_, None) => rewritten::moved_by_name(name, self.to_process()),
        };
        let fill = |text: &String| rendered(text, call, name);
        Some(Advice {
            function: None,
            cure: Some(cure),
            at: None,
            because: fill(&self.because(remedy)),
            instead: remedy.instead.iter().map(fill).collect(),
        })
    }

    fn in_place_unknown(
        &self,
        site: &Site,
        text: Option<&str>,
        call: Option<&Call>,
    ) -> Option<Advice> {
        let remedy = self.remedy?;
        let to_process = self.to_process();
        let called = self.stall.stack.entries[..self.culprit.index].last();
        if site.awaits(called) {
            return Some(Advice {
                because: AWAITED.to_owned(),
                ..Advice::default()
            });
        }
        let name = match called {
            Some(called) => callable(&called.function),
            None if text.is_none() || self.culprit.owner != Owner::User => {
                callable(&self.culprit.entry.function)
            }
            None => UNNAMED,
        };
        let cure = match call {
            Some(call) => in_statement(text, call, &moved(call, to_process)),
            None => rewritten::moved_by_name(name, to_process),
        };
        let because = if call.is_none() && name == UNNAMED {
            format!("{APART}; {}", self.because(remedy))
        } else {
            self.because(remedy)
        };
        let mut instead = remedy.instead.clone();
        if self.stall.cause == Cause::Python && call.is_none() && called.is_none() {
            instead.push("await asyncio.sleep(0) once in a while, to let the loop run".to_owned());
        }
        Some(Advice {
            function: None,
            cure: Some(cure),
            at: None,
            because,
            instead,
        })
    }
}

#[cfg(test)]
mod tests;
