"""The views: what shows a running program, also while its event loop is stuck."""

from offloop._views.live_page import Page, page
from offloop._views.switch import Views, views

__all__ = ["Page", "Views", "page", "views"]
