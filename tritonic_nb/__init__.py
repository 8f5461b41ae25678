"""Triton Inference Server over shared memory, from a Jupyter notebook."""

__version__ = "0.1.0"
