//! A stack as it is read: the user's entries by themselves, runs of library code as one line each,
//! and the innermost entry, which is the one that blocks, whosever it is.
//!
//! The outermost entry comes first, as in a traceback. What runs the loop is left out, and so is
//! what has started it: a callback begins inside.

use super::super::culprit::Blame;
use super::super::places::Owner;
use super::super::record::Entry;
use super::Writer;
use super::layout::{Line, Paint};
use super::phrases::counted;

/// Packages that are named in one line.
const PACKAGES_MAX: usize = 4;

/// A line of a stack.
enum Fold {
    /// An entry that is shown by itself, by its index.
    Own(usize),
    /// Entries of packages, in their order.
    Libraries(Vec<(std::sync::Arc<str>, usize)>),
}

impl Writer<'_> {
    /// The stack in at most so many lines; none if it says no more than the place does.
    pub(super) fn stack(&self, room: usize, lines_max: usize) -> Vec<Line> {
        let stack = &self.stall.stack;
        let outside = stack.entries.iter().position(|entry| self.runs_loop(entry));
        let inside = &stack.entries[..outside.unwrap_or(stack.entries.len())];
        if self.stall.cause.blames_no_code() || inside.is_empty() || lines_max == 0 {
            return Vec::new();
        }
        let culprit = self.diagnosis.culprit.as_ref().map(|culprit| culprit.index);
        let folds = self.folds(inside);
        let own = folds.iter().filter(|fold| matches!(fold, Fold::Own(_)));
        let says_more = own.count() > 1 || culprit.is_none_or(|index| index > 0);
        if !says_more {
            return Vec::new();
        }
        let dots = self.style.dots();
        let mut lines = Vec::new();
        if stack.cut > 0 && outside.is_none() {
            let further = counted(u64::from(stack.cut), "entry", "entries");
            lines.push(format!("{dots} {further} further out"));
        }
        for fold in &folds {
            lines.push(match fold {
                Fold::Own(index) => {
                    let (place, function) = self.entry(&stack.entries[*index]);
                    let place = super::shortened_path(&place, room * 2 / 3, self.style);
                    format!("{place} in {function}")
                }
                Fold::Libraries(packages) => format!("{dots} {}", self.packages(packages)),
            });
        }
        if stack.hidden > 0 {
            let hidden = counted(u64::from(stack.hidden), "entry", "entries");
            lines.push(format!("{dots} {hidden} that came and went"));
        }
        let left_out = lines.len().saturating_sub(lines_max);
        if left_out > 0 {
            // The inner lines are kept: they are nearer what blocks.
            lines.drain(..=left_out);
            let further = counted(left_out as u64 + 1, "line", "lines");
            lines.insert(0, format!("{dots} {further} further out"));
        }
        lines.truncate(lines_max);
        let faint = |line: &String| line.starts_with(dots);
        let paint = |line: &String| {
            if faint(line) {
                Paint::Faint
            } else {
                Paint::Plain
            }
        };
        lines
            .iter()
            .map(|line| {
                Line::of(
                    paint(line),
                    super::layout::shortened(line, room, self.style),
                )
            })
            .collect()
    }

    /// Whether an entry is the loop itself.
    fn runs_loop(&self, entry: &Entry) -> bool {
        match self.places.owner(&entry.filename) {
            Owner::User => false,
            Owner::Library(package) if &*package == "asyncio" => {
                let file = self.places.shown(&entry.filename);
                let file = file.rsplit(['/', '\\']).next().unwrap_or_default();
                matches!(file, "events.py" | "base_events.py" | "runners.py")
            }
            Owner::Library(package) => matches!(&*package, "uvloop" | "offloop"),
        }
    }

    fn folds(&self, inside: &[Entry]) -> Vec<Fold> {
        let mut folds: Vec<Fold> = Vec::new();
        let entries = inside.iter().enumerate().rev();
        for (index, entry) in entries {
            match self.owner(index, entry) {
                Owner::User => folds.push(Fold::Own(index)),
                Owner::Library(name) => {
                    if let Some(Fold::Libraries(packages)) = folds.last_mut() {
                        match packages.iter_mut().find(|(package, _)| *package == name) {
                            Some((_, count)) => *count += 1,
                            None => packages.push((name, 1)),
                        }
                    } else {
                        folds.push(Fold::Libraries(vec![(name, 1)]));
                    }
                }
            }
        }
        folds
    }

    /// The culprit and the innermost entry are shown by themselves whosever they are, and so is all
    /// of the package that is taken for the application.
    fn owner(&self, index: usize, entry: &Entry) -> Owner {
        let culprit = self.diagnosis.culprit.as_ref();
        let is_innermost = index == 0 && self.stall.stack.hidden == 0;
        if is_innermost || culprit.is_some_and(|culprit| culprit.index == index) {
            return Owner::User;
        }
        let owner = self.places.owner(&entry.filename);
        match culprit {
            Some(culprit) if culprit.blame == Blame::Application && culprit.owner == owner => {
                Owner::User
            }
            _ => owner,
        }
    }

    /// `7 entries of starlette, 3 of uvicorn`.
    fn packages(&self, packages: &[(std::sync::Arc<str>, usize)]) -> String {
        let mut words = Vec::new();
        for (number, (package, count)) in packages.iter().take(PACKAGES_MAX).enumerate() {
            let package = self.harmless(package);
            words.push(if number == 0 {
                format!(
                    "{} of {package}",
                    counted(*count as u64, "entry", "entries")
                )
            } else {
                format!("{count} of {package}")
            });
        }
        let rest: usize = packages
            .iter()
            .skip(PACKAGES_MAX)
            .map(|(_, count)| count)
            .sum();
        if rest > 0 {
            words.push(format!("{rest} more"));
        }
        words.join(", ")
    }
}
