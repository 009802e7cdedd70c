"""ROUGE-L on a growing pool of instructions: rouge_score's answers to the last bit, at the speed of the machine."""

from .pool import Admission, InstructionPool, best_matches, nearest_neighbours, rouge_l
