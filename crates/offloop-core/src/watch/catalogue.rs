//! The functions that block a loop, and what to write instead: `catalogue.toml`, read.
//!
//! A function is found in two ways. A library that is written in Python has entries on the stack.
//! A function in C has none, but the line that calls it names it; the cause then tells, of several
//! calls on the line, the one that fits.
//!
//! Invariants: 1. Of several stack entries the one nearest the user's code counts: `requests.get`,
//!                not the socket that it reads.
//!             2. A name on a line counts only if the function can have that cause.

use std::sync::OnceLock;

use toml_span::de_helpers::TableHelper;
use toml_span::value::ValueInner;
use toml_span::{DeserError, Deserialize, Value};

use super::cause::Cause;
use super::places::Places;
use super::record::Entry;

/// What kind of thing a function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It sleeps.
    Sleep,
    /// It waits for another host.
    Network,
    /// It looks up the name of a host.
    Lookup,
    /// It asks a database.
    Database,
    /// It reads or writes files or folders.
    File,
    /// It waits for a terminal, or for what reads the program's output.
    Terminal,
    /// It waits for a lock or a condition.
    Lock,
    /// It waits for another thread.
    Thread,
    /// It waits for another process.
    Process,
    /// It computes.
    Computation,
    /// It imports a module.
    Import,
    /// It loads certificates.
    Tls,
    /// It writes a log.
    Log,
    /// It collects garbage.
    Collection,
}

/// How sure it is that a call blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blocks {
    /// Each call does.
    Always,
    /// It does where what it waits for is slow.
    Often,
    /// It does where its input is large.
    Size,
}

/// What to write instead.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Cure {
    /// Move the call to a thread.
    Thread,
    /// Move the call to a process.
    Process,
    /// A line of code with placeholders, as `catalogue.toml` has them.
    Line(String),
    /// No line helps: the reason says what to do.
    Words,
}

/// A cure with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Remedy {
    /// What to write; none where code cannot help.
    pub cure: Option<Cure>,
    /// Why it helps, or what it needs.
    pub because: String,
    /// Other ways, in a few words each.
    pub instead: Vec<String>,
}

/// Some functions that block in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Functions by their dotted names.
    pub names: Vec<String>,
    /// Methods by module, class and name.
    pub methods: Vec<String>,
    /// Methods that are called on the result of a call, as a line has them.
    pub chains: Vec<String>,
    /// How a stack shows them.
    pub entries: Vec<String>,
    /// Whether methods are in C although there are entries.
    pub native: bool,
    /// Where the servers of a database listen.
    pub ports: Vec<u16>,
    /// What they do.
    pub kind: Kind,
    /// How sure it is that they block.
    pub blocks: Blocks,
    /// What to write instead.
    pub remedy: Remedy,
    /// Why the move of a call helps, where the line of code does not fit it.
    pub moved: Option<String>,
    /// What may stand beside the argument that a chain was given.
    pub beside: Vec<String>,
    /// The named arguments that the line of code understands; each if there are none.
    pub keywords: Vec<String>,
    /// Whether they change what they are given, in its place.
    pub changes: bool,
}

/// The file as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    functions: Vec<Function>,
    causes: Vec<(String, Remedy)>,
    aliases: Vec<(String, String)>,
    debuggers: Vec<String>,
}

/// How well a name on a line fits, and the cause to it: the larger, the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fit {
    cause: u8,
    name: u8,
}

