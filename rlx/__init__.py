"""rlx: high-throughput reinforcement learning, robot learning and reasoning on JAX."""

__version__ = "0.1.0"
