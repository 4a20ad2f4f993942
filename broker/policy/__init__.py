"""Routing policy as data: rules, windows, families, flags; pure decisions with their trail."""
