"""What of `test.test_asyncio` does not run with our loop, each with its reason."""

EXCLUDED_MODULES: dict[str, str] = {
    "test_selector_events": (
        "makes the standard loop and its transports by itself and replaces their private parts; "
        "nothing of ours would run"
    ),
    "test_proactor_events": "makes the loop of another operating system by itself",
    "test_windows_events": "tests the loop of another operating system",
    "test_windows_utils": "tests another operating system",
}

EXCLUDED_TESTS: dict[str, dict[str, str]] = {
    "test_sslproto": {
        "SslProtoHandshakeTests.test_connection_lost_when_busy": (
            "gives the transport a mock in place of a socket, and waits for the error of its "
            "`send`; ours writes to its descriptor, and there is none"
        ),
    },
    "test_unix_events": {
        "PidfdChildWatcherTests.test_pidfd_closed_when_waitpid_raises": (
            "waits for `os.waitpid`, which it replaces, to be called by the standard loop's own "
            "watcher of children; ours does not go through Python"
        ),
    },
}
"""Module -> `Class.test` -> reason. Only the latest versions of the suite have some of them."""

PASSED_OVER = (
    "Windows",
    "gettotalrefcount",
    "not enough memory",  # Tests that ask for gigabytes run where the suite is told of them.
    "MultiLoopChildWatcher has a race condition",  # The suite of 3.11 says so of its own watcher.
)
"""Parts of the reasons for which the suite itself passes over a test on Linux."""
