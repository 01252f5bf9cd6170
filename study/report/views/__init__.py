"""What each table, list and section shows, in which order and words: blocks from data frames."""
