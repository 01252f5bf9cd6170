"""Pages for people: the report of a scale, Markdown and LaTeX."""
