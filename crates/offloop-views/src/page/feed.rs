//! The events of the page, as `text/event-stream`: documents, and what was recorded between them.
//!
//! An event is made when the connection has room for it. So a viewer that reads slowly gets fewer,
//! and none waits for it. Each has an id, and a viewer that comes back with it goes on behind it.
//!
//! ```text
//! id: 12-3456               the last entry of the journal, the last record
//! data: {"document": …, "timeline": …}
//!
//! event: state              ten times a second while a loop is blocked, and once when none is
//! data: {"now": …, "loops": …, "stalls": …}
//! ```
//!
//! Invariants: 1. At most one event is under way.
//!             2. An event has a limited number of records: see `timeline.rs`.

use std::convert::Infallible;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame};
use offloop::recorder::Recorder;
use serde::Serialize;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use crate::answers::Answers;
use crate::document::{Document, Loop};
use crate::timeline::{Timeline, timeline};

/// How far documents are apart.
const APART: Duration = Duration::from_millis(500);
/// How often it looks whether a loop is blocked, and tells for how long. The page shows no stall as
/// longer than it was told.
const LOOK: Duration = Duration::from_millis(100);

/// An event: a document, and the time since the one before.
#[derive(Serialize)]
struct Told<'told> {
    document: &'told Document,
    timeline: &'told Timeline,
}

/// Where a viewer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    event: u64,
    record: u64,
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (event, record) = text.split_once('-').ok_or(())?;
        Ok(Self {
            event: event.parse().map_err(|_| ())?,
            record: record.parse().map_err(|_| ())?,
        })
    }
}

/// What is sent next, and what is known then.
struct Made {
    place: Place,
    is_blocked: bool,
    /// Empty where nothing is to be told.
    event: Vec<u8>,
}

type Making = Pin<Box<dyn Future<Output = Made> + Send>>;

/// What a viewer reads.
pub(super) struct Feed {
    answers: Arc<Answers>,
    recorder: Option<Arc<Recorder>>,
    place: Place,
    /// Whether a loop was blocked when it was told last.
    is_blocked: bool,
    /// When the next document is due.
    due: Instant,
    interval: Interval,
    making: Option<Making>,
}

impl Feed {
    pub(super) fn new(
        answers: Arc<Answers>,
        recorder: Option<Arc<Recorder>>,
        place: Place,
    ) -> Self {
        let mut interval = interval(LOOK);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // A number that was never given is of another page.
        let last = recorder.as_ref().map_or(0, |recorder| recorder.last());
        let is_known = place.record <= last;
        Self {
            answers,
            recorder,
            place: if is_known { place } else { Place::default() },
            is_blocked: false,
            due: Instant::now(),
            interval,
            making: None,
        }
    }

    fn make(&mut self) -> Making {
        let now = Instant::now();
        if now < self.due {
            return self.state();
        }
        self.due = now + APART - LOOK / 2;
        let answers = Arc::clone(&self.answers);
        let recorder = self.recorder.clone();
        let Place { event, record } = self.place;
        Box::pin(async move {
            let document = answers.look(event).await;
            let timeline = recorder.map(|recorder| timeline(&recorder, record));
            let timeline = timeline.unwrap_or_default();
            let place = Place {
                event: document.events.last,
                record: timeline.last,
            };
            let told = Told {
                document: &document,
                timeline: &timeline,
            };
            let head = format!("id: {}-{}\n", place.event, place.record);
            Made {
                place,
                is_blocked: is_blocked(&document.loops),
                event: event_of(head, &told),
            }
        })
    }

    fn state(&self) -> Making {
        let answers = Arc::clone(&self.answers);
        let (place, was_blocked) = (self.place, self.is_blocked);
        Box::pin(async move {
            let state = answers.state(was_blocked);
            Made {
                place,
                is_blocked: state.as_ref().is_some_and(|state| is_blocked(&state.loops)),
                event: state.map_or_else(Vec::new, |state| {
                    event_of("event: state\n".to_owned(), &state)
                }),
            }
        })
    }
}

fn is_blocked(loops: &[Loop]) -> bool {
    loops.iter().any(|each| each.blocked.is_some())
}

fn event_of(head: String, told: &impl Serialize) -> Vec<u8> {
    let mut event = head.into_bytes();
    event.extend(b"data: ");
    // Texts, numbers and lists: none of them can fail, or has a line's end.
    event.extend(serde_json::to_vec(told).unwrap_or_default());
    event.extend(b"\n\n");
    event
}

impl Body for Feed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            if self.making.is_none() {
                ready!(self.interval.poll_tick(context));
                self.making = Some(self.make());
            }
            let Some(making) = &mut self.making else {
                return Poll::Ready(None);
            };
            let made = ready!(making.as_mut().poll(context));
            self.making = None;
            self.place = made.place;
            self.is_blocked = made.is_blocked;
            if !made.event.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from(made.event)))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_back_and_nothing_else_is_one() {
        let place = Place {
            event: 12,
            record: 3456,
        };
        assert_eq!("12-3456".parse(), Ok(place));
        for other in [
            "",
            "12",
            "-",
            "12-",
            "a-1",
            "1--2",
            "99999999999999999999-1",
        ] {
            assert_eq!(other.parse::<Place>(), Err(()), "{other}");
        }
    }
}
