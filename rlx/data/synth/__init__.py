"""Data sets made here instead of downloaded."""