/// Why a catalogue cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the catalogue has an error")]
pub struct CatalogueError(#[from] DeserError);

impl Catalogue {
    /// The catalogue of this program.
    ///
    /// # Panics
    /// Never: a test reads it.
    #[must_use]
    pub fn shipped() -> &'static Self {
        static SHIPPED: OnceLock<Catalogue> = OnceLock::new();
        SHIPPED.get_or_init(|| {
            Self::parse(include_str!("catalogue.toml")).expect("a test has read this file")
        })
    }

    /// Reads a catalogue.
    ///
    /// # Errors
    /// The text is no TOML, or not what the head of `catalogue.toml` says.
    pub fn parse(text: &str) -> Result<Self, CatalogueError> {
        let mut value = toml_span::parse(text).map_err(DeserError::from)?;
        Ok(Self::deserialize(&mut value)?)
    }

    /// All functions.
    #[must_use]
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// Whether a debugger runs somewhere on a stack, which waits for a person.
    #[must_use]
    pub fn is_in_debugger(&self, entries: &[Entry], places: &Places) -> bool {
        entries.iter().any(|entry| {
            let file = places.shown(&entry.filename).replace('\\', "/");
            let mut patterns = self.debuggers.iter();
            patterns.any(|pattern| shows(pattern, &file, &entry.function))
        })
    }

    /// The first function that a stack shows, from the user's code inward, with its entry. The
    /// entries inside the user's innermost one are given, innermost first.
    #[must_use]
    pub fn on_stack<'entry>(
        &self,
        entries: &'entry [Entry],
        places: &Places,
    ) -> Option<(&Function, &'entry Entry)> {
        entries.iter().rev().find_map(|entry| {
            let file = places.shown(&entry.filename).replace('\\', "/");
            let found = self.functions.iter().find(|function| {
                let mut patterns = function.entries.iter();
                patterns.any(|pattern| shows(pattern, &file, &entry.function))
            });
            found.map(|function| (function, entry))
        })
    }

    /// The function that a line calls by a path such as `np.dot` or `.recv`, and which of its names
    /// that is, if it can have this cause.
    #[must_use]
    pub fn on_line(&self, path: &str, cause: &Cause) -> Option<(Fit, &Function, &str)> {
        let path = self.unaliased(path);
        let port = peer_port(cause);
        let fits = self.functions.iter().filter_map(|function| {
            let mut fit = fit_of_cause(function.kind, cause);
            if fit == 0 || rules_out(function, cause, port) {
                return None;
            }
            if port.is_some_and(|port| function.ports.contains(&port)) {
                fit += 1;
            }
            let (name, called) = function.fit_of_name(&path)?;
            Some((Fit { cause: fit, name }, function, called))
        });
        // The first of equals, as the file has them.
        fits.reduce(|best, next| if next.0 > best.0 { next } else { best })
    }

    /// What to do where no function is known.
    #[must_use]
    pub fn remedy(&self, cause: &Cause) -> Option<&Remedy> {
        let name = cause.name();
        let mut causes = self.causes.iter();
        causes
            .find(|(cause, _)| cause == name)
            .map(|(_, remedy)| remedy)
    }

    fn unaliased(&self, path: &str) -> String {
        let (first, rest) = path.split_at(path.find('.').unwrap_or(path.len()));
        let alias = self.aliases.iter().find(|(alias, _)| alias == first);
        match alias {
            Some((_, module)) if !rest.is_empty() => format!("{module}{rest}"),
            _ => path.to_owned(),
        }
    }
}

impl Function {
    /// How well a path on a line names one of these functions, and which one.
    fn fit_of_name(&self, path: &str) -> Option<(u8, &str)> {
        let names = self.names.iter().filter_map(|name| {
            let fit = if name == path {
                4
            } else if !ends_with_part(name, path) {
                return None;
            } else if path.contains('.') {
                3
            } else {
                2
            };
            Some((fit, &**name))
        });
        let chains = self.chains.iter().filter_map(|chain| {
            let is_it = chain == path || ends_with_part(chain, path);
            // A plain method is not yet a chain.
            (is_it && path.contains(')')).then_some((5, &**chain))
        });
        // A method whose receiver is not known may be that of any class, unless it would show.
        let is_hidden = self.native || self.entries.is_empty();
        let methods = self.methods.iter().filter_map(|method| {
            let is_class = path.starts_with(char::is_uppercase);
            if method == path || (is_class && path.contains('.') && ends_with_part(method, path)) {
                return Some((3, &**method));
            }
            let name = path.rsplit_once('.')?.1;
            (is_hidden && ends_with_part(method, name)).then_some((1, &**method))
        });
        let fits = names.chain(chains).chain(methods);
        fits.reduce(|best, next| if next.0 > best.0 { next } else { best })
    }
}

