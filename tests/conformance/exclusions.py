"""The standard tests that do not run against our pool, each with its reason.

Three kinds of test may stand here: those that read the standard pool's private state, those that
demand that one crash break the pool, and those of another operating system. An entry that names no
test of the suite fails the suite.
"""

PROCESSES = "reads _processes, the standard pool's private table of workers"
MANAGER = "reads _executor_manager_thread and _call_queue, private threads that we do not have"

EXCLUSIONS: dict[str, dict[str, str]] = {
    "ProcessPoolExecutorTest": {
        "test_max_workers_too_large": "tests a limit of Windows",
        "test_killed_child": f"{PROCESSES}, and demands that one crash break the pool",
        "test_saturation": PROCESSES,
        "test_idle_process_reuse_one": PROCESSES,
        "test_idle_process_reuse_multiple": PROCESSES,
        "test_max_tasks_per_child": PROCESSES,
        "test_python_finalization_error": (
            "makes the standard pool's second Python thread fail to start; we start none"
        ),
    },
    "ProcessPoolShutdownTest": {
        "test_processes_terminate": PROCESSES,
        "test_context_manager_shutdown": PROCESSES,
        "test_del_shutdown": MANAGER,
        "test_shutdown_no_wait": MANAGER,
    },
    "ExecutorDeadlockTest": {
        "test_shutdown_deadlock_pickle": MANAGER,
        "test_gh105829_should_not_deadlock_if_wakeup_pipe_full": (
            "replaces the standard pool's private wake-up pipe and manager thread"
        ),
    },
}

ADDED_LATER = {
    # Test -> the first version of Python whose suite has it.
    "test_python_finalization_error": (3, 12, 2),
    "test_gh105829_should_not_deadlock_if_wakeup_pipe_full": (3, 12, 1),
}
