"""The paper's figures, one module each; all share `opmask.figures.style`."""
