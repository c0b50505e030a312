//! The events of the page, as `text/event-stream`: documents.
//!
//! An event is made when the connection has room for it. So a viewer that reads slowly gets fewer,
//! and none waits for it.
//!
//! Invariants: 1. At most one event is under way.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame};
use serde::Serialize;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::answers::Answers;
use crate::document::Document;

/// How far events are apart.
const APART: Duration = Duration::from_millis(500);

/// An event.
#[derive(Serialize)]
struct Told<'told> {
    document: &'told Document,
}

/// The number of the last entry of the journal that it tells, and the event.
type Making = Pin<Box<dyn Future<Output = (u64, Vec<u8>)> + Send>>;

/// What a viewer reads.
pub(super) struct Feed {
    answers: Arc<Answers>,
    /// The last entry of the journal that the viewer was told.
    last: u64,
    interval: Interval,
    making: Option<Making>,
}

impl Feed {
    pub(super) fn new(answers: Arc<Answers>) -> Self {
        let mut interval = interval(APART);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            answers,
            last: 0,
            interval,
            making: None,
        }
    }

    fn make(&self) -> Making {
        let answers = Arc::clone(&self.answers);
        let last = self.last;
        Box::pin(async move {
            let document = answers.look(last).await;
            let told = Told {
                document: &document,
            };
            // Texts, numbers and lists: none of them can fail, or has a line's end.
            let data = serde_json::to_vec(&told).unwrap_or_default();
            let mut event = b"data: ".to_vec();
            event.extend(data);
            event.extend(b"\n\n");
            (document.events.last, event)
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
        let (last, event) = ready!(making.as_mut().poll(context));
        self.last = last;
        self.making = None;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(event)))))
    }
}
