"""Ablating prompts: one prompt set and some draws, all that becomes of them, and two of them compared (notebook 20)."""

from .draws import compare_trials
from .panel import AblationPanel
from .trial import estimate_trial, load_machine_instructions, plan_trial, run_trial
from .view import tabulate_trials
