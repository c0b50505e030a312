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
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use offloop_sys::identity::effective_user;

/// Bytes of a socket's path, at most: the kernel's limit, less the end.
const PATH_BYTES_MAX: usize = 107;

/// Files that are looked at in one folder: far more than programs that one user watches.
const FILES_MAX: usize = 1024;

/// The socket of a process, in a folder.
fn file_in(folder: &Path, pid: u32) -> PathBuf {
    folder.join(format!("offloop-{pid}.sock"))
}

/// The process whose socket has this name.
fn pid_of(name: &str) -> Option<u32> {
    name.strip_prefix("offloop-")?
        .strip_suffix(".sock")?
        .parse()
        .ok()
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

/// The path at which this process is to listen; its folder is there, and is private.
///
/// # Errors
/// `NotFound` with the reason, if there is no folder for it.
pub fn own() -> io::Result<PathBuf> {
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
            return Ok(path);
        }
        refused.push(format!(
            "{} is not a folder of this user alone",
            folder.display()
        ));
    }
    Err(io::Error::new(io::ErrorKind::NotFound, refused.join("; ")))
}

/// The path at which another process may listen; `None` if it does not.
#[must_use]
pub fn find(pid: u32) -> Option<PathBuf> {
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
        .map(|folder| file_in(&folder, pid))
        .find(|path| path.as_os_str().len() <= PATH_BYTES_MAX && path.exists())
}

/// The sockets of all programs of this user that are found where this process looks, by their
/// process ids. A program that was killed may have left one behind.
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

/// Removes what killed programs have left behind in the folder of `path`.
pub(crate) fn sweep(path: &Path) {
    let Some(folder) = path.parent() else {
        return;
    };
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
        for other in [
            "offloop-42",
            "offloop-.sock",
            "offloop--1.sock",
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
        sweep(&left);
        assert!(!left.exists() && heard.exists());
        drop(listener);
        fs::remove_dir_all(&folder).expect("it is there");
    }
}
