//! What an owner finds in its mailbox.

use crate::outcome::Outcome;

/// One thing that somebody waits for has happened.
#[derive(Debug)]
pub struct Notice {
    /// What the owner knows the waiting one by: the call's token, or the one that was given with
    /// the wish to be told.
    pub token: u64,
    /// Whether any thread may deal with it.
    pub any_thread: bool,
    /// What has happened.
    pub news: News,
}

/// What has happened.
#[derive(Debug)]
pub enum News {
    /// The call ended.
    Ended(Outcome),
    /// The queue that somebody waits for may have room.
    Room,
    /// An owner leaves the rest of its work to the resolver.
    PassedOn,
}
