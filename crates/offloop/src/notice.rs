//! What an owner finds in its mailbox.

use crate::item::Item;
use crate::outcome::Outcome;

/// Something that an owner waits for has happened.
#[derive(Debug)]
pub struct Notice {
    /// The token of the call, or the token that the owner gave when it asked to be told.
    pub token: u64,
    /// Whether any thread may deal with it.
    pub any_thread: bool,
    /// What has happened.
    pub news: News,
}

/// What has happened.
#[derive(Debug)]
pub enum News {
    /// The call has sent an item, and goes on.
    Arrived(Item),
    /// The call ended.
    Ended(Outcome),
    /// A queue may have room, as the owner wanted to know.
    Room,
    /// An owner leaves the rest of its work to the resolver.
    PassedOn,
}
