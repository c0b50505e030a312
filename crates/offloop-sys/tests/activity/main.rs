//! Threads of this process, looked at in each of a few states.

#![cfg(not(any(loom, miri)))]

mod lines;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};

use offloop_sys::activity::{
    CallState, Look, LookError, OwnDelay, State, ThreadFiles, Wait, wait_of,
};
use offloop_sys::interpreter::memory::OwnMemory;
use offloop_sys::interpreter::own_native_id;

/// A thread that runs a function, and its files.
fn look_at<T: Send>(
    wait: impl FnOnce() -> T + Send,
    is_expected: impl Fn(&Wait) -> bool,
    end: impl FnOnce(),
) {
    let (say, heard): (Sender<u64>, Receiver<u64>) = channel();
    let memory = OwnMemory::open().expect("no filter here");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            say.send(own_native_id()).expect("the test listens");
            wait();
        });
        let files = ThreadFiles::open(heard.recv().expect("it says its id")).expect("it runs");
        // It comes to rest there; the limit of time is the test's.
        loop {
            let look = files.look().expect("it runs");
            let wait = wait_of(&look, &memory);
            if is_expected(&wait) {
                assert!(matches!(look.state, State::Asleep | State::AsleepForDevice));
                assert!(look.ran_ns.is_some() && look.sleeps.is_some());
                break;
            }
        }
        end();
    });
}

#[test]
fn a_thread_that_reads_a_socket_waits_for_its_other_side() {
    let server = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let at = server.local_addr().expect("bound").to_string();
    let mut client = TcpStream::connect(&*at).expect("it listens");
    let (mut kept, _) = server.accept().expect("it has come");
    let expected =
        |wait: &Wait| matches!(wait, Wait::Socket { peer: Some(peer), .. } if *peer == at);
    let read = || client.read(&mut [0; 1]).expect("it comes");
    look_at(read, expected, || kept.write_all(b"x").expect("it is read"));
}

#[test]
fn a_thread_that_accepts_waits_for_a_socket_with_an_address_of_its_own() {
    let server = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let at = server.local_addr().expect("bound").to_string();
    let expected = |wait: &Wait| {
        *wait
            == Wait::Socket {
                peer: None,
                own: Some(at.clone()),
            }
    };
    let come = || drop(TcpStream::connect(&*at).expect("it listens"));
    look_at(|| server.accept().expect("one comes"), expected, come);
}

#[test]
fn a_thread_that_polls_waits_for_what_it_polls() {
    let (end, other) = std::io::pipe().expect("a pipe");
    let name = std::fs::read_link(format!("/proc/self/fd/{}", end.as_raw_fd())).expect("open");
    let name = name.to_str().map(str::to_owned);
    let expected = Wait::Descriptor { name };
    let fd = end.as_raw_fd();
    let poll = || {
        let mut list = [-1, fd].map(|fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        });
        // SAFETY: two entries that live as long as the call.
        let ready = unsafe { libc::poll(list.as_mut_ptr(), 2, -1) };
        assert_eq!(ready, 1);
    };
    look_at(poll, |wait| *wait == expected, || drop(other));
}

#[test]
fn a_thread_that_selects_waits_for_what_is_in_its_sets() {
    let (end, other) = std::io::pipe().expect("a pipe");
    let fd = end.as_raw_fd();
    let select = || {
        // SAFETY: a set is numbers, of which zero is none; the descriptor is below 1024 here.
        unsafe {
            let mut set: libc::fd_set = std::mem::zeroed();
            libc::FD_SET(fd, &raw mut set);
            let null = std::ptr::null_mut();
            libc::select(fd + 1, &raw mut set, null, null, null.cast());
        }
    };
    let expected = |wait: &Wait| match wait {
        Wait::Descriptor { name } => name.as_ref().is_some_and(|name| name.starts_with("pipe:[")),
        _ => false,
    };
    look_at(select, expected, || drop(other));
}

#[test]
fn a_thread_that_opens_a_named_pipe_waits_for_its_path() {
    let path = format!("/tmp/offloop-activity-{}", std::process::id());
    let name = std::ffi::CString::new(&*path).expect("no zero");
    // SAFETY: a string that ends with a zero.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let expected = Wait::File {
        path: Some(path.clone()),
    };
    let open = || File::open(&path).expect("it is there");
    let end = || drop(File::options().write(true).open(&path).expect("it is read"));
    look_at(open, |wait| *wait == expected, end);
    std::fs::remove_file(&path).expect("it was made");
}

#[test]
fn a_thread_that_waits_for_a_child_names_it() {
    let mut child = std::process::Command::new("cat")
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("it is there");
    let pid = i32::try_from(child.id()).expect("small");
    let input = child.stdin.take();
    let expected = Wait::Child { pid: Some(pid) };
    look_at(
        || child.wait().expect("it ends"),
        |wait| *wait == expected,
        || drop(input),
    );
}

