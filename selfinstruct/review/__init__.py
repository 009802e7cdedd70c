"""What people judge: the quality of data (Table 2), also of several sets mixed, and responses of models (Figure 6); a model as judge."""

from .blind import compare_sets, open_blind, summarise_mixed
from .form import ReviewForm, wants_form
from .items import PAPER, Review, draw_sample, keep_sample, measure_agreement, summarise_review
from .judge import judge_responses
from .model import calibrate, rate_with_model, rating_prompt
from .questions import MEANINGS, QUESTIONS
from .ratings import (
    compare_columns,
    draw_grades,
    load_raters,
    measure_raters,
    open_ratings,
    record_ratings,
    summarise_grades,
    tabulate_shares,
)
from .responses import load_responses
