"""The paper itself: the published files, the scorecard of its numbers, and the quirks of its code."""

from .scorecard import build_scorecard, plot_ratios
