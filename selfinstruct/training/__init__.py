"""Closing the loop: training on what was generated, and judging what came of it (notebooks 06 and 07)."""

from .comparison import (
    SideBySide,
    choose_extremes,
    compare_measures,
    compare_table_3,
    draw_differences,
    find_pairs,
    record_evaluation,
    say_difference,
    summarise_measures,
    tabulate_columns,
    tabulate_differences,
)
from .evaluate import open_evaluation
from .tasks import describe_spread
