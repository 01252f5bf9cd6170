"""Runs and where they are: work folders, side by side, measured, recorded, how far."""
