"""Every private name of the standard library that offloop overrides, calls, reads or assigns.

Private names may change with any minor version of Python. So all of them stand here, with
what it is in each version that it was checked on; docs/design/012-private-names.md says how the
next version is taken in.

Shape:      owner -> name -> {version: what it is from that version on}. A function is told by its
            signature, where `...` stands for a default that is an object; everything else by a
            word. Where patch releases of one version differ, a tuple has all that were seen.
            `__init__` stands here where a class of ours calls it with arguments.
"""

CHECKED = ("3.11", "3.12", "3.13", "3.14", "3.15")
"""The versions that the table was checked on."""

OLDEST = CHECKED[0]

ALWAYS = {OLDEST: "attribute"}
A_CLASS = {OLDEST: "class"}
A_MODULE = {OLDEST: "module"}

What = dict[str, str | tuple[str, ...]]

LOOP: dict[str, dict[str, What]] = {
    "asyncio": {
        "_get_running_loop": {"3.11": "()"},
        "_set_running_loop": {"3.11": "(loop, /)"},
    },
    "asyncio.base_events": {
        "_format_handle": {"3.11": "(handle)"},
        "_set_nodelay": {"3.11": "(sock)"},
    },
    "asyncio.base_events.BaseEventLoop": {
        "_add_callback": {"3.11": "(self, handle)"},
        "_asyncgen_finalizer_hook": {"3.11": "(self, agen)"},
        "_asyncgen_firstiter_hook": {"3.11": "(self, agen)"},
        "_asyncgens": ALWAYS,
        "_asyncgens_shutdown_called": ALWAYS,
        "_check_callback": {"3.11": "(self, callback, method)"},
        "_check_closed": {"3.11": "(self)"},
        "_check_running": {"3.11": "(self)"},
        "_check_thread": {"3.11": "(self)"},
        "_clock_resolution": ALWAYS,
        "_closed": ALWAYS,
        "_coroutine_origin_tracking_enabled": ALWAYS,
        "_coroutine_origin_tracking_saved_depth": ALWAYS,
        "_current_handle": ALWAYS,
        "_debug": ALWAYS,
        "_default_executor": ALWAYS,
        "_exception_handler": ALWAYS,
        "_executor_shutdown_called": ALWAYS,
        "_internal_fds": ALWAYS,
        "_old_agen_hooks": {"3.11": "absent", "3.13": "attribute"},
        "_ready": ALWAYS,
        "_run_forever_cleanup": {"3.11": "absent", "3.13": "(self)"},
        "_run_forever_setup": {"3.11": "absent", "3.13": "(self)"},
        "_run_once": {"3.11": "(self)"},
        "_scheduled": ALWAYS,
        "_set_coroutine_origin_tracking": {"3.11": "(self, enabled)"},
        "_stopping": ALWAYS,
        "_task_factory": ALWAYS,
        "_thread_id": ALWAYS,
        "_timer_cancelled_count": ALWAYS,
    },
    "asyncio.base_events.Server": {
        "_clients": {"3.11": "absent", "3.13": "attribute"},
    },
    "asyncio.events": {
        "_ThreadSafeHandle": {"3.11": "absent", "3.14": "class"},
        "_get_running_loop": {"3.11": "()"},
        "_set_running_loop": {"3.11": "(loop, /)"},
    },
    "asyncio.events.Handle": {
        "_args": ALWAYS,
        "_callback": ALWAYS,
        "_cancelled": ALWAYS,
        "_context": ALWAYS,
        "_loop": ALWAYS,
        "_repr": ALWAYS,
        "_run": {"3.11": "(self)"},
        "_source_traceback": ALWAYS,
    },
    "asyncio.events.TimerHandle": {
        "_scheduled": ALWAYS,
        "_when": ALWAYS,
    },
    "asyncio.format_helpers": {
        "_format_callback_source": {
            "3.11": "(func, args)",
            "3.13": "(func, args, *, debug=False)",
        },
    },
    "asyncio.runners": {
        "_cancel_all_tasks": {"3.11": "(loop)"},
    },
    "asyncio.selector_events.BaseSelectorEventLoop": {
        "__init__": {"3.11": "(self, selector=None)"},
        "_add_reader": {
            "3.11": "(self, fd, callback, *args)",
            "3.15": "(self, fd, callback, *args, context=None)",
        },
        "_add_writer": {
            "3.11": "(self, fd, callback, *args)",
            "3.15": "(self, fd, callback, *args, context=None)",
        },
        "_csock": ALWAYS,
        "_ensure_fd_no_transport": {"3.11": "(self, fd)"},
        "_make_datagram_transport": {
            "3.11": "(self, sock, protocol, address=None, waiter=None, extra=None)",
        },
        "_make_socket_transport": {
            "3.11": "(self, sock, protocol, waiter=None, *, extra=None, server=None)",
            "3.15": (
                "(self, sock, protocol, waiter=None, *, extra=None, server=None, context=None)"
            ),
        },
        "_process_events": {"3.11": "(self, event_list)"},
        "_make_ssl_transport": {
            "3.11": (
                "(self, rawsock, protocol, sslcontext, waiter=None, *, "
                "server_side=False, server_hostname=None, extra=None, "
                "server=None, ssl_handshake_timeout=60.0, "
                "ssl_shutdown_timeout=30.0)"
            ),
            "3.15": (
                "(self, rawsock, protocol, sslcontext, waiter=None, *, "
                "server_side=False, server_hostname=None, extra=None, "
                "server=None, ssl_handshake_timeout=60.0, "
                "ssl_shutdown_timeout=30.0, context=None)"
            ),
        },
        "_remove_reader": {"3.11": "(self, fd)"},
        "_remove_writer": {"3.11": "(self, fd)"},
        "_selector": ALWAYS,
        "_ssock": ALWAYS,
        "_transports": ALWAYS,
        "_write_to_self": {"3.11": "(self)"},
    },
    "asyncio.unix_events._UnixDefaultEventLoopPolicy": {
        "_loop_factory": A_CLASS,
        "_watcher": {"3.11": "attribute", "3.14": "absent"},
    },
    "asyncio.unix_events._UnixSelectorEventLoop": {
        "__init__": {"3.11": "(self, selector=None)"},
        "_child_watcher_callback": {"3.11": "(self, pid, returncode, transp)"},
        "_make_read_pipe_transport": {"3.11": "(self, pipe, protocol, waiter=None, extra=None)"},
        "_make_subprocess_transport": {
            "3.11": (
                "async (self, protocol, args, shell, stdin, stdout, stderr, "
                "bufsize, extra=None, **kwargs)"
            ),
        },
        "_signal_handlers": ALWAYS,
        "_unix_server_sockets": {"3.11": "absent", "3.13": "attribute"},
        "_watcher": {"3.11": "absent", "3.14": "attribute"},
    },
}
"""The event loop and its handles."""

