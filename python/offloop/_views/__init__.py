"""The views: what shows a running program, also while its event loop is stuck."""

from offloop._views.switch import Views, views

__all__ = ["Views", "views"]
