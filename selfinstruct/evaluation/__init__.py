"""Judging what fine-tuning made of a model: notebooks 07 and 16 (paper section 4)."""

from .comparison import compare_table_3, draw_differences, say_difference, tabulate_columns, tabulate_differences
from .curve import compare_points, plan_curve
from .evaluate import open_evaluation
from .scaling import find_points, open_judging, open_scaling, open_trainings
from .tasks import load_heldout_pairs
