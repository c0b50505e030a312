//! What to write instead of the line that blocks: the cure, as a line of code.
//!
//! Where the culprit is a coroutine, the cure stands in its own line. Where it is a plain function,
//! nothing in it can be awaited; the cure is then the call of it in the nearest coroutine further
//! out, moved to a thread or a process as a whole.
//!
//! Invariants: 1. A call is named only if the stack or the catalogue says which one it is, or if it
//!                is the only one on the line.
//!             2. Names and arguments are those of the source line; what is not known is `...`.

use std::ops::Range;

use super::allow::{Allow, Allowance, allow};
use super::calls::{Call, calls};
use super::catalogue::{Catalogue, Cure, Function, Kind, Remedy};
use super::cause::Cause;
use super::culprit::{Blame, Culprit};
use super::places::{Owner, Places};
use super::record::{Entry, Stall};
use super::text::{Sources, Statement};

mod rewritten;

use rewritten::{in_statement, moved, rendered};

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

/// All that is found out about a stall: the culprit, its line, the advice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// The entry that is to blame; none without a stack, or where no code is to blame.
    pub culprit: Option<Culprit>,
    /// The culprit's line.
    pub source: Option<String>,
    /// The call in that line that does not come back.
    pub call: Option<Range<usize>>,
    /// What to do.
    pub advice: Option<Advice>,
    /// The comment `# offloop: allow REASON` at the culprit's line, or where the nearest coroutine
    /// calls what leads to it.
    pub allowance: Option<Allowance>,
}

/// A line of the stack with what its text says.
struct Site {
    entry: Entry,
    statement: Option<Statement>,
    calls: Vec<Call>,
}

impl Site {
    fn of(entry: &Entry, sources: &mut dyn Sources) -> Self {
        let line = entry.line.and_then(|line| u32::try_from(line).ok());
        let statement = line.and_then(|line| sources.text(&entry.filename)?.statement(line));
        let text = statement.as_ref().map(|statement| &*statement.text);
        let calls = text.map(calls).unwrap_or_default();
        Self {
            entry: entry.clone(),
            statement,
            calls: calls.into_iter().filter(|call| !call.is_awaited).collect(),
        }
    }

    /// What a comment allows here.
    fn allowance(&self) -> Option<Allowance> {
        let reason = match allow(&self.statement.as_ref()?.text)? {
            Allow::Because(reason) => Some(reason.to_owned()),
            Allow::NoReason => None,
        };
        Some(Allowance {
            entry: self.entry.clone(),
            reason,
        })
    }

    /// The call that has led to the entry further in; or the only call.
    fn call_of(&self, called: Option<&Entry>) -> Option<&Call> {
        let names = called.map(|entry| names_of(&entry.function));
        let named = names.iter().flatten().find_map(|name| {
            let mut calls = self.calls.iter().filter(|call| call.name() == *name);
            // Two calls of one name cannot be told apart.
            calls.next().filter(|_| calls.next().is_none())
        });
        named.or_else(|| self.only_call())
    }

    /// The call, if the statement has no other one.
    fn only_call(&self) -> Option<&Call> {
        let [call] = &*self.calls else {
            return None;
        };
        Some(call)
    }
}

/// The names under which a function is called: its own, or its class's.
fn names_of(qualified: &str) -> Vec<&str> {
    let mut parts = qualified.rsplit('.');
    let name = parts.next().unwrap_or(qualified);
    if !name.starts_with("__") {
        return vec![name];
    }
    let class = parts.next().filter(|part| !part.starts_with('<'));
    class.into_iter().collect()
}

/// What a plain name can say of a function on the stack, for a call of it.
fn callable(qualified: &str) -> &str {
    let name = qualified.rsplit('.').next().unwrap_or(qualified);
    if name.starts_with('<') {
        "function"
    } else {
        name
    }
}

