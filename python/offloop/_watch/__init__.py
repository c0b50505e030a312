"""The watch: what is known of a stalled callback, and of tasks that are lost.

Rust finds stalls. What it wants to know of a task, a request or a callback is read here, under the
GIL, without running any code of the program's.
"""
