//! What is asked and what must come back: echoed bytes, or an HTTP response.
//!
//! Shape: an echo's first and last eight bytes are its number, so that no answer can be remembered
//!        or mixed up; between them stand bytes that stay as they are.

use std::io;

use crate::arguments::Question;

/// Bytes at each end of an echo that carry its number.
const STAMP: usize = 8;
/// What a browser would send at least.
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";
/// A response of the servers is below 300 bytes; more means that it is not what was asked for.
const RESPONSE_BYTES_MAX: usize = 4096;
/// What the applications answer.
const GREETING: &[u8] = b"Hello, world!";

/// One connection's side of question and answer.
pub struct Exchange {
    question: Question,
    request: Vec<u8>,
    /// Of an echo its two stamps, of a response everything.
    answer: Vec<u8>,
    /// How many bytes of the answer have come.
    received: usize,
    number: u64,
}

impl Exchange {
    /// Prepare for a question; an echo is at least two stamps long.
    pub fn new(question: Question, first: u64) -> Self {
        let request = match question {
            Question::Echo(size) => (0..size.max(2 * STAMP)).map(|at| at as u8).collect(),
            Question::Http => GET.to_vec(),
        };
        Self {
            question,
            request,
            answer: Vec::new(),
            received: 0,
            number: first,
        }
    }

    /// Begin the next exchange.
    pub fn begin(&mut self) {
        self.answer.clear();
        self.received = 0;
        if matches!(self.question, Question::Echo(_)) {
            self.number += 1;
            let stamp = self.number.to_le_bytes();
            self.request[..STAMP].copy_from_slice(&stamp);
            let end = self.request.len() - STAMP;
            self.request[end..].copy_from_slice(&stamp);
        }
    }

    /// The bytes to send.
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Take in what has come; return whether the answer is complete.
    pub fn receive(&mut self, bytes: &[u8]) -> io::Result<bool> {
        match self.question {
            Question::Echo(_) => self.receive_echo(bytes),
            Question::Http => {
                self.answer.extend_from_slice(bytes);
                self.responded()
            }
        }
    }

    /// Keep the stamps of an echo and count the rest: a copy of it all would slow the client down.
    fn receive_echo(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let (start, end) = (self.received, self.received + bytes.len());
        let last = self.request.len() - STAMP;
        for stamp in [0..STAMP, last..last + STAMP] {
            let kept = stamp.start.max(start)..stamp.end.min(end);
            if !kept.is_empty() {
                self.answer
                    .extend_from_slice(&bytes[kept.start - start..kept.end - start]);
            }
        }
        self.received = end;
        if end < self.request.len() {
            return Ok(false);
        }
        let stamp = self.number.to_le_bytes();
        if end == self.request.len() && self.answer == [stamp, stamp].concat() {
            Ok(true)
        } else {
            Err(wrong("the echo differs from what was sent"))
        }
    }

    fn responded(&self) -> io::Result<bool> {
        let Some(head) = self.answer.windows(4).position(|at| at == b"\r\n\r\n") else {
            return match self.answer.len() {
                0..=RESPONSE_BYTES_MAX => Ok(false),
                _ => Err(wrong("the head of the response does not end")),
            };
        };
        let (head, body) = (&self.answer[..head], &self.answer[head + 4..]);
        if !head.starts_with(b"HTTP/1.1 200 ") {
            return Err(wrong("the response is not 200"));
        }
        let length = content_length(head).ok_or_else(|| wrong("no content length"))?;
        if body.len() < length {
            return Ok(false);
        }
        if body == GREETING {
            Ok(true)
        } else {
            Err(wrong("the response is not the greeting"))
        }
    }
}

/// Find the length of the body in the head of a response.
fn content_length(head: &[u8]) -> Option<usize> {
    let head = str::from_utf8(head).ok()?;
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    })
}

fn wrong(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn echo_in_pieces_is_complete_at_its_last_byte() {
        let mut exchange = Exchange::new(Question::Echo(64), 7);
        exchange.begin();
        let answer = exchange.request().to_vec();
        assert!(!exchange.receive(&answer[..63]).unwrap());
        assert!(exchange.receive(&answer[63..]).unwrap());
    }

    #[test]
    fn echo_of_an_earlier_request_is_refused() {
        let mut exchange = Exchange::new(Question::Echo(64), 7);
        exchange.begin();
        let old = exchange.request().to_vec();
        exchange.begin();
        assert!(exchange.receive(&old).is_err());
    }

    #[test]
    fn response_in_pieces_is_complete_with_its_body() {
        let mut exchange = Exchange::new(Question::Http, 0);
        exchange.begin();
        assert!(
            !exchange
                .receive(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r")
                .unwrap()
        );
        assert!(!exchange.receive(b"\nHello, ").unwrap());
        assert!(exchange.receive(b"world!").unwrap());
    }

    #[test]
    fn response_of_another_kind_is_refused() {
        let mut exchange = Exchange::new(Question::Http, 0);
        exchange.begin();
        assert!(
            exchange
                .receive(b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n")
                .is_err()
        );
    }
}