/// Which function blocks, and which call in the culprit's line is the one.
fn blamed<'catalogue>(
    catalogue: &'catalogue Catalogue,
    stall: &Stall,
    (culprit, site): (&Culprit, &Site),
    places: &Places,
) -> (Option<(&'catalogue Function, String)>, Option<Call>) {
    let inner = &stall.stack.entries[..culprit.index];
    let call = site.call_of(inner.last());
    if let Some(function) = catalogue.on_stack(inner, places) {
        let name = shown_name(function, call);
        return (Some((function, name)), call.cloned());
    }
    if !inner.is_empty() {
        return (None, call.cloned());
    }
    let on_line = |call: &Call| catalogue.on_line(&call.path, &stall.cause);
    let known = site
        .calls
        .iter()
        .filter_map(|call| Some((on_line(call)?, call)));
    // Of equals the one further in, which comes later, runs first.
    let best = known.max_by_key(|((fit, ..), _)| *fit);
    if let Some(((_, function, name), call)) = best {
        // Any call may compute: an unknown one on the same line is as likely. One without arguments
        // on the result of the known one is taken for a small step, as in `sha256(data).digest()`.
        let is_step = |other: &Call| {
            let has_none = |call: &Call| matches!(&call.arguments, Some(all) if all.all.is_empty());
            other.range.start == call.range.start
                && other.range.end > call.range.end
                && has_none(other)
        };
        let is_sure = function.kind != Kind::Computation
            || site
                .calls
                .iter()
                .all(|call| on_line(call).is_some() || is_step(call));
        if is_sure {
            return (Some((function, name.to_owned())), Some(call.clone()));
        }
        return (None, None);
    }
    // Python code that computes by itself is in no call.
    let computes = stall.cause == Cause::Python;
    (None, site.only_call().filter(|_| !computes).cloned())
}

/// The name of the catalogue that a call has, or the first one: of a method, if the cure is for
/// methods.
fn shown_name(function: &Function, call: Option<&Call>) -> String {
    let is_for_methods =
        matches!(&function.remedy.cure, Some(Cure::Line(line)) if line.contains("{receiver}"));
    let (first, second) = if is_for_methods {
        (&function.methods, &function.names)
    } else {
        (&function.names, &function.methods)
    };
    let mut names = first.iter().chain(second);
    let same = call.and_then(|call| {
        let mut names = names.clone();
        names.find(|name| name.rsplit('.').next() == Some(call.name()))
    });
    same.or_else(|| names.next()).cloned().unwrap_or_default()
}

impl Diagnosis {
    /// Whether a comment with a reason silences it: then nothing is to be told or counted.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        let allowance = self.allowance.as_ref();
        allowance.is_some_and(|allowance| allowance.reason.is_some())
    }

    /// What can be found out about a stall. Where no code is to blame, none is named.
    #[must_use]
    pub fn of(
        stall: &Stall,
        catalogue: &Catalogue,
        places: &Places,
        sources: &mut dyn Sources,
    ) -> Self {
        let remedy = catalogue.remedy(&stall.cause);
        if matches!(
            stall.cause,
            Cause::Starved | Cause::Stopped | Cause::Memory | Cause::Callbacks | Cause::Collection
        ) {
            return Self::without_function(stall, remedy, places, sources);
        }
        let Some(culprit) = Culprit::of(&stall.stack, places) else {
            return Self::default();
        };
        let site = Site::of(&culprit.entry, sources);
        let (function, call) = blamed(catalogue, stall, (&culprit, &site), places);
        let found = Found {
            stall,
            culprit: &culprit,
            function,
            remedy,
        };
        let outer = found.outer(sources);
        let advice = found.advice(&site, call.as_ref(), outer.as_ref());
        let outer = outer.map(|(outer, _)| outer);
        let allowance = [Some(&site), outer.as_ref()].into_iter().flatten();
        let allowance = allowance
            .filter_map(Site::allowance)
            .max_by_key(|allowance| allowance.reason.is_some());
        let (source, call) = first_line(&site, call.as_ref());
        Self {
            culprit: Some(culprit),
            source,
            call,
            advice,
            allowance,
        }
    }

    fn without_function(
        stall: &Stall,
        remedy: Option<&Remedy>,
        places: &Places,
        sources: &mut dyn Sources,
    ) -> Self {
        let culprit = Culprit::of(&stall.stack, places)
            .filter(|culprit| !stall.cause.blames_no_code() && culprit.blame == Blame::Own);
        let site = culprit
            .as_ref()
            .map(|culprit| Site::of(&culprit.entry, sources));
        let advice = remedy.map(|remedy| Advice {
            cure: match &remedy.cure {
                Some(Cure::Line(line)) => Some(line.clone()),
                _ => None,
            },
            because: remedy.because.clone(),
            instead: remedy.instead.clone(),
            ..Advice::default()
        });
        Self {
            allowance: site.as_ref().and_then(Site::allowance),
            source: site.and_then(|site| first_line(&site, None).0),
            culprit,
            call: None,
            advice,
        }
    }
}

/// The first line of a statement, and the part of a call that is in it.
fn first_line(site: &Site, call: Option<&Call>) -> (Option<String>, Option<Range<usize>>) {
    let Some(statement) = &site.statement else {
        return (None, None);
    };
    let line = statement.text.split('\n').next().unwrap_or_default();
    let call = call
        .filter(|call| call.range.start < line.len())
        .map(|call| call.range.start..call.range.end.min(line.len()));
    (Some(line.to_owned()), call)
}

/// A stall whose culprit is known, and perhaps the function that it calls.
struct Found<'a> {
    stall: &'a Stall,
    culprit: &'a Culprit,
    function: Option<(&'a Function, String)>,
    remedy: Option<&'a Remedy>,
}

