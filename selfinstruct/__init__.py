"""SELF-INSTRUCT, step by step: a thin package under the notebooks."""

__version__ = "0.1.0"
