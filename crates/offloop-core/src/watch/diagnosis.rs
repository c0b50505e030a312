//! All that is found out about a stall from its record and the program's text.
//!
//! Invariants: 1. No code is named where none is to blame: the host starves the program.
//!             2. A function of the catalogue is named only if the stack shows it, or if it is
//!                called in the line and can have the cause.

use std::ops::Range;

use super::advice::{Advice, Found};
use super::allow::Allowance;
use super::calls::{Call, SMALL};
use super::catalogue::{Catalogue, Cure, Function, Kind, Remedy};
use super::cause::Cause;
use super::culprit::{Blame, Culprit};
use super::places::Places;
use super::record::{Entry, Stall};
use super::site::Site;
use super::text::Sources;
use crate::event_loop::Stalled;

/// The culprit of a stall, its line, the advice.
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
        let (advice, outer) = if let Some(index) = culprit.destructor {
            let name = function.map(|(_, name)| name);
            (Some(of_destructor(&stall.stack.entries[index], name)), None)
        } else {
            let claimed = culprit.claimed(places);
            let places = claimed.as_ref().unwrap_or(places);
            let culprit = Culprit {
                owner: places.owner(&culprit.entry.filename),
                ..culprit.clone()
            };
            let found = Found {
                stall,
                culprit: &culprit,
                function,
                remedy,
                places,
                catalogue,
                is_generator: false,
                is_plain: false,
                hooked: None,
            };
            advised(found, (&site, call.as_ref()), sources)
        };
        let advice = advice.filter(|_| !is_of_many(stall));
        let allowance = [Some(&site), outer.as_ref()].into_iter().flatten();
        let allowance = allowance
            .filter_map(Site::allowance)
            .max_by_key(|allowance| allowance.reason.is_some());
        let (source, call) = site.first_line(call.as_ref());
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
            .filter(|culprit| !stall.cause.blames_no_code() && culprit.blame != Blame::Library);
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
            source: site.and_then(|site| site.first_line(None).0),
            culprit,
            call: None,
            advice,
        }
    }
}

/// Whether the time is that of a round of callbacks, and the one that was seen only computes: it is
/// not known that its share is worth a move. What waits is cured however short its wait is.
const fn is_of_many(stall: &Stall) -> bool {
    matches!(stall.stalled, Stalled::Round)
        && matches!(
            stall.cause,
            Cause::Python | Cause::Native { .. } | Cause::Unknown
        )
}

/// What to do, and where the nearest coroutine calls what leads to the culprit.
fn advised(
    mut found: Found<'_>,
    (site, call): (&Site, Option<&Call>),
    sources: &mut dyn Sources,
) -> (Option<Advice>, Option<Site>) {
    let outer = found.outer(sources);
    let index = outer
        .as_ref()
        .map_or(found.culprit.index, |(_, index)| *index);
    let inner = &found.stall.stack.entries[..index];
    found.is_generator = inner.last().is_some_and(|called| {
        let line = called.line.and_then(|line| u32::try_from(line).ok());
        let text = sources.text(&called.filename).zip(line);
        text.is_some_and(|(text, line)| text.is_generator(&called.function, line))
    });
    found.hooked = found.hooked(outer.as_ref(), sources);
    found.is_plain = outer.is_none() && found.is_plain(sources);
    let advice = found.advice(site, call, outer.as_ref());
    (advice, outer.map(|(outer, _)| outer))
}

/// What to do about a destructor: no line that it may interrupt can be changed for it.
fn of_destructor(destructor: &Entry, function: Option<String>) -> Advice {
    Advice {
        function,
        because: format!(
            "close such objects in a thread: `{}` runs in any line that lets go of one or \
             collects garbage",
            destructor.function
        ),
        ..Advice::default()
    }
}

/// A function with its name, and the call of it in the line.
type Blamed<'catalogue> = (Option<(&'catalogue Function, String)>, Option<Call>);

/// Which function blocks, and which call in the culprit's line is the one.
fn blamed<'catalogue>(
    catalogue: &'catalogue Catalogue,
    stall: &Stall,
    (culprit, site): (&Culprit, &Site),
    places: &Places,
) -> Blamed<'catalogue> {
    let inner = &stall.stack.entries[..culprit.index];
    if site.awaits(inner.last()) {
        // It is awaited by mistake if it is a function that blocks.
        let awaited = inner
            .get(inner.len().saturating_sub(1)..)
            .unwrap_or_default();
        let blocking = catalogue.on_stack(awaited, places);
        let function =
            blocking.map(|(function, entry)| (function, shown_name(function, entry, None, places)));
        return (function, None);
    }
    let takes = inner
        .last()
        .is_none_or(|entry| entry.function.ends_with(".acquire"));
    if takes
        && stall.cause == Cause::Lock
        && let Some(lock) = site.entered()
    {
        let known = catalogue.on_line(&lock.path, &stall.cause);
        let on_line = known.map(|(_, function, name)| (function, name.to_owned()));
        let on_stack = catalogue.on_stack(inner, places);
        let on_stack =
            on_stack.map(|(function, entry)| (function, shown_name(function, entry, None, places)));
        return (on_stack.or(on_line), Some(lock));
    }
    let call = site.call_of(inner.last());
    if let Some((function, entry)) = catalogue.on_stack(inner, places) {
        let call = call.or_else(|| only_call_of(function, site));
        let name = shown_name(function, entry, call, places);
        return (Some((function, name)), call.cloned());
    }
    if !inner.is_empty() {
        return (None, call.cloned());
    }
    // Python code that computes by itself is in no call, but for the parts of one: a key function,
    // or the generator that `sum` is given.
    if stall.cause == Cause::Python && !culprit.entry.function.ends_with('>') {
        return (None, None);
    }
    in_line(catalogue, &stall.cause, site)
}

