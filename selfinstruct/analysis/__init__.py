"""The paper's analyses of a data set, and its figures (notebooks 10 to 13)."""

from .agreement import as_table
from .cells import collect_rounds, collect_values, count_requests_per_round, load_cells, measure_cells
from .compare import (
    Sample,
    collect_flags,
    compare_datasets,
    compare_lengths,
    compare_samples,
    find_own_verbs,
    find_twins,
    join_headlines,
    label_rows,
    note_unseen,
    tabulate_differences,
)
from .figures import OUTLINE, new_figure, plot_lengths, plot_overlap, source_line
from .forest import ROOM, plot_forest, plot_rounds
from .method import draw_method
from .paired import compare_columns, measure_detectable_difference, summarise_columns
from .predictions import cut_at_next_example, find_definition, load_predictions, score_cuts, score_responses
from .rings import draw_verb_nouns
from .singles import compare_rows, judge_rows
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
from .tables import (
    build_funnels,
    find_differing_parameters,
    tabulate_cells,
    tabulate_means,
    tabulate_verdicts,
    write_tables,
)
from .verbs import load_parser
from .verdicts import compare_arms, compare_numbers, count_seeds, split_variance
