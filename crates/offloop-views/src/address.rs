//! Where the sockets of programs stand: one file for each, in a folder that is its user's alone.
//!
//! `$XDG_RUNTIME_DIR` is such a folder where there is one; otherwise `offloop-UID` is made in the
//! folder for temporary files. A folder of another user, or one that another user may write to, is
//! not used: the name could lead to another program.
//!
//! Invariants: 1. A file is removed only if no process listens behind it.

use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::iter;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use offloop_sys::identity::effective_user;

/// Bytes of a socket's path, at most: the kernel's limit, less the end.
const PATH_BYTES_MAX: usize = 107;

/// Names of one process that are tried.
const NAMES_MAX: u32 = 16;

/// Files that are looked at in one folder: far more than programs that one user watches.
const FILES_MAX: usize = 1024;

/// The socket of a process, in a folder.
fn file_in(folder: &Path, pid: u32) -> PathBuf {
    folder.join(format!("offloop-{pid}.sock"))
}

/// The names that the socket of a process may have in its folder: the first that no other process
/// listens at. Containers that share a folder have process ids of their own, so the same ones.
fn files_in(folder: &Path, pid: u32) -> Vec<PathBuf> {
    let later = (2..=NAMES_MAX).map(|number| format!("offloop-{pid}-{number}.sock"));
    let later = later.map(|name| folder.join(name));
    iter::once(file_in(folder, pid)).chain(later).collect()
}

/// The process whose socket has this name, by its own word.
fn pid_of(name: &str) -> Option<u32> {
    let name = name.strip_prefix("offloop-")?.strip_suffix(".sock")?;
    let (pid, number) = name.split_once('-').unwrap_or((name, "2"));
    let number: u32 = number.parse().ok()?;
    pid.parse()
        .ok()
        .filter(|_| (2..=NAMES_MAX).contains(&number))
}

/// The folders in which this process looks, by these variables of the environment.
fn folders(runtime: Option<OsString>, temporary: Option<OsString>) -> Vec<PathBuf> {
    let user = effective_user();
    let named = |variable: Option<OsString>| variable.filter(|path| !path.is_empty());
    let of_temporary = |path: &Path| path.join(format!("offloop-{user}"));
    let mut folders: Vec<PathBuf> = Vec::new();
    folders.extend(named(runtime).map(PathBuf::from));
    folders.extend(named(temporary).map(|path| of_temporary(path.as_ref())));
    folders.push(of_temporary(Path::new("/tmp")));
    folders.retain(|folder| folder.is_absolute());
    folders.dedup();
    folders
}

fn own_folders() -> Vec<PathBuf> {
    folders(env::var_os("XDG_RUNTIME_DIR"), env::var_os("TMPDIR"))
}

/// Whether a folder is this user's alone.
fn is_private(folder: &Path) -> bool {
    fs::symlink_metadata(folder).is_ok_and(|facts| {
        facts.is_dir() && facts.uid() == effective_user() && facts.mode() & 0o022 == 0
    })
}

/// The paths at which this process may listen, the first one first; their folder is there, and is
/// private. At none of them another process listens.
///
/// # Errors
/// `NotFound` with the reason, if there is no folder for it.
pub fn own() -> io::Result<impl Iterator<Item = PathBuf>> {
    let folder = own_folder()?;
    let paths = files_in(&folder, std::process::id());
    let paths = paths.into_iter();
    Ok(paths.filter(|path| !path.exists() || !is_heard(path)))
}

fn own_folder() -> io::Result<PathBuf> {
    let pid = std::process::id();
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let mut refused = Vec::new();
    for folder in own_folders() {
        let path = file_in(&folder, pid);
        if path.as_os_str().len() > PATH_BYTES_MAX {
            refused.push(format!(
                "{} is longer than {PATH_BYTES_MAX} bytes",
                path.display()
            ));
            continue;
        }
        if runtime.as_ref() != Some(&folder) {
            // Where it is there already, it is looked at like any other.
            let _ = DirBuilder::new().mode(0o700).create(&folder);
        }
        if is_private(&folder) {
            return Ok(folder);
        }
        refused.push(format!(
            "{} is not a folder of this user alone",
            folder.display()
        ));
    }
    Err(io::Error::new(io::ErrorKind::NotFound, refused.join("; ")))
}

