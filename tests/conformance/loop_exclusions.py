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

EXCLUDED_TESTS: dict[str, dict[str, str]] = {}
"""Module -> `Class.test` -> reason."""

PASSED_OVER = (
    "Windows",
    "gettotalrefcount",
    "MultiLoopChildWatcher has a race condition",  # The suite of 3.11 says so of its own watcher.
)
"""Parts of the reasons for which the suite itself passes over a test on Linux."""
