"""Tables 1 to 3 of the paper, ours beside its numbers."""
