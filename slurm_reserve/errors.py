"""Errors of the package, named by cause; all of them are :class:`ReserveError`."""


class ReserveError(Exception):
    """Base of every error that this package raises on purpose."""
