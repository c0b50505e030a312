"""The tools that are measured, each started as its documentation says."""
