"""Stateless mathematics on arrays: one function per published equation."""