/// Whether a dotted name ends with a path, at a point.
fn ends_with_part(name: &str, path: &str) -> bool {
    !path.is_empty()
        && name
            .strip_suffix(path)
            .is_some_and(|rest| rest.ends_with('.'))
}

/// Whether a pattern of the catalogue fits a stack entry.
fn shows(pattern: &str, file: &str, function: &str) -> bool {
    let (pattern, wanted) = match pattern.split_once(':') {
        Some((pattern, wanted)) => (pattern, Some(wanted)),
        None => (pattern, None),
    };
    if wanted.is_some_and(|wanted| wanted != function) {
        return false;
    }
    // Where the package's folder is not known, the whole path is shown.
    let is_absolute = file.starts_with('/') || file.get(1..3) == Some(":/");
    let inside = |at: usize| at == 0 || (is_absolute && file[..at].ends_with('/'));
    if pattern.ends_with('/') {
        return file.match_indices(pattern).any(|(at, _)| inside(at));
    }
    let before = file.strip_suffix(pattern);
    before.is_some_and(|before| inside(before.len()))
}

/// The port of the other side that a thread waits for.
fn peer_port(cause: &Cause) -> Option<u16> {
    match cause {
        Cause::Socket { peer: Some(peer) } => peer.rsplit_once(':')?.1.parse().ok(),
        _ => None,
    }
}

/// Whether a database cannot be meant: one without a server when a socket is waited for, one with
/// a server when a file is, and one whose servers listen elsewhere. Any may listen at an unusual
/// port.
fn rules_out(function: &Function, cause: &Cause, port: Option<u16>) -> bool {
    const USUAL: [u16; 6] = [80, 443, 3306, 5432, 6379, 27017];
    let ports = &function.ports;
    if function.kind != Kind::Database {
        return false;
    }
    match cause {
        Cause::Socket { .. } => {
            let elsewhere = |port| USUAL.contains(&port) && !ports.contains(&port);
            ports.is_empty() || port.is_some_and(elsewhere)
        }
        Cause::File { .. } | Cause::Sleep => !ports.is_empty(),
        _ => false,
    }
}

/// Whether a function of a kind can have a cause: 2 if it is the usual one, 1 if it is possible.
const fn fit_of_cause(kind: Kind, cause: &Cause) -> u8 {
    match (kind, cause) {
        (Kind::Sleep, Cause::Sleep)
        | (Kind::Network | Kind::Lookup | Kind::Database | Kind::Log, Cause::Socket { .. })
        | (Kind::Database | Kind::File | Kind::Log, Cause::File { .. })
        | (Kind::Terminal | Kind::Log, Cause::Descriptor { .. })
        | (Kind::Lock | Kind::Thread, Cause::Lock)
        | (Kind::Process, Cause::Child { .. })
        | (Kind::Computation, Cause::Python)
        | (Kind::Computation | Kind::Tls | Kind::Collection, Cause::Native { .. })
        | (Kind::Collection, Cause::Collection) => 2,
        (Kind::Network | Kind::Database | Kind::File, Cause::Native { .. })
        | (Kind::Import, Cause::Python | Cause::Native { .. } | Cause::File { .. })
        | (Kind::Tls, Cause::Python | Cause::File { .. })
        | (
            Kind::Network | Kind::Lookup | Kind::Database | Kind::File | Kind::Process,
            Cause::Descriptor { .. },
        )
        | (Kind::Lookup | Kind::Terminal | Kind::Lock, Cause::File { .. })
        | (Kind::Process, Cause::Socket { .. })
        | (Kind::Lookup | Kind::Database | Kind::Process | Kind::Log, Cause::Lock)
        | (Kind::Database, Cause::Sleep)
        | (Kind::File | Kind::Import, Cause::Memory)
        | (_, Cause::Unknown) => 1,
        _ => 0,
    }
}

