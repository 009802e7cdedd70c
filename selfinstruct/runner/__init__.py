"""Notebooks run headless in order into one run folder: papermill with everything checked first."""
