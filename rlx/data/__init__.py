"""Replay memories and data sets."""
