"""This paper: its runs, analyses, tables, figures, claims and report."""
