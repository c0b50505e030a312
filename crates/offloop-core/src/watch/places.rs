//! Which code is the user's, and which belongs to a library.
//!
//! A file is judged by its name alone, as a code object has it. The caller knows where the
//! standard library and offloop are installed; packages are known by the folder that pip puts them
//! into.
//!
//! Invariants: 1. The order of the rules: what the user claims, further libraries, offloop,
//!                installed packages, frozen and generated code, the standard library. All else is
//!                the user's.
//!             2. A folder holds a file only where its name ends at a separator: `/app` does not
//!                hold `/apple/pie.py`.

use std::borrow::Cow;
use std::sync::Arc;

/// Where code is installed. Folders are given without a separator at their end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Folders of the standard library; packages installed inside them are told apart.
    pub standard: Vec<Arc<str>>,
    /// Folders of offloop itself.
    pub offloop: Vec<Arc<str>>,
    /// Further folders or files that are library code, such as a vendored package.
    pub libraries: Vec<Arc<str>>,
    /// Folders that are the user's whatever else fits.
    pub own: Vec<Arc<str>>,
    /// Installed packages that are the user's, such as an application that pip has installed: by
    /// their paths in the folder of installed packages, as `shop` or `company/shop`.
    pub own_packages: Vec<Arc<str>>,
    /// Files in this folder are shown by their path from it; usually the working directory.
    pub shown_from: Option<Arc<str>>,
}

/// Whose code a file is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// The user's.
    User,
    /// A library's, by the name of its package: `starlette`, `asyncio`.
    Library(Arc<str>),
}

/// Folders that package managers install into.
const INSTALLED: [&str; 2] = ["site-packages", "dist-packages"];

/// Names in angle brackets that are code which the user typed or passed to `exec`. Every other
/// one names code that a library has generated.
const TYPED: [&str; 6] = [
    "<string>",
    "<stdin>",
    "<console>",
    "<unknown>",
    "<python-input",
    "<ipython-input",
];

const fn is_separator(letter: char) -> bool {
    matches!(letter, '/' | '\\')
}

/// What follows a folder in a path inside it.
fn inside<'path>(path: &'path str, folder: &str) -> Option<&'path str> {
    let rest = path.strip_prefix(folder)?;
    if folder.is_empty() {
        return None;
    }
    if rest.is_empty() || folder.ends_with(is_separator) {
        return Some(rest);
    }
    rest.strip_prefix(is_separator)
}

fn inside_any<'path>(path: &'path str, folders: &[Arc<str>]) -> Option<&'path str> {
    folders.iter().find_map(|folder| inside(path, folder))
}

/// The first part of a path, without the ending of a source file.
fn package(path: &str) -> &str {
    let first = path.split(is_separator).next().unwrap_or(path);
    first.strip_suffix(".py").unwrap_or(first)
}

/// What stands behind the last folder of installed packages, if there is one.
fn installed(path: &str) -> Option<&str> {
    INSTALLED
        .iter()
        .filter_map(|folder| {
            let at = path.rfind(folder)?;
            let (before, behind) = (&path[..at], &path[at + folder.len()..]);
            let begins = before.is_empty() || before.ends_with(is_separator);
            let behind = behind.strip_prefix(is_separator)?;
            begins.then_some((at, behind))
        })
        .max_by_key(|&(at, _)| at)
        .map(|(_, behind)| behind)
}

impl Places {
    /// Whose code a file is.
    #[must_use]
    pub fn owner(&self, filename: &str) -> Owner {
        if inside_any(filename, &self.own).is_some() || self.is_in_own_package(filename) {
            return Owner::User;
        }
        self.library(filename)
            .map_or(Owner::User, |name| Owner::Library(Arc::from(name)))
    }

    /// Whether a file belongs to an installed package that the user claims.
    fn is_in_own_package(&self, filename: &str) -> bool {
        if self.own_packages.is_empty() {
            return false;
        }
        let Some(path) = installed(filename) else {
            return false;
        };
        let module = path.strip_suffix(".py").unwrap_or(path);
        let mut packages = self.own_packages.iter();
        packages.any(|package| inside(module, package).is_some())
    }

