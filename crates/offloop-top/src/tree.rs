//! Tasks as a tree: each stands below the first task that awaits it.
//!
//! Invariants: every task is in the tree once, also where tasks await each other in a circle.

use std::collections::{HashMap, HashSet};

use offloop_views::document::Task;

/// Branches within each other that are drawn; those further in stand beside them.
const DEPTH_MAX: usize = 16;

/// A task in the tree.
#[derive(Clone, Debug)]
pub struct Branch<'a> {
    /// The task.
    pub task: &'a Task,
    /// For each branch around it, whether that one goes on below; the last one is its own.
    pub goes_on: Vec<bool>,
}

/// All tasks in the order in which they are drawn.
#[must_use]
pub fn branches(tasks: &[Task]) -> Vec<Branch<'_>> {
    let known: HashSet<&str> = tasks.iter().map(|task| task.id.as_str()).collect();
    let mut below: HashMap<&str, Vec<&Task>> = HashMap::new();
    let mut roots = Vec::new();
    for task in tasks {
        let awaiting = task
            .awaited_by
            .iter()
            .find(|id| known.contains(id.as_str()));
        match awaiting {
            Some(id) => below.entry(id).or_default().push(task),
            None => roots.push(task),
        }
    }
    let mut drawn = HashSet::new();
    let mut found = Vec::with_capacity(tasks.len());
    // The last ones are in a circle, which has no root.
    for root in roots.into_iter().chain(tasks) {
        let mut waiting = vec![(root, Vec::new())];
        while let Some((task, goes_on)) = waiting.pop() {
            if !drawn.insert(task.id.as_str()) {
                continue;
            }
            let inner = below.get(task.id.as_str()).map_or(&[][..], Vec::as_slice);
            for (index, each) in inner.iter().enumerate().rev() {
                let mut line: Vec<bool> = goes_on.clone();
                if line.len() < DEPTH_MAX {
                    line.push(index + 1 < inner.len());
                }
                waiting.push((each, line));
            }
            found.push(Branch { task, goes_on });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: &str, awaited_by: &[&str]) -> Task {
        Task {
            id: id.to_owned(),
            awaited_by: awaited_by.iter().map(|&id| id.to_owned()).collect(),
            ..Task::default()
        }
    }

    fn drawn(tasks: &[Task]) -> Vec<(&str, Vec<bool>)> {
        let found = branches(tasks).into_iter();
        found
            .map(|branch| (branch.task.id.as_str(), branch.goes_on))
            .collect()
    }

    #[test]
    fn tasks_stand_below_what_awaits_them() {
        let tasks = [
            task("c", &["b"]),
            task("a", &[]),
            task("b", &["gone", "a"]),
            task("d", &["a"]),
            task("e", &["gone"]),
        ];
        assert_eq!(
            drawn(&tasks),
            [
                ("a", vec![]),
                ("b", vec![true]),
                ("c", vec![true, false]),
                ("d", vec![false]),
                ("e", vec![]),
            ]
        );
    }

    #[test]
    fn tasks_in_a_circle_and_a_long_chain_are_drawn_once() {
        let circle = [task("a", &["b"]), task("b", &["a"]), task("c", &["c"])];
        assert_eq!(drawn(&circle).len(), 3);
        let chain: Vec<Task> = (0..10_000)
            .map(|number| task(&number.to_string(), &[&(number - 1).to_string()]))
            .collect();
        let found = branches(&chain);
        assert_eq!(found.len(), 10_000);
        assert!(found.iter().all(|branch| branch.goes_on.len() <= DEPTH_MAX));
    }
}
