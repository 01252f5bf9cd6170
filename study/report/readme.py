"""The report of a scale, `reports/<scale>/README.md`: what reproduced and how certain, then how it
was made. A result that did not reproduce is a sentence like any other.

To add a section, add it to `templates/README.md.j2`, and its blocks here.
"""

from study.report.inputs import Inputs
from study.report.render import render
from study.report.views import claims, compute, data, figures, runs, summary, table1
from study.report.words import WORDS


def readme(inputs: Inputs) -> str:
    """The Markdown. Raises KeyError if `inputs` has no Table 1."""
    pages = WORDS["pages" if inputs.has_paper_classes else "own_pages"]
    graded = inputs.has_paper_classes and claims.counts(inputs.claims)
    return render(
        "README.md.j2",
        scale=inputs.scale,
        schedule=inputs.schedule,
        lead=summary.lead(inputs),
        about=summary.about(inputs),
        findings=summary.findings(inputs),
        claims=claims.lead(inputs.claims, "of the paper") if graded else "",
        files=inputs.files,
        pages={path: what for path, what in pages.items() if path in inputs.files},
        table1=table1.body(inputs.tables["table1"], inputs.scale)
        if inputs.has_paper_classes
        else [],
        figures=figures.figures(inputs) if inputs.has_paper_classes else [],
        kept_out=figures.photographs_kept_out,
        made_with=compute.blocks(inputs) if inputs.trained else [],
        runs=runs.table(inputs.trained, inputs.summary) if inputs.trained else None,
        times=compute.times(inputs.provenance),
        data=data.blocks(inputs.manifest, inputs.splits),
        credits=inputs.credits.splitlines(),
        # the folder's own path is the user's business, and reports are tracked by git
        own_root=inputs.manifest.get("kind") == "coco",
    )
