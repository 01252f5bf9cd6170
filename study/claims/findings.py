"""What is wrong or unclear in the paper: facts about its own numbers, in `findings.yaml`.

None depends on our runs; what our runs say against the paper is in the ledger.
"""

from study.claims import load

# How strongly the two models' APs would have to correlate over classes for the paper's p-values of
# Figure 3 to show a difference (Williams' test, p < .05).
NEEDED_CORRELATION = 0.65


def findings() -> dict[str, list[str]]:
    """Findings by heading, each a sentence or two of Markdown."""
    found: dict[str, list[str]] = load("findings")
    return found


def about(start: str) -> list[str]:
    """Those findings that start so."""
    return [one for found in findings().values() for one in found if one.startswith(start)]
