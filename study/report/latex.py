r"""Tables as LaTeX, for documents with `\usepackage{booktabs}`."""

import pandas as pd

from study.report.blocks import Table

# Text is escaped in one pass; symbols that pdflatex lacks become commands.
_SYMBOLS = {c: "\\" + c for c in "&%$#_{}"}
_SYMBOLS |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_SYMBOLS |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
_SYMBOLS |= {"→": r"$\rightarrow$", "−": "$-$", "±": r"$\pm$", "≥": r"$\geq$", "–": "--"}
_ESCAPES = str.maketrans(_SYMBOLS)


def escape(text: object) -> str:
    """Text that is safe in a table cell or a caption, on one line."""
    return " ".join(str(text).split()).translate(_ESCAPES)


def latex(table: Table, caption: str, label: str) -> str:
    """`table` as a booktabs table.

    Args:
        table: columns of two levels get a two-line head.
        caption: in place of the table's own, which a page around it explains.
        label: of `\\ref`, e.g. "tab:cam".
    """
    cells = table.frame.astype(object).map(escape)
    if isinstance(cells.columns, pd.MultiIndex):
        names = [tuple(map(escape, column)) for column in cells.columns]
        cells.columns = pd.MultiIndex.from_tuples(names)
    else:
        cells.columns = pd.Index([escape(name) for name in cells.columns])
    return cells.to_latex(
        index=False,
        escape=False,  # done above, pandas leaves the caption and some symbols as they are
        column_format="l" * table.left + "r" * (cells.shape[1] - table.left),
        multicolumn_format="c",
        caption=escape(caption),
        label=label,
        position="htbp",
    )