/// The paths at which another process may listen: those that are there.
#[must_use]
pub fn find(pid: u32) -> Vec<PathBuf> {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let variable = |name: &str| {
        let mut entries = environment.split(|&byte| byte == 0);
        let value = entries.find_map(|entry| entry.strip_prefix(name.as_bytes()))?;
        Some(OsString::from_vec(value.to_vec()))
    };
    let theirs = folders(variable("XDG_RUNTIME_DIR="), variable("TMPDIR="));
    let user = format!("/run/user/{}", effective_user());
    let folders = theirs.into_iter().chain(own_folders());
    let folders = folders.chain([PathBuf::from(user)]);
    folders
        .filter(|folder| is_private(folder))
        .flat_map(|folder| files_in(&folder, pid))
        .filter(|path| path.as_os_str().len() <= PATH_BYTES_MAX && path.exists())
        .collect()
}

/// The sockets of all programs of this user that are found where this process looks, by the
/// process ids in their names. A program that was killed may have left one behind.
#[must_use]
pub fn all() -> Vec<(u32, PathBuf)> {
    let user = PathBuf::from(format!("/run/user/{}", effective_user()));
    let mut found: Vec<_> = own_folders()
        .into_iter()
        .chain([user])
        .filter(|folder| is_private(folder))
        .flat_map(|folder| in_folder(&folder))
        .collect();
    found.sort();
    found.dedup();
    found
}

fn in_folder(folder: &Path) -> Vec<(u32, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .take(FILES_MAX)
        .filter_map(|entry| Some((pid_of(entry.file_name().to_str()?)?, entry.path())))
        .collect()
}

/// Removes what killed programs have left behind in a folder.
pub(crate) fn sweep(folder: &Path) {
    for (pid, path) in in_folder(folder) {
        let is_gone = !Path::new(&format!("/proc/{pid}")).exists();
        if is_gone && !is_heard(&path) {
            // Another program may have done so meanwhile.
            let _ = fs::remove_file(path);
        }
    }
}

/// Whether a process listens. A refusal says that none does; a process of another namespace may.
fn is_heard(path: &Path) -> bool {
    match UnixStream::connect(path) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::ConnectionRefused,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = env::temp_dir().join(format!("offloop-test-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .expect("a folder");
        folder
    }

    #[test]
    fn names_are_read_back_and_no_other_is_taken() {
        let path = file_in(Path::new("/run/user/7"), 42);
        assert_eq!(path, Path::new("/run/user/7/offloop-42.sock"));
        assert_eq!(pid_of("offloop-42.sock"), Some(42));
        let all = files_in(Path::new("/run/user/7"), 42);
        assert_eq!((&all[0], all.len()), (&path, 16));
        assert_eq!(all[1], Path::new("/run/user/7/offloop-42-2.sock"));
        assert!(all.iter().all(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.and_then(pid_of) == Some(42)
        }));
        for other in [
            "offloop-42",
            "offloop-.sock",
            "offloop--1.sock",
            "offloop-42-1.sock",
            "offloop-42-17.sock",
            "offloop-42-2-2.sock",
            "pulse.sock",
        ] {
            assert_eq!(pid_of(other), None, "{other}");
        }
    }

    #[test]
    fn the_runtime_folder_comes_first_and_a_relative_one_is_not_taken() {
        let user = effective_user();
        let found = folders(Some("/run/user/7".into()), Some("tmp".into()));
        let expected = [
            PathBuf::from("/run/user/7"),
            PathBuf::from(format!("/tmp/offloop-{user}")),
        ];
        assert_eq!(found, expected);
        assert_eq!(folders(Some("".into()), None), expected[1..]);
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_not_private() {
        let folder = folder("modes");
        assert!(is_private(&folder));
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("it is ours");
        assert!(!is_private(&folder));
        let link = folder.with_extension("link");
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink("/", &link).expect("a link");
        assert!(!is_private(&link));
        fs::remove_file(&link).expect("it is there");
        fs::remove_dir_all(&folder).expect("it is there");
    }

    #[test]
    fn what_a_killed_program_has_left_is_swept_and_a_listener_is_not() {
        let folder = folder("sweep");
        let gone = u32::try_from(i32::MAX).expect("positive");
        let (left, heard) = (file_in(&folder, gone), file_in(&folder, gone - 1));
        drop(UnixListener::bind(&left).expect("a socket"));
        let listener = UnixListener::bind(&heard).expect("a socket");
        sweep(&folder);
        assert!(!left.exists() && heard.exists());
        drop(listener);
        fs::remove_dir_all(&folder).expect("it is there");
    }
}
