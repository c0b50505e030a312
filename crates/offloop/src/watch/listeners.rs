//! What the watchdog tells: words on standard error, an entry of the journal, and the witness.
//!
//! All on the watchdog's thread, which is never attached: a stall is told while the loop's thread
//! keeps the GIL.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::stderr;
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use offloop_core::Instant;
use offloop_core::event_loop::Moment;
use offloop_core::watch::{
    Advice, Catalogue, Cause, Culprits, Diagnosis, News, Places, Stall, Style, Teller, Told,
    block_of,
};
use offloop_sys::clock::monotonic_ns;
use offloop_sys::terminal;

use super::source::SourceFiles;
use super::watchdog::{Audience, Facts, Question};
use super::watched::Slice;
use super::witness::Message;
use crate::runtime::Runtime;

/// Questions that are kept until they are answered: more than loops that stall at once.
const ASKED_MAX: usize = 16;

/// How long standard error may take nothing before what is to be said is given up.
const STDERR_PATIENCE: Duration = Duration::from_millis(200);

/// How a block is written that the program is to say: no terminal is known.
const PLAIN: Style = Style {
    colours: false,
    columns: 100,
    ascii: false,
};

/// The ranking of all that blocked a loop, for those that look.
pub type Ranking = Arc<Mutex<Culprits>>;

/// Those that hear of stalls.
pub(super) struct Listeners {
    witness: SyncSender<Message>,
    /// Questions that were not answered yet.
    asked: VecDeque<(Slice, Receiver<Facts>)>,
    runtime: Runtime,
    places: Places,
    sources: SourceFiles,
    ranking: Ranking,
    news: News,
    /// `None` if nothing is to be said.
    teller: Option<(Style, Teller)>,
    /// Reports that standard error did not take.
    unsaid: u64,
    /// Stalls that the witness was too busy to hear of.
    unheard: u64,
}

impl Listeners {
    pub(super) fn new(
        witness: SyncSender<Message>,
        runtime: Runtime,
        places: Places,
        style: Option<Style>,
        ranking: Ranking,
    ) -> Self {
        Self {
            witness,
            asked: VecDeque::new(),
            runtime,
            teller: style.map(|style| (style, Teller::new(style, places.clone()))),
            places,
            sources: SourceFiles::default(),
            ranking,
            news: News::default(),
            unsaid: 0,
            unheard: 0,
        }
    }

    fn write(&mut self, text: &str) {
        let mut text = text.to_owned();
        if self.unsaid > 0 {
            text.push_str(&format!(
                "\noffloop: standard error took nothing for a while: {} reports are missing",
                self.unsaid
            ));
        }
        text.push('\n');
        let patience = if self.unsaid == 0 {
            STDERR_PATIENCE
        } else {
            Duration::ZERO
        };
        let written = terminal::write_within(stderr().as_fd(), text.as_bytes(), patience);
        match written {
            Ok(()) => self.unsaid = 0,
            // It is counted, and said when there is room again; the journal has it.
            Err(_) => self.unsaid += 1,
        }
    }
}

/// The cure as one line; where no code helps, what to do.
fn line_of(advice: &Advice) -> Arc<str> {
    advice.cure.as_deref().unwrap_or(&advice.because).into()
}

impl Audience for Listeners {
    fn ask(&mut self, question: Question) {
        let (reply, answer) = sync_channel(1);
        let slice = question.slice;
        // A witness that is too busy is not asked.
        if self.witness.try_send(Message::Ask(question, reply)).is_ok() {
            self.asked.retain(|(asked, _)| *asked != slice);
            if self.asked.len() == ASKED_MAX {
                self.asked.pop_front();
            }
            self.asked.push_back((slice, answer));
        }
    }

    fn answer(&mut self, slice: Slice, until: Instant) -> Option<Facts> {
        let index = self.asked.iter().position(|(asked, _)| *asked == slice)?;
        let left = until.saturating_duration_since(Instant::from_nanos(monotonic_ns()));
        match self.asked[index].1.recv_timeout(left) {
            // It may answer later.
            Err(RecvTimeoutError::Timeout) => None,
            answered => {
                self.asked.remove(index);
                answered.ok()
            }
        }
    }

    fn say(&mut self, text: &str) {
        self.write(text);
    }

    fn settle(&mut self, reply: SyncSender<()>) {
        // It passes behind what was told. A witness that is too busy drops it, which says so.
        let _ = self.witness.try_send(Message::Settle(reply));
    }

    fn is_news(&mut self, stall: &Stall) -> bool {
        let stall = &*self.judged(stall);
        let diagnosis = self.diagnosis(stall);
        self.news.is_news(stall, &diagnosis)
    }

    fn tell(&mut self, slice: Slice, stall: &Stall, is_told: bool) {
        let stall = &*self.judged(stall);
        let diagnosis = self.diagnosis(stall);
        if is_told {
            self.news.told(stall, &diagnosis);
        }
        let mut ranking = self.ranking.lock().unwrap_or_else(PoisonError::into_inner);
        ranking.handle(stall, &diagnosis);
        drop(ranking);
        if !diagnosis.is_allowed() && !matches!(stall.moment, Moment::GoesOn { .. }) {
            self.record(slice, stall, &diagnosis, is_told);
        }
        // Last, for standard error may take its time.
        let teller = self.teller.as_mut().filter(|_| is_told);
        if let Some(text) = teller.and_then(|(style, teller)| {
            // The terminal may have got another size.
            let now = terminal::columns(stderr().as_fd()).map_or(usize::MAX, usize::from);
            let columns = now.min(style.columns);
            teller.set_style(Style { columns, ..*style });
            teller.tell(stall, &diagnosis)
        }) {
            self.write(&text);
        }
    }
}

impl Listeners {
    /// The stall as it is told: a debugger that waits for a person has stopped the thread.
    fn judged<'stall>(&self, stall: &'stall Stall) -> Cow<'stall, Stall> {
        let entries = &stall.stack.entries;
        if stall.cause.blames_no_code()
            || matches!(stall.cause, Cause::OtherThread { .. })
            || !Catalogue::shipped().is_in_debugger(entries, &self.places)
        {
            return Cow::Borrowed(stall);
        }
        Cow::Owned(Stall {
            cause: Cause::Stopped,
            ..stall.clone()
        })
    }

    fn diagnosis(&mut self, stall: &Stall) -> Diagnosis {
        Diagnosis::of(stall, Catalogue::shipped(), &self.places, &mut self.sources)
    }

    /// The journal and the witness.
    fn record(&mut self, slice: Slice, stall: &Stall, diagnosis: &Diagnosis, is_told: bool) {
        let culprit = diagnosis.culprit.as_ref();
        let words = is_told.then(|| block_of(stall, diagnosis, &self.places, PLAIN));
        let mut stall = stall.clone();
        if is_told {
            stall.suppressed += std::mem::take(&mut self.unheard);
        }
        let suppressed = stall.suppressed;
        let told = Arc::new(Told {
            stall,
            words: words.map(Arc::from),
            culprit: culprit.map(|culprit| culprit.entry.clone()),
            source: diagnosis.source.as_deref().map(Arc::from),
            advice: diagnosis.advice.as_ref().map(line_of),
        });
        self.runtime.note_stall(&told);
        if is_told {
            // A witness that is too busy hears of it no more; the journal has it.
            if self.witness.try_send(Message::Tell(slice, told)).is_err() {
                self.unheard = suppressed + 1;
            }
        }
    }
}
