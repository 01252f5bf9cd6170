"""Runs and where they are: work folders, side by side, kept, recorded, how far."""
