//! The file for speedscope: each stack that a stall was found with, and for how long.
//!
//! Stalls with the same stack are one sample. The file is small, and is written anew with each
//! stall, so it is complete at any time.
//!
//! Source: speedscope's file-format-schema.json, a profile of type `sampled`.

use std::collections::HashMap;
use std::io;

use offloop_core::Instant;
use offloop_core::event_loop::Moment;
use offloop_core::watch::{Entry, Told};

use super::json::{Object, array};
use super::{Header, Output, Writer};
use crate::journal::Event;
use crate::recorder::{Record, What};

/// Different stacks that are kept; the time of more is put under one name.
const STACKS_MAX: usize = 1000;

pub(super) struct Speedscope {
    output: Output,
    /// What the file has.
    written: String,
    frames: Vec<Entry>,
    numbers: HashMap<Entry, usize>,
    /// Outermost first; the nanoseconds of each.
    samples: Vec<(Vec<usize>, u64)>,
    places: HashMap<Vec<usize>, usize>,
}

impl Speedscope {
    pub(super) fn new(output: Output) -> Self {
        Self {
            output,
            written: String::new(),
            frames: Vec::new(),
            numbers: HashMap::new(),
            samples: Vec::new(),
            places: HashMap::new(),
        }
    }

    fn number(&mut self, entry: &Entry) -> usize {
        let Self {
            frames, numbers, ..
        } = self;
        *numbers.entry(entry.clone()).or_insert_with(|| {
            frames.push(entry.clone());
            frames.len() - 1
        })
    }

    fn add(&mut self, told: &Told) {
        let stall = &told.stall;
        let left_out = Entry {
            filename: "".into(),
            function: "(other stacks)".into(),
            line: None,
        };
        let unread = Entry {
            function: format!("(no stack: {})", stall.cause.name()).into(),
            ..left_out.clone()
        };
        let full = self.samples.len() >= STACKS_MAX;
        let entries = &stall.stack.entries;
        let stack: Vec<usize> = match (full, entries.is_empty()) {
            (true, _) => vec![self.number(&left_out)],
            (false, true) => vec![self.number(&unread)],
            (false, false) => entries.iter().rev().map(|it| self.number(it)).collect(),
        };
        let samples = &mut self.samples;
        let place = *self.places.entry(stack.clone()).or_insert_with(|| {
            samples.push((stack, 0));
            samples.len() - 1
        });
        samples[place].1 += stall.lasted.as_nanos() as u64;
    }

    fn text(&self, header: &Header) -> String {
        let frames = self.frames.iter().map(|entry| {
            Object::new()
                .string("name", &entry.function)
                .string("file", &entry.filename)
                .some_raw("line", entry.line)
                .end()
        });
        let total: u64 = self.samples.iter().map(|(_, ns)| ns).sum();
        let stacks = self.samples.iter();
        let stacks = stacks.map(|(stack, _)| array(stack.iter().map(ToString::to_string)));
        let weights = self.samples.iter().map(|(_, ns)| ns.to_string());
        let profile = Object::new()
            .string("type", "sampled")
            .string("name", "what blocked the event loops")
            .string("unit", "nanoseconds")
            .raw("startValue", 0)
            .raw("endValue", total)
            .raw("samples", array(stacks))
            .raw("weights", array(weights));
        let shared = Object::new().raw("frames", array(frames)).end();
        let schema = "https://www.speedscope.app/file-format-schema.json";
        let file = Object::new()
            .string("$schema", schema)
            .string("exporter", &format!("offloop {}", header.about.offloop))
            .string("name", &header.about.program)
            .raw("shared", shared)
            .raw("profiles", array([profile.end()]));
        file.end() + "\n"
    }

    fn save(&mut self, header: &Header) -> io::Result<()> {
        let text = self.text(header);
        self.output.replace(&self.written, &text)?;
        self.written = text;
        Ok(())
    }
}

impl Writer for Speedscope {
    fn write(&mut self, header: &Header, records: &[Record], _missed: u64) -> io::Result<()> {
        let mut is_new = false;
        for record in records {
            if let What::Event(Event::LoopStall { told }) = &record.what
                && matches!(told.stall.moment, Moment::Over { .. })
            {
                self.add(told);
                is_new = true;
            }
        }
        if is_new { self.save(header) } else { Ok(()) }
    }

    fn finish(&mut self, header: &Header, _now: Instant) -> io::Result<()> {
        self.save(header)
    }

    fn output(&self) -> &Output {
        &self.output
    }
}
