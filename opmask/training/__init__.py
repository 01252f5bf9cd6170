"""Training: the trainer, its hooks, what a run needs, work folders, runs side by side."""
