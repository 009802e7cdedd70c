"""The quality review of Table 2: what a person is asked, the form and the spreadsheet, and a model as a further rater."""

from .form import ReviewForm, wants_form
from .items import PAPER, Review, draw_sample, keep_sample, measure_agreement, summarise_review
from .model import calibrate, rate_with_model, rating_prompt
from .questions import QUESTIONS
