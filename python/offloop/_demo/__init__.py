"""``offloop demo``: one web service under load, four ways, with a heartbeat that tells them apart.

Each way runs in processes of its own: the service (`service`), which does the work of `work`, and
the client (`client`), which asks for it.  `story` runs them in turn and prints; `layout` arranges
what was recorded into rows; `picture` and `page` draw the rows as PNG and HTML.

Nothing is imported here, since workers import `work`.
"""
