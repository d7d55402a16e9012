"""Measurements of bundles on this machine, through the public API."""
