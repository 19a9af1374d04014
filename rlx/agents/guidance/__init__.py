"""Learners of what guided sampling needs, and of models tilted by a reward, one file each.

The target everywhere: p(x_0) exp(r(x_0) / alpha) / Z, p the law of a pre-trained model.
"""
