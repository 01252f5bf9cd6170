"""The paper's figures, one module each; all share `study.figures.style`."""
