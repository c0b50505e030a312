"""A plug-in of pytest for tornado's suite: what its own runner sets, on which its tests rely."""

import logging


def pytest_configure(config: object) -> None:
    """Keep the lines for each request out of what tests find in the log."""
    logging.getLogger("tornado.access").setLevel(logging.CRITICAL)