/// Reads one of some words.
fn word<T: Copy>(
    table: &mut TableHelper<'_>,
    name: &'static str,
    words: &[(&'static str, T)],
) -> Result<T, DeserError> {
    let text = table.required::<String>(name)?;
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let message = format!("`{text}` is no {name}");
        let error = toml_span::Error {
            kind: toml_span::ErrorKind::Custom(message.into()),
            span: toml_span::Span::default(),
            line_info: None,
        };
        error.into()
    })
}

const KINDS: [(&str, Kind); 14] = [
    ("sleep", Kind::Sleep),
    ("network", Kind::Network),
    ("lookup", Kind::Lookup),
    ("database", Kind::Database),
    ("file", Kind::File),
    ("terminal", Kind::Terminal),
    ("lock", Kind::Lock),
    ("thread", Kind::Thread),
    ("process", Kind::Process),
    ("computation", Kind::Computation),
    ("import", Kind::Import),
    ("tls", Kind::Tls),
    ("log", Kind::Log),
    ("collection", Kind::Collection),
];

const BLOCKS: [(&str, Blocks); 3] = [
    ("always", Blocks::Always),
    ("often", Blocks::Often),
    ("size", Blocks::Size),
];

fn remedy(table: &mut TableHelper<'_>) -> Result<Remedy, DeserError> {
    let cure = table.optional::<String>("cure").map(|cure| match &*cure {
        "thread" => Cure::Thread,
        "process" => Cure::Process,
        "words" => Cure::Words,
        _ => Cure::Line(cure),
    });
    Ok(Remedy {
        cure,
        because: table.required("because")?,
        instead: table.optional("instead").unwrap_or_default(),
    })
}

impl<'de> Deserialize<'de> for Function {
    fn deserialize(value: &mut Value<'de>) -> Result<Self, DeserError> {
        let mut table = TableHelper::new(value)?;
        let function = Self {
            names: table.optional("names").unwrap_or_default(),
            methods: table.optional("methods").unwrap_or_default(),
            chains: table.optional("chains").unwrap_or_default(),
            entries: table.optional("entries").unwrap_or_default(),
            native: table.optional("native").unwrap_or_default(),
            ports: table.optional("ports").unwrap_or_default(),
            kind: word(&mut table, "kind", &KINDS)?,
            blocks: word(&mut table, "blocks", &BLOCKS)?,
            remedy: remedy(&mut table)?,
            moved: table.optional("moved"),
            beside: table.optional("beside").unwrap_or_default(),
            keywords: table.optional("keywords").unwrap_or_default(),
            changes: table.optional("changes").unwrap_or_default(),
        };
        table.finalize(None)?;
        Ok(function)
    }
}

/// A remedy with the cause that it is for.
struct ForCause(String, Remedy);

impl<'de> Deserialize<'de> for ForCause {
    fn deserialize(value: &mut Value<'de>) -> Result<Self, DeserError> {
        let mut table = TableHelper::new(value)?;
        let found = Self(table.required("cause")?, remedy(&mut table)?);
        table.finalize(None)?;
        Ok(found)
    }
}

impl<'de> Deserialize<'de> for Catalogue {
    fn deserialize(value: &mut Value<'de>) -> Result<Self, DeserError> {
        let mut table = TableHelper::new(value)?;
        let mut aliases = Vec::new();
        if let Some((_, mut value)) = table.take("aliases")
            && let ValueInner::Table(pairs) = value.take()
        {
            for (alias, mut module) in pairs {
                aliases.push((alias.name.into_owned(), module.take_string(None)?.into()));
            }
        }
        let causes: Vec<ForCause> = table.required("cause")?;
        let found = Self {
            functions: table.required("function")?,
            debuggers: table.optional("debuggers").unwrap_or_default(),
            causes: causes
                .into_iter()
                .map(|ForCause(cause, cure)| (cause, cure))
                .collect(),
            aliases,
        };
        table.finalize(None)?;
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
