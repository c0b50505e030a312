//! The events of the page, as `text/event-stream`: documents, and what was recorded between them.
//!
//! An event is made when the connection has room for it. So a viewer that reads slowly gets fewer,
//! and none waits for it.
//!
//! Invariants: 1. At most one event is under way.
//!             2. An event has a limited number of records: see `timeline.rs`.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame};
use offloop::recorder::Recorder;
use serde::Serialize;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::answers::Answers;
use crate::document::Document;
use crate::timeline::{Timeline, timeline};

/// How far events are apart.
const APART: Duration = Duration::from_millis(500);

/// An event: a document, and the time since the one before.
#[derive(Serialize)]
struct Told<'told> {
    document: &'told Document,
    timeline: &'told Timeline,
}

/// Where a viewer is.
#[derive(Clone, Copy, Default)]
struct Place {
    event: u64,
    record: u64,
}

type Making = Pin<Box<dyn Future<Output = (Place, Vec<u8>)> + Send>>;

/// What a viewer reads.
pub(super) struct Feed {
    answers: Arc<Answers>,
    recorder: Option<Arc<Recorder>>,
    place: Place,
    interval: Interval,
    making: Option<Making>,
}

impl Feed {
    pub(super) fn new(answers: Arc<Answers>, recorder: Option<Arc<Recorder>>) -> Self {
        let mut interval = interval(APART);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            answers,
            recorder,
            place: Place::default(),
            interval,
            making: None,
        }
    }

    fn make(&self) -> Making {
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
            // Texts, numbers and lists: none of them can fail, or has a line's end.
            let data = serde_json::to_vec(&told).unwrap_or_default();
            let mut event = b"data: ".to_vec();
            event.extend(data);
            event.extend(b"\n\n");
            (place, event)
        })
    }
}

impl Body for Feed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.making.is_none() {
            ready!(self.interval.poll_tick(context));
            self.making = Some(self.make());
        }
        let Some(making) = &mut self.making else {
            return Poll::Ready(None);
        };
        let (place, event) = ready!(making.as_mut().poll(context));
        self.place = place;
        self.making = None;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(event)))))
    }
}