CONNECTIONS: dict[str, dict[str, What]] = {
    "_ssl": {
        "_SSLContext": A_CLASS,
        "_SSLSocket": A_CLASS,
    },
    "asyncio.selector_events": {
        "_SelectorDatagramTransport": A_CLASS,
        "_SelectorSocketTransport": A_CLASS,
        "_SelectorTransport": A_CLASS,
    },
    "asyncio.selector_events._SelectorDatagramTransport": {
        "__init__": {
            "3.11": "(self, loop, sock, protocol, address=None, waiter=None, extra=None)",
        },
        "_read_ready": {"3.11": "(self)"},
        "_sendto_ready": {"3.11": "(self)"},
    },
    "asyncio.selector_events._SelectorSocketTransport": {
        "__init__": {
            "3.11": "(self, loop, sock, protocol, waiter=None, extra=None, server=None)",
            "3.15": (
                "(self, loop, sock, protocol, waiter=None, extra=None, server=None, context=None)"
            ),
        },
        "_empty_waiter": ALWAYS,
        "_eof": ALWAYS,
        "_read_ready": {"3.11": "(self)"},
        "_read_ready__on_eof": {"3.11": "(self)"},
        "_read_ready_cb": ALWAYS,
        "_write_ready": {"3.11": "(self)", "3.12": "attribute"},
        "_write_send": {"3.11": "absent", "3.12": "(self)"},
        "_write_sendmsg": {"3.11": "absent", "3.12": "(self)"},
    },
    "asyncio.selector_events._SelectorTransport": {
        "__init__": {
            "3.11": "(self, loop, sock, protocol, extra=None, server=None)",
            "3.15": "(self, loop, sock, protocol, extra=None, server=None, context=None)",
        },
        "_add_reader": {"3.11": "(self, fd, callback, *args)"},
        "_buffer": ALWAYS,
        "_buffer_size": {"3.11": "absent", "3.15": "attribute"},
        "_call_connection_lost": {"3.11": "(self, exc)"},
        "_closing": ALWAYS,
        "_conn_lost": ALWAYS,
        "_context": {"3.11": "absent", "3.15": "attribute"},
        "_fatal_error": {"3.11": "(self, exc, message='Fatal error on transport')"},
        "_loop": ALWAYS,
        "_paused": ALWAYS,
        "_protocol": ALWAYS,
        "_protocol_connected": ALWAYS,
        "_server": ALWAYS,
        "_sock": ALWAYS,
        "_sock_fd": ALWAYS,
    },
    "asyncio.sslproto": {
        "_SSLProtocolTransport": A_CLASS,
    },
    "asyncio.sslproto.SSLProtocol": {
        "__init__": {
            "3.11": (
                "(self, loop, app_protocol, sslcontext, waiter, "
                "server_side=False, server_hostname=None, "
                "call_connection_made=True, ssl_handshake_timeout=None, "
                "ssl_shutdown_timeout=None)"
            ),
        },
        "_app_reading_paused": ALWAYS,
        "_app_transport": ALWAYS,
        "_app_transport_created": ALWAYS,
        "_app_writing_paused": ALWAYS,
        "_call_eof_received": {"3.11": "(self)"},
        "_control_app_writing": {"3.11": "(self)"},
        "_control_ssl_reading": {"3.11": "(self)"},
        "_do_read": {"3.11": "(self)"},
        "_do_read__buffered": {"3.11": "(self)"},
        "_do_read__copied": {"3.11": "(self)"},
        "_do_write": {"3.11": "(self)"},
        "_fatal_error": {"3.11": "(self, exc, message='Fatal error on transport')"},
        "_get_app_transport": {"3.11": "(self)"},
        "_incoming": ALWAYS,
        "_incoming_high_water": ALWAYS,
        "_incoming_low_water": ALWAYS,
        "_loop": ALWAYS,
        "_on_handshake_complete": {"3.11": "(self, handshake_exc)"},
        "_outgoing": ALWAYS,
        "_outgoing_high_water": ALWAYS,
        "_outgoing_low_water": ALWAYS,
        "_process_outgoing": {"3.11": "(self)"},
        "_set_app_protocol": {"3.11": "(self, app_protocol)"},
        "_ssl_reading_paused": ALWAYS,
        "_ssl_writing_paused": ALWAYS,
        "_sslcontext": ALWAYS,
        "_sslobj": ALWAYS,
        "_start_shutdown": {"3.11": "(self)"},
        "_state": ALWAYS,
        "_write_appdata": {"3.11": "(self, list_of_data)"},
        "_write_backlog": ALWAYS,
    },
    "asyncio.sslproto._SSLProtocolTransport": {
        "__init__": {"3.11": "(self, loop, ssl_protocol)"},
    },
    "asyncio.streams.StreamReader": {
        "_buffer": ALWAYS,
        "_eof": ALWAYS,
        "_limit": ALWAYS,
        "_paused": ALWAYS,
        "_transport": ALWAYS,
        "_waiter": ALWAYS,
        "_wakeup_waiter": {"3.11": "(self)"},
    },
    "asyncio.streams.StreamReaderProtocol": {
        "_stream_reader": ALWAYS,
        "_stream_reader_wr": ALWAYS,
    },
    "asyncio.transports.BaseTransport": {
        "_extra": ALWAYS,
    },
    "asyncio.transports._FlowControlMixin": {
        "__init__": {"3.11": "(self, extra=None, loop=None)"},
        "_high_water": ALWAYS,
        "_loop": ALWAYS,
        "_low_water": ALWAYS,
        "_maybe_pause_protocol": {"3.11": "(self)"},
        "_maybe_resume_protocol": {"3.11": "(self)"},
        "_protocol_paused": ALWAYS,
    },
    "asyncio.trsock.TransportSocket": {
        "_sock": ALWAYS,
    },
    "ssl.SSLContext": {
        "_msg_callback": ALWAYS,
    },
    "ssl.SSLObject": {
        "_sslobj": ALWAYS,
    },
}
"""Transports of connections, streams and TLS."""

