"""Loops: a learner, environments and a buffer as one compiled, donated program, and the host side
around it.
"""
