"""What a claim is: a sentence of the paper, how it is read, and what decides it."""

from dataclasses import dataclass

from study.claims.rules import Rule, Side
from study.claims.sources import Evidence


@dataclass(frozen=True)
class Claim:
    """One checkable sentence. `sentence` is the paper's own, `reading` what we test of it.

    `paper`: its value in words, where the evidence's cells do not have it.
    """

    id: str
    section: str
    sentence: str
    reading: str
    evidence: Evidence
    rule: Rule = Side()
    paper: str = ""