CHILDREN: dict[str, dict[str, What]] = {
    "asyncio.base_subprocess.BaseSubprocessTransport": {
        "__init__": {
            "3.11": (
                "(self, loop, protocol, args, shell, stdin, stdout, stderr, "
                "bufsize, waiter=None, extra=None, **kwargs)"
            ),
        },
        "_check_proc": {"3.11": "(self)"},
        "_loop": ALWAYS,
        "_proc": ALWAYS,
        "_wait": {"3.11": "async (self)"},
    },
    "asyncio.unix_events": {
        "_PidfdChildWatcher": {"3.11": "absent", "3.14": "class"},
        "_UnixDefaultEventLoopPolicy": A_CLASS,
        "_UnixReadPipeTransport": A_CLASS,
        "_UnixSubprocessTransport": A_CLASS,
    },
    "asyncio.unix_events._UnixReadPipeTransport": {
        "__init__": {"3.11": "(self, loop, pipe, protocol, waiter=None, extra=None)"},
        "_call_connection_lost": {"3.11": "(self, exc)"},
        "_closing": ALWAYS,
        "_fatal_error": {"3.11": "(self, exc, message='Fatal error on pipe transport')"},
        "_fileno": ALWAYS,
        "_loop": ALWAYS,
        "_paused": ALWAYS,
        "_protocol": ALWAYS,
        "_read_ready": {"3.11": "(self)"},
    },
    "asyncio.unix_events._UnixSubprocessTransport": {
        "_start": {"3.11": "(self, args, shell, stdin, stdout, stderr, bufsize, **kwargs)"},
    },
    "subprocess": {
        "_USE_VFORK": {"3.11": "attribute", "3.14": "absent"},
        "_args_from_interpreter_flags": {"3.11": "()"},
        "_fork_exec": {
            "3.11": "callable",
            "3.12": (
                "(args, executable_list, close_fds, pass_fds, cwd, env, p2cread, "
                "p2cwrite, c2pread, c2pwrite, errread, errwrite, errpipe_read, "
                "errpipe_write, restore_signals, call_setsid, pgid_to_set, gid, "
                "extra_groups, uid, child_umask, preexec_fn, allow_vfork, /)"
            ),
            "3.14": (
                "(args, executable_list, close_fds, pass_fds, cwd, env, p2cread, "
                "p2cwrite, c2pread, c2pwrite, errread, errwrite, errpipe_read, "
                "errpipe_write, restore_signals, call_setsid, pgid_to_set, gid, "
                "extra_groups, uid, child_umask, preexec_fn, /)"
            ),
        },
    },
    "subprocess.Popen": {
        "_child_created": ALWAYS,
        "_close_pipe_fds": {
            "3.11": "(self, p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)",
        },
        "_execute_child": {
            "3.11": (
                "(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, "
                "env, startupinfo, creationflags, shell, p2cread, p2cwrite, "
                "c2pread, c2pwrite, errread, errwrite, restore_signals, gid, "
                "gids, uid, umask, start_new_session, process_group)"
            ),
        },
    },
}
"""Child processes and pipes."""

