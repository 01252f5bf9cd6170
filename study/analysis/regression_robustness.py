"""The paper's own numbers of Figure 3."""

from study import paper


def published(model: str, quantity: str, category: str = "") -> float:
    """The paper's number: p of a model's regression, or AP of one of its classes."""
    table = paper.load("figure3").fillna({"category": ""})
    return table.set_index(["model", "quantity", "category"])["value"][model, quantity, category]
