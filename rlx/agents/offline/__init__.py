"""Learners from data, one file each; an action may be a chunk of several."""