POOLS: dict[str, dict[str, What]] = {
    "concurrent.futures": {
        "_base": A_MODULE,
    },
    "concurrent.futures._base.Future": {
        "_condition": ALWAYS,
        "_done_callbacks": ALWAYS,
        "_exception": ALWAYS,
        "_invoke_callbacks": {"3.11": "(self)"},
        "_result": ALWAYS,
        "_state": ALWAYS,
        "_waiters": ALWAYS,
    },
    "concurrent.futures.process": {
        "_RemoteTraceback": A_CLASS,
        "_process_chunk": {"3.11": "(fn, chunk)"},
        "_threads_wakeups": ALWAYS,
    },
    "concurrent.futures.process.ProcessPoolExecutor": {
        "_broken": ALWAYS,
        "_force_shutdown": {"3.11": "absent", "3.14": "(self, operation)"},
        "_initargs": ALWAYS,
        "_max_workers": ALWAYS,
        "_mp_context": ALWAYS,
        "_pending_work_items": ALWAYS,
        "_processes": ALWAYS,
        "_shutdown_thread": ALWAYS,
    },
    "concurrent.futures.thread": {
        "_threads_queues": ALWAYS,
    },
    "concurrent.futures.thread.ThreadPoolExecutor": {
        "_shutdown": ALWAYS,
        "_threads": ALWAYS,
    },
    "functools": {
        "_lru_cache_wrapper": A_CLASS,
    },
    "multiprocessing.process": {
        "_ParentProcess": A_CLASS,
        "_parent_process": ALWAYS,
    },
    "multiprocessing.process.BaseProcess": {
        "_bootstrap": {"3.11": "(self, parent_sentinel=None)"},
        "_parent_name": ALWAYS,
        "_parent_pid": ALWAYS,
    },
    "multiprocessing.process._ParentProcess": {
        "__init__": {"3.11": "(self, name, pid, sentinel)"},
    },
    "multiprocessing.reduction.ForkingPickler": {
        "_extra_reducers": ALWAYS,
    },
    "multiprocessing.resource_tracker": {
        # Came with patch releases.
        "_fork_intent": {"3.11": ("absent", "attribute"), "3.15": "attribute"},
        "_resource_tracker": ALWAYS,
    },
    "multiprocessing.resource_tracker.ResourceTracker": {
        "_fd": ALWAYS,
        "_stop": {"3.11": "(self)", "3.14": "(self, use_blocking_lock=True, wait_timeout=None)"},
    },
    "multiprocessing.util": {
        "_exit_function": {
            "3.11": (
                "(info=..., debug=..., _run_finalizers=..., active_children=..., "
                "current_process=...)"
            ),
        },
    },
    "os": {
        "_exit": {"3.11": "(status)"},
    },
    "os._Environ": {
        "_data": ALWAYS,
    },
    "sys": {
        "_current_frames": {"3.11": "()"},
        "_getframe": {"3.11": "(depth=0, /)"},
        "_xoptions": ALWAYS,
    },
}
"""Pools, and what their workers take over from the program."""

