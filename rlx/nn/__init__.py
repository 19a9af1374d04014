"""Network parts: flax.linen modules."""
