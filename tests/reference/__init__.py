"""Slow, obvious reference implementations: the oracles of the test suite."""
