//! What is shown, what is chosen, what is asked: changed by keys and by answers, and by nothing
//! else.
//!
//! Invariants: 1. A call is killed and a task cancelled only after two questions, which different
//!                keys answer, and only if it is still the same call or task.
//!             2. What is chosen stays chosen while its list changes around it.

use crate::history::History;
use crate::tree::{self, Branch};
use offloop_views::document::{Culprit, Document, Fleet, Task, Worker};

/// A key, or what several keys mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// One line up.
    Up,
    /// One line down.
    Down,
    /// A screen up.
    PageUp,
    /// A screen down.
    PageDown,
    /// To the next section.
    Next,
    /// To the one before.
    Previous,
    /// Opens what is chosen.
    Enter,
    /// Back, or out.
    Escape,
    /// A letter.
    Letter(char),
}

/// A list that keys move in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Section {
    /// What blocked loops.
    #[default]
    Culprits,
    /// Worker processes.
    Workers,
    /// Tasks of the loops.
    Tasks,
}

/// All sections, in the order of the screen.
pub const SECTIONS: [Section; 3] = [Section::Culprits, Section::Workers, Section::Tasks];

/// What a row of a section is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A line of source, and the cause.
    Culprit(String, i32, String),
    /// A worker's process id.
    Worker(i32),
    /// A task.
    Task(String),
}

impl Item {
    /// That of a culprit. One without a line of source is known by its function, or its cause.
    #[must_use]
    pub fn of_culprit(culprit: &Culprit) -> Self {
        let file = culprit.file.as_ref().or(culprit.function.as_ref());
        let name = file.unwrap_or(&culprit.cause).clone();
        Self::Culprit(name, culprit.line.unwrap_or(0), culprit.cause.clone())
    }
}

/// What fills the screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Page {
    /// All sections.
    #[default]
    Overview,
    /// All that is known of one row.
    Item(Item),
    /// What the keys do.
    Help,
}

/// What the program under view is asked to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Kill what a worker runs.
    Kill {
        /// The worker's process id.
        pid: i32,
        /// The function that it runs.
        function: String,
        /// When it began.
        started: f64,
    },
    /// Cancel a task.
    Cancel {
        /// What the document calls it.
        id: String,
        /// Its name.
        name: String,
    },
}

/// A question that waits for its key.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// What is to be done.
    pub act: Act,
    /// It was answered once.
    pub is_second: bool,
}

/// What a key led to.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    /// Nothing but another picture.
    Look,
    /// The end.
    Quit,
    /// Twice confirmed.
    Do(Act),
}

/// A row that keys are on.
#[derive(Clone, Debug, Default)]
struct Choice {
    index: usize,
    item: Option<Item>,
}

/// All that is shown.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The last document.
    pub document: Document,
    /// What the documents so far told of lags.
    pub history: History,
    /// Processor time per second between the last two documents.
    pub processor: Option<f64>,
    /// What fills the screen.
    pub page: Page,
    /// Where keys move.
    pub section: Section,
    /// Lines that the page was moved by.
    pub scroll: usize,
    /// The loop that is drawn, by its place in the document.
    pub loop_index: usize,
    /// What waits for an answer.
    pub question: Option<Question>,
    /// What came of the last act.
    pub said: Option<String>,
    /// Why the document is old.
    pub silent: Option<String>,
    /// Documents are not shown.
    pub is_paused: bool,
    /// Keys are pressed: it is shown which row they are for.
    pub is_attended: bool,
    /// Why nothing can be killed or cancelled.
    pub only_read: Option<String>,
    choices: [Choice; SECTIONS.len()],
}

impl State {
    /// A new document has come.
    pub fn handle_document(&mut self, document: Document) {
        self.silent = None;
        self.history.add(&document);
        if self.is_paused {
            return;
        }
        let (last, now) = (&self.document.process, &document.process);
        let passed = now.now - last.now;
        if let (Some(before), Some(after)) = (last.cpu_seconds, now.cpu_seconds)
            && passed > 0.05
        {
            self.processor = Some((after - before).max(0.0) / passed);
        }
        self.document = document;
        self.loop_index = self
            .loop_index
            .min(self.document.loops.len().saturating_sub(1));
        for section in SECTIONS {
            let items = self.items(section);
            let choice = &mut self.choices[section as usize];
            let kept = items
                .iter()
                .position(|item| Some(item) == choice.item.as_ref());
            choice.index = kept.unwrap_or(choice.index.min(items.len().saturating_sub(1)));
            choice.item = items.get(choice.index).cloned();
        }
    }

    /// A key was pressed.
    pub fn handle_key(&mut self, key: Key) -> Wish {
        self.said = None;
        if let Some(question) = self.question.take() {
            return self.answer(question, key);
        }
        match key {
            Key::Letter('q') => return Wish::Quit,
            Key::Escape if self.page == Page::Overview => return Wish::Quit,
            Key::Escape => self.open(Page::Overview),
            Key::Letter('?' | 'h') => self.open(Page::Help),
            Key::Letter('p' | ' ') => self.is_paused = !self.is_paused,
            Key::Letter('l') => {
                self.loop_index = (self.loop_index + 1) % self.document.loops.len().max(1);
            }
            Key::Letter('k') => self.ask_to_kill(),
            Key::Letter('c') => self.ask_to_cancel(),
            key if self.page == Page::Overview => self.move_in_lists(key),
            Key::Up => self.scroll = self.scroll.saturating_sub(1),
            Key::Down => self.scroll = self.scroll.saturating_add(1),
            Key::PageUp => self.scroll = self.scroll.saturating_sub(10),
            Key::PageDown => self.scroll = self.scroll.saturating_add(10),
            _ => {}
        }
        Wish::Look
    }

