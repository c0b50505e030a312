"""The test suites of other projects, on the standard event loop and on ours: ``make suites``.

`suites.toml` says which suites, in which version. `preparing` fetches each and makes an environment
for it, `running` runs it, `comparing` tells what differs, `report` writes ``docs/suites.md``. What
stands in ``inside/`` runs in the interpreters of the suites.
"""