impl Found<'_> {
    fn advice(
        &self,
        site: &Site,
        call: Option<&Call>,
        outer: Option<&(Site, usize)>,
    ) -> Option<Advice> {
        let name = self.function.as_ref().map(|(_, name)| name.clone());
        let advice = match outer {
            _ if matches!(self.stall.cause, Cause::OtherThread { .. }) => self.elsewhere(None)?,
            Some((outer, index)) => {
                let mut advice = self.elsewhere(Some((outer, *index)))?;
                advice.instead.splice(0..0, self.made_async(site, call));
                advice
            }
            None => self.in_place(site, call)?,
        };
        Some(Advice {
            function: name,
            ..advice
        })
    }

    /// Where the nearest coroutine calls what leads to the culprit, which is a plain function.
    fn outer(&self, sources: &mut dyn Sources) -> Option<(Site, usize)> {
        let index = self.coroutine(sources)?;
        let outer = Site::of(&self.stall.stack.entries[index], sources);
        (index > self.culprit.index).then_some((outer, index))
    }

    /// The place on the stack of the nearest coroutine, from the culprit outward.
    fn coroutine(&self, sources: &mut dyn Sources) -> Option<usize> {
        let entries = self.stall.stack.entries.iter().enumerate();
        let mut outward = entries.skip(self.culprit.index);
        outward.find_map(|(index, entry)| {
            let line = u32::try_from(entry.line?).ok()?;
            let text = sources.text(&entry.filename)?;
            (text.is_coroutine(&entry.function, line) == Some(true)).then_some(index)
        })
    }

    /// Whether the work goes to a process; otherwise to a thread.
    fn to_process(&self) -> bool {
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
                function.remedy.because.clone()
            }
            (_, Some(remedy)) => remedy.because.clone(),
            _ => String::new(),
        }
    }

    /// The culprit cannot await: what calls it, further out, is moved as a whole.
    fn elsewhere(&self, outer: Option<(&Site, usize)>) -> Option<Advice> {
        let entries = &self.stall.stack.entries;
        let called = outer.map_or(Some(&self.culprit.entry), |(_, index)| {
            entries.get(index.checked_sub(1)?)
        })?;
        let site = outer.map(|(site, _)| site);
        let call = site.and_then(|site| site.call_of(Some(called)));
        let to_process = self.to_process();
        let cure = match (site, call) {
            (Some(site), Some(call)) => in_statement(
                site.statement.as_ref().map(|statement| &*statement.text),
                call,
                &moved(call, to_process),
            ),
            _ => rewritten::moved_by_name(callable(&called.function), to_process),
        };
        Some(Advice {
            function: None,
            cure: Some(cure),
            at: site.map(|site| site.entry.clone()),
            because: self.reason(),
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
        Some(format!("make `{function}` an async def, with {cure}"))
    }

    /// The culprit can await, or it is not known whether it can.
    fn in_place(&self, site: &Site, call: Option<&Call>) -> Option<Advice> {
        let text = site.statement.as_ref().map(|statement| &*statement.text);
        let Some((function, name)) = &self.function else {
            return self.in_place_unknown(text, call);
        };
        let remedy = &function.remedy;
        let cure = match (remedy.cure.as_ref()?, call) {
            (Cure::Line(line), _) if function.kind == Kind::Import && call.is_none() => {
                text.map_or_else(|| rendered(line, None, name), |text| text.trim().to_owned())
            }
            (Cure::Line(line), Some(call)) => {
                in_statement(text, call, &rendered(line, Some(call), name))
            }
            (Cure::Line(line), None) => rendered(line, None, name),
            (cure, Some(call)) => in_statement(text, call, &moved(call, *cure == Cure::Process)),
            (cure, None) => rewritten::moved_by_name(name, *cure == Cure::Process),
        };
        let fill = |text: &String| rendered(text, call, name);
        Some(Advice {
            function: None,
            cure: Some(cure),
            at: None,
            because: fill(&remedy.because),
            instead: remedy.instead.iter().map(fill).collect(),
        })
    }

    fn in_place_unknown(&self, text: Option<&str>, call: Option<&Call>) -> Option<Advice> {
        let remedy = self.remedy?;
        let to_process = self.to_process();
        let called = self.stall.stack.entries[..self.culprit.index].last();
        let by_name = |name: &str| rewritten::moved_by_name(name, to_process);
        let (cure, because) = match (call, called) {
            (Some(call), _) => {
                let cure = in_statement(text, call, &moved(call, to_process));
                (cure, remedy.because.clone())
            }
            (None, Some(called)) => (by_name(callable(&called.function)), remedy.because.clone()),
            (None, None) if text.is_none() || self.culprit.owner != Owner::User => (
                by_name(callable(&self.culprit.entry.function)),
                remedy.because.clone(),
            ),
            (None, None) => {
                let because = "put what blocks into a function of its own".to_owned();
                (
                    by_name("function"),
                    format!("{because}; {}", remedy.because),
                )
            }
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