    fn open(&mut self, page: Page) {
        self.page = page;
        self.scroll = 0;
    }

    fn move_in_lists(&mut self, key: Key) {
        let place = SECTIONS.iter().position(|&section| section == self.section);
        let place = place.unwrap_or(0);
        match key {
            Key::Next => self.section = SECTIONS[(place + 1) % SECTIONS.len()],
            Key::Previous => {
                self.section = SECTIONS[(place + SECTIONS.len() - 1) % SECTIONS.len()];
            }
            Key::Up => self.step(|index| index.saturating_sub(1)),
            Key::Down => self.step(|index| index.saturating_add(1)),
            Key::PageUp => self.step(|index| index.saturating_sub(10)),
            Key::PageDown => self.step(|index| index.saturating_add(10)),
            Key::Enter => {
                if let Some(item) = self.choices[self.section as usize].item.clone() {
                    self.open(Page::Item(item));
                }
            }
            _ => {}
        }
    }

    fn step(&mut self, to: impl Fn(usize) -> usize) {
        let items = self.items(self.section);
        let choice = &mut self.choices[self.section as usize];
        choice.index = to(choice.index).min(items.len().saturating_sub(1));
        choice.item = items.get(choice.index).cloned();
    }

    fn answer(&mut self, question: Question, key: Key) -> Wish {
        let wanted = match (&question.act, question.is_second) {
            (_, false) => 'y',
            (Act::Kill { .. }, true) => 'k',
            (Act::Cancel { .. }, true) => 'c',
        };
        if key != Key::Letter(wanted) {
            self.said = Some("nothing was done".to_owned());
        } else if !self.is_there(&question.act) {
            self.said = Some("it has ended meanwhile; nothing was done".to_owned());
        } else if question.is_second {
            return Wish::Do(question.act);
        } else {
            self.question = Some(Question {
                is_second: true,
                ..question
            });
        }
        Wish::Look
    }

    fn is_there(&self, act: &Act) -> bool {
        match act {
            Act::Kill { pid, started, .. } => self.worker(*pid).is_some_and(|worker| {
                let running = worker.running.as_ref();
                running.is_some_and(|running| (running.started - started).abs() < 0.001)
            }),
            Act::Cancel { id, .. } => self.task(id).is_some(),
        }
    }

    fn ask_to_kill(&mut self) {
        let item = self.acted_on(Section::Workers);
        let Some(Item::Worker(pid)) = item else {
            self.said = Some("k kills what a worker runs: choose a worker".to_owned());
            return;
        };
        let running = self.worker(pid).and_then(|worker| worker.running.clone());
        match (&self.only_read, running) {
            (Some(reason), _) => self.said = Some(reason.clone()),
            (None, None) => self.said = Some(format!("worker {pid} runs no call")),
            (None, Some(running)) => self.ask(Act::Kill {
                pid,
                function: running.function.unwrap_or_else(|| "a call".to_owned()),
                started: running.started,
            }),
        }
    }

    fn ask_to_cancel(&mut self) {
        let item = self.acted_on(Section::Tasks);
        let Some(Item::Task(id)) = item else {
            self.said = Some("c cancels a task: choose a task".to_owned());
            return;
        };
        let name = self.task(&id).map(|task| task.name.clone());
        match (&self.only_read, name) {
            (Some(reason), _) => self.said = Some(reason.clone()),
            (None, None) => self.said = Some("the task has ended".to_owned()),
            (None, Some(name)) => self.ask(Act::Cancel { id, name }),
        }
    }

    fn ask(&mut self, act: Act) {
        self.question = Some(Question {
            act,
            is_second: false,
        });
    }

    /// What an act is for: what is open, or what is chosen in the section that keys move in.
    fn acted_on(&self, section: Section) -> Option<Item> {
        match &self.page {
            Page::Item(item) => Some(item.clone()),
            Page::Overview if self.section == section => {
                self.choices[section as usize].item.clone()
            }
            _ => None,
        }
    }

    fn items(&self, section: Section) -> Vec<Item> {
        match section {
            Section::Culprits => {
                let culprits = self.document.culprits.iter();
                culprits.map(Item::of_culprit).collect()
            }
            Section::Workers => self
                .workers()
                .map(|(_, each)| Item::Worker(each.pid))
                .collect(),
            Section::Tasks => {
                let branches = self.branches();
                branches
                    .iter()
                    .map(|each| Item::Task(each.task.id.clone()))
                    .collect()
            }
        }
    }

    /// The row of a section that keys act on.
    #[must_use]
    pub fn chosen(&self, section: Section) -> usize {
        self.choices[section as usize].index
    }

    /// All workers, with their fleets.
    pub fn workers(&self) -> impl Iterator<Item = (&Fleet, &Worker)> {
        let fleets = self.document.pools.fleets.iter();
        fleets.flat_map(|fleet| fleet.workers.iter().map(move |worker| (fleet, worker)))
    }

    /// A worker that is there.
    #[must_use]
    pub fn worker(&self, pid: i32) -> Option<&Worker> {
        let mut workers = self.workers();
        workers.find_map(|(_, worker)| (worker.pid == pid).then_some(worker))
    }

    /// A task that is there.
    #[must_use]
    pub fn task(&self, id: &str) -> Option<&Task> {
        self.document.tasks.tasks.iter().find(|task| task.id == id)
    }

    /// The tasks, each below the first one that awaits it.
    #[must_use]
    pub fn branches(&self) -> Vec<Branch<'_>> {
        tree::branches(&self.document.tasks.tasks)
    }
}