    /// The installed package that a file belongs to; offloop is none.
    pub(super) fn installed_package<'name>(&self, filename: &'name str) -> Option<&'name str> {
        if inside_any(filename, &self.offloop).is_some() {
            return None;
        }
        installed(filename).map(package)
    }

    /// The same, where one more installed package is the user's.
    pub(super) fn claiming(&self, package: &str) -> Self {
        let mut places = self.clone();
        places.own_packages.push(package.into());
        places
    }

    fn library<'name>(&'name self, filename: &'name str) -> Option<&'name str> {
        let further = self.libraries.iter();
        if let Some(folder) = further
            .into_iter()
            .find(|folder| inside(filename, folder).is_some())
        {
            let name = folder.trim_end_matches(is_separator);
            return Some(package(name.rsplit(is_separator).next().unwrap_or(name)));
        }
        if inside_any(filename, &self.offloop).is_some() {
            return Some("offloop");
        }
        if let Some(path) = installed(filename) {
            return Some(package(path));
        }
        if let Some(module) = filename.strip_prefix("<frozen ") {
            let name = module.split(['.', '>']).next().unwrap_or(module);
            return Some(name);
        }
        if filename.starts_with('<') {
            let is_typed = TYPED.iter().any(|typed| filename.starts_with(typed));
            return (!is_typed).then_some("generated code");
        }
        let path = inside_any(filename, &self.standard)?;
        Some(package(path))
    }

    /// The name by which a file is shown: from the working directory, or from the folder that its
    /// package is in.
    #[must_use]
    pub fn shown<'name>(&self, filename: &'name str) -> Cow<'name, str> {
        let from = self.shown_from.as_deref();
        let owner = self.owner(filename);
        let path = match owner {
            Owner::User => {
                let packaged = installed(filename).filter(|_| self.is_in_own_package(filename));
                packaged.or_else(|| from.and_then(|folder| inside(filename, folder)))
            }
            Owner::Library(_) => installed(filename)
                .or_else(|| inside_any(filename, &self.standard))
                .or_else(|| from.and_then(|folder| inside(filename, folder))),
        };
        Cow::Borrowed(path.filter(|path| !path.is_empty()).unwrap_or(filename))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places {
            standard: vec!["/usr/lib/python3.13".into()],
            offloop: vec!["/work/offloop/python/offloop".into()],
            libraries: vec!["/srv/app/vendored/ujson.py".into()],
            own: vec!["/usr/lib/python3.13/site-packages/shop".into()],
            own_packages: vec!["cart".into(), "company/till".into()],
            shown_from: Some("/srv/app".into()),
        }
    }

    fn owner(filename: &str) -> String {
        match places().owner(filename) {
            Owner::User => "user".to_owned(),
            Owner::Library(name) => name.to_string(),
        }
    }

    #[test]
    fn code_is_the_users_unless_a_rule_says_otherwise() {
        for (filename, expected) in [
            ("/srv/app/views.py", "user"),
            ("views.py", "user"),
            ("", "user"),
            ("<string>", "user"),
            ("<stdin>", "user"),
            ("<python-input-3>", "user"),
            ("<ipython-input-3-abc>", "user"),
            ("<frozen importlib._bootstrap>", "importlib"),
            ("<frozen runpy>", "runpy"),
            ("<attrs generated init shop.Order>", "generated code"),
            ("<__array_function__ internals>", "generated code"),
            ("/usr/lib/python3.13/asyncio/events.py", "asyncio"),
            ("/usr/lib/python3.13/queue.py", "queue"),
            ("/usr/lib/python3.130/queue.py", "user"),
            (
                "/usr/lib/python3.13/site-packages/starlette/a.py",
                "starlette",
            ),
            ("/usr/lib/python3/dist-packages/six.py", "six"),
            (
                "/home/me/.venv/lib/python3.12/site-packages/PIL/Image.py",
                "PIL",
            ),
            (r"C:\app\venv\Lib\site-packages\requests\api.py", "requests"),
            ("/usr/lib/python3.13/site-packages/shop/views.py", "user"),
            ("/v/site-packages/cart/views.py", "user"),
            ("/v/site-packages/cart.py", "user"),
            ("/v/site-packages/cartoon/views.py", "cartoon"),
            ("/v/site-packages/company/till/views.py", "user"),
            ("/v/site-packages/company/till.py", "user"),
            ("/v/site-packages/company/other.py", "company"),
            ("/my-site-packages/views.py", "user"),
            ("/srv/app/vendored/ujson.py", "ujson"),
            ("/work/offloop/python/offloop/_default.py", "offloop"),
            ("/work/offloop/python/offloop_app/views.py", "user"),
        ] {
            assert_eq!(owner(filename), expected, "{filename}");
        }
    }

    #[test]
    fn files_are_shown_from_the_folder_where_a_reader_looks() {
        for (filename, expected) in [
            ("/srv/app/shop/views.py", "shop/views.py"),
            ("/srv/apple/views.py", "/srv/apple/views.py"),
            (
                "/usr/lib/python3.13/site-packages/starlette/a.py",
                "starlette/a.py",
            ),
            ("/usr/lib/python3.13/asyncio/events.py", "asyncio/events.py"),
            (
                "/srv/app/.venv/lib/python3.12/site-packages/six.py",
                "six.py",
            ),
            (
                "/srv/app/.venv/site-packages/cart/views.py",
                "cart/views.py",
            ),
            ("/srv/app/vendored/ujson.py", "vendored/ujson.py"),
            ("<string>", "<string>"),
        ] {
            assert_eq!(places().shown(filename), expected);
        }
    }

    #[test]
    fn an_empty_folder_holds_nothing() {
        let places = Places {
            standard: vec!["".into()],
            ..Places::default()
        };
        assert_eq!(places.owner("/srv/app/views.py"), Owner::User);
    }
}
