"""The standard tests that do not run against our pool, each with its reason.

Three kinds of test may stand here: those that reach into the standard pool's private machinery,
those that demand what we promise to do otherwise (that one crash break the pool, that its workers
serve no other pool), and those of another operating system. An entry that names no test of the
suite fails the suite.
"""

BREAKS = "demands that one crash break the pool"
AT_ONCE = (
    "submits what cannot be pickled, and counts the workers that the standard pool starts for it "
    "at once"
)
SUCCESSION = (
    "demands that a worker has gone before its successor runs a call, and that fork be refused"
)
SHARED = "demands that idle workers end with the pool; ours are shared by pools that start alike"
MANAGER = "reads _executor_manager_thread and _call_queue, private threads that we do not have"
FORCED = "replaces or calls what the standard pool ends its workers by, which is private"

EXCLUSIONS: dict[str, dict[str, str]] = {
    "ProcessPoolExecutorTest": {
        "test_max_workers_too_large": "tests a limit of Windows",
        "test_killed_child": BREAKS,
        "test_broken_process_pool_traceback": BREAKS,
        "test_traceback_when_child_process_terminates_abruptly": BREAKS,
        "test_saturation": AT_ONCE,
        "test_max_tasks_per_child": SUCCESSION,
        "test_shutdown_no_wait_max_tasks_gh119592": MANAGER,
        "test_gc_during_max_tasks_worker_exit_gh152967": MANAGER,
        "test_failed_worker_replacement_breaks_pool": MANAGER,
        "test_force_shutdown_during_max_tasks_worker_exit": MANAGER,
        "test_terminate_workers": FORCED,
        "test_kill_workers": FORCED,
        "test_force_shutdown_workers_invalid_op": FORCED,
        "test_force_shutdown_workers": FORCED,
        "test_force_shutdown_workers_stops_pool": SHARED,
        "test_python_finalization_error": (
            "makes the standard pool's second Python thread fail to start; we start none"
        ),
    },
    "ProcessPoolShutdownTest": {
        "test_processes_terminate": AT_ONCE,
        "test_del_shutdown": MANAGER,
        "test_shutdown_no_wait": MANAGER,
        "test_shutdown_gh_132969_case_1": MANAGER,
        "test_shutdown_gh_132969_case_2": MANAGER,
    },
    "ExecutorDeadlockTest": {
        "test_shutdown_deadlock_pickle": MANAGER,
        "test_gh105829_should_not_deadlock_if_wakeup_pipe_full": (
            "replaces the standard pool's private wake-up pipe and manager thread"
        ),
    },
}

FORK_EXCLUSIONS: dict[str, dict[str, str]] = {
    "FailingInitializerMixin": {
        "test_initializer": (
            "hands over a queue of a fork context, whose locks pass by fork alone; "
            "our workers are never forked from the program"
        ),
    },
}
"""What does not run with a fork context, besides."""

ADDED_LATER = {
    # Test -> a version of Python whose suite has it; some earlier ones do not.
    "test_python_finalization_error": (3, 12, 2),
    "test_gh105829_should_not_deadlock_if_wakeup_pipe_full": (3, 12, 1),
    "test_broken_process_pool_traceback": (3, 14, 10),
    "test_shutdown_no_wait_max_tasks_gh119592": (3, 14, 10),
    "test_gc_during_max_tasks_worker_exit_gh152967": (3, 14, 10),
    "test_failed_worker_replacement_breaks_pool": (3, 14, 10),
    "test_force_shutdown_during_max_tasks_worker_exit": (3, 14, 10),
    "test_traceback_when_child_process_terminates_abruptly": (3, 15),
    "test_shutdown_gh_132969_case_1": (3, 15),
    "test_shutdown_gh_132969_case_2": (3, 15),
    "test_terminate_workers": (3, 14),
    "test_kill_workers": (3, 14),
    "test_force_shutdown_workers_invalid_op": (3, 14),
    "test_force_shutdown_workers": (3, 14),
    "test_force_shutdown_workers_stops_pool": (3, 14),
}
