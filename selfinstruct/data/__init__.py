"""Data sets of any origin as rows (instruction, input, output), in and out."""

from .datasets import Dataset, load_dataset, load_datasets
