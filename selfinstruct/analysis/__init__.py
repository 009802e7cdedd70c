"""The paper's analyses of a data set, and its figures (notebooks 10 to 13)."""

from .agreement import as_table
from .figures import new_figure, plot_lengths, plot_overlap, source_line
from .method import draw_method
from .rings import draw_verb_nouns
from .statistics import (
    LONG,
    PARTS,
    compare_table_1,
    count_duplicates,
    count_languages,
    count_scripts,
    describe_dataset,
    measure_intervals,
    measure_medians,
    measure_vocabulary,
    show_table,
    summarise_lengths,
    summarise_scores,
    word_counts,
)
