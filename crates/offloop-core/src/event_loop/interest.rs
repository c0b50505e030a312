//! What a descriptor is watched for, and what the kernel is asked to do about it.

/// What a descriptor is watched for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// To be read.
    Reader,
    /// To be written.
    Writer,
}

impl Side {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Reader => Self::Writer,
            Self::Writer => Self::Reader,
        }
    }
}

/// What the kernel is to tell of a descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Reading does not block.
    pub read: bool,
    /// Writing does not block.
    pub write: bool,
    /// Told once, and then not until it is changed again.
    pub once: bool,
}

impl Interest {
    /// Nothing.
    pub const NONE: Self = Self {
        read: false,
        write: false,
        once: false,
    };

    /// Anything but none: the descriptor is known, whatever it is watched for.
    pub(super) const KNOWN: Self = Self {
        read: true,
        write: true,
        once: true,
    };

    /// Whether it is nothing.
    #[must_use]
    pub const fn is_none(self) -> bool {
        !self.read && !self.write
    }
}

/// The kernel's own table of descriptors. It has an entry for what a number stands for, and drops
/// it when that is closed.
pub trait Kernel {
    /// Why it has refused something.
    type Error;

    /// The number can be that of no descriptor.
    fn impossible() -> Self::Error;

    /// The kernel does not know the descriptor.
    fn is_unknown(error: &Self::Error) -> bool;

    /// The number is that of no open descriptor.
    fn is_closed(error: &Self::Error) -> bool;

    /// Watches `fd`, of which nothing is known.
    ///
    /// # Errors
    /// The kernel's.
    fn add(&self, fd: i32, interest: Interest) -> Result<(), Self::Error>;

    /// Changes what a known `fd` is watched for; a number that means something else by now is not
    /// known.
    ///
    /// # Errors
    /// The kernel's.
    fn modify(&self, fd: i32, interest: Interest) -> Result<(), Self::Error>;

    /// Watches `fd` no more.
    ///
    /// # Errors
    /// The kernel's, but none if the descriptor was closed.
    fn forget(&self, fd: i32) -> Result<(), Self::Error>;

    /// Forgets everything.
    ///
    /// # Errors
    /// The kernel's; then nothing has changed.
    fn renew(&self) -> Result<(), Self::Error>;
}

/// What waits for a descriptor.
pub trait Watcher {
    /// Whether it is told once, and waits no more after that.
    fn is_once(&self) -> bool;

    /// Whether the program may have named the descriptor by a file object when it began to wait.
    fn may_have_file(&self) -> bool;
}
