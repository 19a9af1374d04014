"""From a sweep to jobs: `python -m tpu.launch`. See tpu/README.md."""
