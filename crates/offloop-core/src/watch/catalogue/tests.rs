//! The shipped catalogue as a whole, and how functions are found in it.

use super::super::samples::{stack, user_places};
use super::*;

fn on_line(path: &str, cause: &Cause) -> Option<&'static str> {
    let found = Catalogue::shipped().on_line(path, cause);
    found.map(|(_, _, name)| name)
}

fn socket(peer: &str) -> Cause {
    Cause::Socket {
        peer: Some(peer.into()),
    }
}

const FILE: Cause = Cause::File { path: None };

#[test]
fn the_shipped_catalogue_can_be_read_and_is_large() {
    let functions = Catalogue::shipped().functions();
    let names = functions
        .iter()
        .map(|function| function.names.len() + function.methods.len());
    assert!(names.sum::<usize>() >= 400);
    for function in functions {
        assert!(function.remedy.cure.is_some(), "{function:?}");
        assert!(!function.remedy.because.is_empty(), "{function:?}");
        assert!(!function.remedy.because.ends_with('.'), "{function:?}");
    }
}

#[test]
fn a_debugger_is_found_anywhere_on_a_stack() {
    let is_in_debugger = |entries: &[(&str, &str, i32)]| {
        let entries = stack(entries).entries;
        Catalogue::shipped().is_in_debugger(&entries, &user_places())
    };
    let prompt = ("/lib/python3.13/pdb.py", "Pdb.interaction", 530);
    let reads = ("/lib/python3.13/cmd.py", "Cmd.cmdloop", 131);
    assert!(is_in_debugger(&[
        reads,
        prompt,
        ("/app/views.py", "main", 4)
    ]));
    assert!(!is_in_debugger(&[reads, ("/app/pdb.py", "interaction", 4)]));
    let adapter = "/v/site-packages/debugpy/_vendored/pydevd/_pydevd_bundle/pydevd_frame.py";
    assert!(is_in_debugger(&[(adapter, "do_wait_suspend", 4)]));
}

#[test]
fn every_cause_has_its_remedy() {
    let causes = [
        Cause::Python,
        Cause::Native { holds_gil: false },
        Cause::Native { holds_gil: true },
        Cause::Sleep,
        Cause::Socket { peer: None },
        FILE,
        Cause::Descriptor { name: None },
        Cause::Lock,
        Cause::Child { pid: None },
        Cause::OtherThread { native_id: 1 },
        Cause::Collection,
        Cause::Memory,
        Cause::Starved,
        Cause::Stopped,
        Cause::Callbacks,
        Cause::Unknown,
    ];
    for cause in &causes {
        assert!(Catalogue::shipped().remedy(cause).is_some(), "{cause:?}");
    }
    assert_eq!(Catalogue::shipped().causes.len(), causes.len());
}

#[test]
fn errors_of_a_catalogue_are_told() {
    for text in [
        "[[function]",
        "[[function]]\nnames = ['a']\nkind = 'nap'\nblocks = 'always'\nbecause = ''",
        "[[function]]\nname = 'a'\nkind = 'sleep'\nblocks = 'always'\nbecause = ''",
    ] {
        let text = format!("{text}\n[[cause]]\ncause = 'python'\nbecause = ''\n");
        assert!(Catalogue::parse(&text).is_err(), "{text}");
    }
}

#[test]
fn a_function_is_found_by_what_the_line_calls() {
    let native = Cause::Native { holds_gil: false };
    for (path, cause, expected) in [
        ("time.sleep", Cause::Sleep, Some("time.sleep")),
        ("sleep", Cause::Sleep, Some("time.sleep")),
        ("time.sleep", Cause::Python, None),
        ("np.linalg.svd", native.clone(), Some("numpy.linalg.svd")),
        ("json.loads", native, Some("json.loads")),
        ("open", FILE, Some("open")),
        ("open().read", FILE, Some("open().read")),
        ("file.read", FILE, Some("io.TextIOWrapper.read")),
        ("Path().read_text", FILE, None),
        ("lock.acquire", Cause::Lock, Some("threading.Lock.acquire")),
        (
            "asyncio.run_coroutine_threadsafe().result",
            Cause::Lock,
            Some("asyncio.run_coroutine_threadsafe().result"),
        ),
        ("os.waitpid", Cause::Child { pid: None }, Some("os.waitpid")),
        ("self.nothing", Cause::Sleep, None),
        ("", Cause::Sleep, None),
        (".", Cause::Sleep, None),
    ] {
        assert_eq!(on_line(path, &cause), expected, "{path} {cause:?}");
    }
}

#[test]
fn databases_are_told_by_what_is_waited_for() {
    let execute = |cause: &Cause| on_line("cursor.execute", cause);
    let postgres = Some("psycopg2.extensions.cursor.execute");
    assert_eq!(execute(&socket("10.0.0.5:5432")), postgres);
    assert_eq!(execute(&socket("[::1]:6432")), postgres);
    assert_eq!(execute(&socket("10.0.0.5:3306")), None);
    assert_eq!(execute(&FILE), Some("sqlite3.Connection.execute"));
    let connection = |cause: &Cause| on_line("connection.commit", cause);
    assert_eq!(connection(&FILE), Some("sqlite3.Connection.commit"));
}

#[test]
fn a_library_is_found_on_the_stack_nearest_the_users_code() {
    let found = |entries: &[(&str, &str, i32)]| {
        let entries = stack(entries).entries;
        let found = Catalogue::shipped().on_stack(&entries, &user_places());
        found.map(|(function, _)| function.names.first().or(function.methods.first()).cloned())
    };
    let name = |name: &str| Some(Some(name.to_owned()));
    let packages = "/venv/lib/python3.13/site-packages";
    let (get, pool) = (
        format!("{packages}/requests/api.py"),
        format!("{packages}/urllib3/pool.py"),
    );
    let socket = "/lib/python3.13/socket.py";
    let requests = [
        (socket, "SocketIO.readinto", 719),
        (&pool, "urlopen", 3),
        (&get, "get", 73),
    ];
    assert_eq!(found(&requests), name("requests.get"));
    assert_eq!(found(&requests[..1]), None);
    let queue = ("/lib/python3.13/queue.py", "Queue.get", 180);
    assert_eq!(found(&[queue]), name("queue.Queue.get"));
    assert_eq!(
        found(&[("/lib/python3.13/queue.py", "Queue.qsize", 9)]),
        None
    );
    // A file of the same name in another package is another file.
    let other = format!("{packages}/shop/queue.py");
    assert_eq!(found(&[(&other, "Queue.get", 180)]), None);
    let import = ("<frozen importlib._bootstrap>", "_find_and_load", 1360);
    assert_eq!(found(&[import]), name("importlib.import_module"));
    // Where the folder of packages is not known, the end of the path is looked at.
    assert_eq!(
        found(&[("/opt/lib/json/__init__.py", "loads", 346)]),
        name("json.loads")
    );
    assert_eq!(
        found(&[("/opt/lib/myjson/__init__.py", "loads", 346)]),
        None
    );
}
