"""Blocks as GitHub-flavoured Markdown."""

import re
from collections.abc import Sequence

import pandas as pd

from study.format import MISSING
from study.report.blocks import Block, Bullets, Heading, Table


def markdown(blocks: Sequence[Block] | Block) -> str:
    """One block or several, with a blank line between them."""
    if isinstance(blocks, str | Heading | Bullets | Table):
        return _block(blocks)
    return "\n\n".join(map(_block, blocks))


def _block(block: Block) -> str:
    if isinstance(block, Table):
        return "\n\n".join(filter(None, [text(block.caption), _table(block)]))
    if isinstance(block, Bullets):
        return "\n".join(f"- {text(item)}" for item in block.items)
    return f"## {text(block.text)}" if isinstance(block, Heading) else text(block)


def text(source: str) -> str:
    """Text in which nothing begins an HTML tag."""
    return re.sub(r"<(?=[a-zA-Z!/?])", "&lt;", source)


def escape(value: object) -> str:
    """Text that is safe in a table cell: no cell border, no line break, no HTML tag."""
    line = " ".join(str(value).split())
    return line.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _table(table: Table) -> str:
    cells = table.frame.astype(object)
    cells = cells.where(cells.notna(), MISSING).map(escape)
    names = [": ".join(filter(None, n)) if isinstance(n, tuple) else n for n in cells.columns]
    cells.columns = pd.Index([escape(name) for name in names])
    align = ["left"] * table.left + ["right"] * (cells.shape[1] - table.left)
    return cells.to_markdown(index=False, disable_numparse=True, colalign=align)
