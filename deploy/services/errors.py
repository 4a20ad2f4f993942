"""What can go wrong with a local service. Pure."""

from __future__ import annotations


class ServiceError(Exception):
    """A service did not start or stop as asked."""


class ServiceMissingError(ServiceError):
    """A program that the service needs is not on this machine; the message says how to get it."""
