"""Fine-tuning on what a run made: the rows and where they come from, the training, and what may be concluded."""
