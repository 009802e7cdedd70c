"""Data sets of any origin as rows (instruction, input, output), in and out."""

from .datasets import Dataset, load_dataset, load_datasets
from .origin import find_prompt_set, find_seeds
