"""Runs and where they are: work folders, the store, side by side, measured, how far."""