WATCH: dict[str, dict[str, What]] = {
    "threading": {
        "_shutdown": {"3.11": "()"},
    },
    "asyncio.taskgroups.TaskGroup": {
        "_aexit": {"3.11": "absent", "3.14": "async (self, et, exc)"},
        "_on_completed_fut": ALWAYS,
        "_on_task_done": {"3.11": "(self, task)"},
        "_tasks": ALWAYS,
    },
    "asyncio.tasks": {
        "_GatheringFuture": A_CLASS,
        "_PyTask": A_CLASS,
        "_current_tasks": ALWAYS,
        "_eager_tasks": {"3.11": "absent", "3.12": "attribute"},
        "_release_waiter": {"3.11": "(waiter, *args)"},
        "_scheduled_tasks": {"3.11": "absent", "3.12": "attribute"},
        "_wait": {"3.11": "async (fs, timeout, return_when, loop)"},
    },
    "asyncio.tasks.Task": {
        "_asyncio_awaited_by": {"3.11": "absent", "3.14": "attribute"},
        "_callbacks": ALWAYS,
        "_coro": ALWAYS,
        "_exception": ALWAYS,
        "_fut_waiter": ALWAYS,
        "_log_destroy_pending": ALWAYS,
        "_log_traceback": ALWAYS,
        "_source_traceback": ALWAYS,
        "_state": ALWAYS,
    },
    "asyncio.tasks._GatheringFuture": {
        "_children": ALWAYS,
    },
    "asyncio.tasks._PyTask": {
        "_name": ALWAYS,
    },
    "asyncio.timeouts.Timeout": {
        "_when": ALWAYS,
    },
    "warnings": {
        "_warn_unawaited_coroutine": {"3.11": "(coro)"},
    },
}
"""Tasks as the watch sees them."""

TABLE: dict[str, dict[str, What]] = {**LOOP, **CONNECTIONS, **CHILDREN, **POOLS, **WATCH}

MODULES = ("_asyncio", "_pickle", "_posixsubprocess", "_socket", "_ssl", "concurrent.futures._base")
"""Private modules that we import; a name of the table may stand in them."""

COINCIDENCES = {
    "_Pickler": "a class of ours",
    "_State": "a name of ours for a public class",
    "_Unpickler": "a class of ours",
    "_after_fork": "of a class of ours",
    "_call": "of the demo",
    "_close": "a method of our pool, whose base is abstract",
    "_count": "of a class of ours; and a function of `_thread`",
    "_done_callback": "inside a function of asyncio's, where tests/watch looks for it",
    "_encoding": "of a class of ours",
    "_enter": "of a class of ours",
    "_get_extra_info": "a name of ours for a method of `BaseTransport`",
    "_handle": "of a class of ours",
    "_id": "a function of ours",
    "_index": "of a class of ours",
    "_inner_done_callback": "as `_done_callback`",
    "_key": "of a class of ours",
    "_launch": "a module of ours",
    "_lock": "of a class of ours",
    "_main": "a package of ours",
    "_method": "of a request of aiohttp's",
    "_name_": "documented: what a member of an enumeration has",
    "_names": "a table of ours",
    "_on_completion": "as `_done_callback`",
    "_outer_done_callback": "as `_done_callback`",
    "_pid": "of a class of ours",
    "_pool": "of classes of ours",
    "_read": "of a class of ours",
    "_result_or_cancel": "a function of ours",
    "_results": "a function of ours",
    "_send": "a function of ours",
    "_serving": "a module of ours",
    "_session": "of the demo",
    "_set": "a function of ours",
    "_set_extra": "a name of ours for a slot of `BaseTransport._extra`",
    "_sort_order_": "as `_name_`",
    "_task": "a function of ours",
    "_thread": "a documented module",
    "_timeout": "of our pool, whose base is abstract",
    "_tls": "the native half of a TLS connection",
    "_token": "of our future, whose standard base has no such name",
    "_track": "of the demo",
    "_value_": "as `_name_`",
    "_write": "of a class of ours",
}
"""Names of ours that the standard library has as well, elsewhere: what each is with us."""