/// The same where the stack has nothing further in: the line calls a function in C, or computes.
fn in_line<'catalogue>(
    catalogue: &'catalogue Catalogue,
    cause: &Cause,
    site: &Site,
) -> Blamed<'catalogue> {
    let on_line = |call: &Call| catalogue.on_line(&call.path, cause);
    let known = site
        .calls
        .iter()
        .filter_map(|call| Some((on_line(call)?, call)));
    let computes = matches!(cause, Cause::Python | Cause::Unknown | Cause::Native { .. });
    let has_computed = |call: &Call| {
        let arguments = call.arguments.as_ref();
        computes && arguments.is_some_and(|arguments| arguments.compute)
    };
    // Of equals the one further in, which comes later, runs first.
    let best = known.max_by_key(|((fit, ..), _)| *fit);
    let Some(((_, function, name), call)) = best else {
        let is_small = |call: &Call| computes && SMALL.contains(&&*call.path);
        let call = site.only_call();
        let call = call.filter(|call| !is_small(call) && !has_computed(call));
        return (None, call.cloned());
    };
    // Any call may compute, or do what is not known: another one on the same line is as likely. A
    // small one is not: one without arguments on the result of the known one or inside it, as in
    // `sha256(text.encode()).digest()`. What waits elsewhere may compute by its arguments alone.
    let is_step = |other: &Call| {
        let has_none = matches!(&other.arguments, Some(all) if all.all.is_empty());
        let is_inside = call.range.contains(&other.range.start);
        (has_none && is_inside) || SMALL.contains(&&*other.path)
    };
    let is_computation = function.kind == Kind::Computation;
    let is_alone = |other: &Call| on_line(other).is_some() || is_step(other);
    let may_be_any = is_computation || computes;
    let is_sure = !may_be_any || site.calls.iter().all(is_alone);
    if is_sure && (is_computation || !has_computed(call)) {
        return (Some((function, name.to_owned())), Some(call.clone()));
    }
    (None, None)
}

/// The call in a line that has a name of the function, if it is the only one.
fn only_call_of<'site>(function: &Function, site: &'site Site) -> Option<&'site Call> {
    let is_it = |call: &&Call| {
        let last = |name: &String| name.rsplit('.').next() == Some(call.name());
        function
            .methods
            .iter()
            .any(|name| call.receiver.is_some() && last(name))
            || function.names.iter().any(last)
    };
    let mut calls = site.calls.iter().filter(is_it);
    calls.next().filter(|_| calls.next().is_none())
}

/// The name of the catalogue that a stack entry or a call has; the place of the function where it
/// has none; or the first name: of a method, if the cure is for methods.
fn shown_name(function: &Function, entry: &Entry, call: Option<&Call>, places: &Places) -> String {
    let is_for_methods =
        matches!(&function.remedy.cure, Some(Cure::Line(line)) if line.contains("{receiver}"));
    let (first, second) = if is_for_methods {
        (&function.methods, &function.names)
    } else {
        (&function.names, &function.methods)
    };
    let mut names = first.iter().chain(second);
    let shown = names.clone().find(|name| {
        let before = name.strip_suffix(&*entry.function);
        before.is_some_and(|before| before.ends_with('.'))
    });
    let same = call.and_then(|call| {
        let mut names = names.clone();
        names.find(|name| name.rsplit('.').next() == Some(call.name()))
    });
    if let Some(name) = shown.or(same) {
        return name.clone();
    }
    let place = place_of(function, entry, places);
    place.or_else(|| names.next().cloned()).unwrap_or_default()
}

/// The dotted name of a function on the stack by its file; none where the catalogue has a pattern
/// for that very function, or where it has no name to import it by.
fn place_of(function: &Function, entry: &Entry, places: &Places) -> Option<String> {
    let qualified = &*entry.function;
    let mut patterns = function.entries.iter();
    let is_meant = patterns.any(|pattern| {
        let wanted = pattern.split_once(':').map(|(_, wanted)| wanted);
        wanted == Some(qualified)
    });
    let file = places.shown(&entry.filename).replace('\\', "/");
    let module = file.strip_suffix(".py")?;
    let module = module.strip_suffix("/__init__").unwrap_or(module);
    let has_name = !module.starts_with('/') && !module.contains(':') && !qualified.contains('<');
    (has_name && !is_meant && function.kind != Kind::Import)
        .then(|| format!("{}.{qualified}", module.replace('/', ".")))
}