#[test]
fn a_thread_that_waits_for_another_is_in_a_futex() {
    let barrier = Arc::new(Barrier::new(2));
    let expected = |wait: &Wait| matches!(wait, Wait::Futex { address: Some(_) });
    let meet = || {
        barrier.wait();
    };
    look_at(meet, expected, meet);
}

#[test]
fn a_thread_that_sleeps_waits_for_a_time() {
    let (say, heard) = channel();
    let sleep = move || {
        while heard.try_recv().is_err() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    look_at(
        sleep,
        |wait| *wait == Wait::Time,
        || say.send(()).expect("it listens"),
    );
}

#[test]
fn this_thread_runs_and_its_time_goes_on() {
    let files = ThreadFiles::open(own_native_id()).expect("it runs");
    let first = files.look().expect("it runs");
    let second = files.look().expect("it runs");
    assert_eq!(second.state, State::Ready);
    assert_eq!(second.call, Some(CallState::Running));
    assert!(second.ran_ns > first.ran_ns && second.time_ns > first.time_ns);
    let memory = OwnMemory::open().expect("no filter here");
    assert_eq!(wait_of(&second, &memory), Wait::Nothing);
}

#[test]
fn a_thread_that_has_ended_is_not_there() {
    let (say, heard) = channel();
    let (end, ended) = channel::<()>();
    let thread = std::thread::spawn(move || {
        say.send(own_native_id()).expect("the test listens");
        ended.recv().expect_err("nothing is sent");
    });
    let native_id = heard.recv().expect("it says its id");
    let files = ThreadFiles::open(native_id).expect("it runs");
    drop(end);
    thread.join().expect("it ends");
    // The kernel lets go of it a moment after the join.
    while files.look().is_ok() {}
    assert!(matches!(files.look(), Err(LookError::Ended)));
    for none in [native_id, 1, u64::MAX] {
        assert!(
            matches!(ThreadFiles::open(none), Err(LookError::Ended)),
            "{none}"
        );
    }
}

#[test]
fn without_its_call_a_thread_is_known_by_its_channel_alone() {
    let memory = OwnMemory::open().expect("no filter here");
    let look = |channel: Option<&str>| Look {
        time_ns: 0,
        ran_ns: None,
        state: State::Asleep,
        call: None,
        wait_channel: channel.map(Into::into),
        schedule: None,
        sleeps: None,
        major_faults: 0,
    };
    let wait = |channel| wait_of(&look(channel), &memory);
    assert_eq!(wait(Some("hrtimer_nanosleep")), Wait::Time);
    assert_eq!(wait(Some("futex_do_wait")), Wait::Futex { address: None });
    assert_eq!(wait(Some("do_wait")), Wait::Child { pid: None });
    assert_eq!(
        wait(Some("anon_pipe_read")),
        Wait::Descriptor { name: None }
    );
    // A poll may wait for nothing but time.
    assert_eq!(wait(Some("poll_schedule_timeout.constprop.0")), Wait::Other);
    assert_eq!(wait(None), Wait::Other);
}

#[test]
fn a_thread_knows_for_how_long_it_was_not_let_run() {
    let delay = OwnDelay::open().expect("the kernel counts");
    let before = delay.nanoseconds().expect("the kernel counts");
    let is_over = AtomicBool::new(false);
    let processors = std::thread::available_parallelism().expect("there are some");
    std::thread::scope(|scope| {
        for _ in 0..processors.get() {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        // One thread more than there are processors: they take turns. The limit of time is the
        // test's.
        while delay.nanoseconds().expect("the kernel counts") == before {
            std::hint::spin_loop();
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn bytes_that_are_no_lines_are_refused_or_read_within_their_bounds() {
    let mut state = 20_261_127_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let whole: [&[u8]; 4] = [
        b"1 (a) S 1 1 1 0 -1 4194304 136 7 21 8 0 1\n",
        b"7 0x7ffe1000 0x1 0xffffffff 0x0 0x0 0x0 0x7ffd 0x7f56\n",
        b"91000 43701 12\n",
        b"voluntary_ctxt_switches:\t150\n",
    ];
    for round in 0..200_000 {
        let mut line = whole[round % whole.len()].to_vec();
        for _ in 0..=random() % 4 {
            let place = (random() % line.len() as u64) as usize;
            match random() % 3 {
                0 => line[place] = random().to_le_bytes()[0],
                1 => line.truncate(place.max(1)),
                _ => line.insert(place, b" 0x9-\n(:"[(random() % 8) as usize]),
            }
        }
        lines::check(&line);
    }
}
