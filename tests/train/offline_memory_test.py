"""Images are held once: training on stacks of frames and their successors makes no copy of them."""

from __future__ import annotations

import json

CODE = """
import json
from experiments.benchmarks import offline_pixels
print(json.dumps(offline_pixels.memory(4000, updates=2)))
"""


def test_frames_are_held_once_while_stacks_of_three_are_drawn(run_python):
    """In a fresh process; 49 MB of frames, of which stacks and successors would be 6 times that."""
    found = json.loads(run_python(CODE).stdout.splitlines()[-1])
    size = found["frame_bytes"]
    assert size == 4000 * 64 * 64 * 3 and found["finite"]
    assert found["live"] < 1.05 * size
    assert found["growth"] < 1.5 * size
    assert found["temporary"] < 0.75 * size
