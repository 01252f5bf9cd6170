"""Stage `gallery`: the pictures of the paper, figures 1, 4, 5, 7 and 8, chosen by written rules.

Reads `runs/<scale>/ambiguity.csv`, detections and weights. Writes `figureN.csv` (what was chosen,
by which rule) to `reports/<scale>/figures/`, and `figureN.{png,svg}` there and to
`runs/<scale>/figures/`: photographs to the latter alone.
"""

from collections.abc import Sequence

import pandas as pd

from opmask.data.coco import Manifest, load_json, load_manifest
from pipeline.reporting import Scale, report_stage
from study.analysis import gallery
from study.figures import gallery as drawing
from study.figures import pictures
from study.labels import BACKBONES
from study.spec.paths import Paths
from study.spec.run import Run

CREDIT = "Drawings: Twemoji, CC BY 4.0, and OpenMoji, CC BY-SA 4.0; see NOTICE."


@report_stage
def run(scale: Scale) -> None:
    """Command line of the stage."""
    draw_all(scale.paths.scale, scale.scheduled)


def draw_all(scale: str, runs: Sequence[Run]) -> None:
    """All five figures from `runs`, those of the global schedule."""
    paths = Paths(scale)
    manifest = load_manifest(paths.manifest)
    data = load_json(manifest.val.annotations)
    scenes = pictures.Scenes.of(data, manifest, paths)
    frame = gallery.read_frame(paths.ambiguity)

    rois = {
        "figure1": gallery.ambiguous_rois(frame, scenes.images),
        "figure4": gallery.perforated_masks(frame, scenes.images),
    }
    cams, cam_runs = gallery.by_size(data), gallery.cam_runs(runs, paths.train)
    cams.insert(3, "category", cams["category_id"].map(scenes.categories))
    wanted = [
        (key, scenes.roi(r.image_id, gallery.box_of(r), r.category_id))
        for key in filter(None, cam_runs.values())
        for r in cams.itertuples()
    ]
    for picks in rois.values():
        wanted += pictures.priors_of(picks, scenes)
    maps = scenes.priors(wanted)

    sheets = [pictures.roi_sheet(name, picks, scenes, maps) for name, picks in rois.items()]
    for name in gallery.DIRECTION_OF:
        picks = gallery.whole_images(frame, name)
        sheets.append(pictures.image_sheet(name, picks, frame, scenes))
    sheets.append(pictures.cam_sheet(cams, scenes, cam_runs, maps))

    # photographs never go into the committed reports
    folders = [paths.pictures] if manifest.kind == "coco" else [paths.pictures, paths.figures]
    paths.figures.mkdir(parents=True, exist_ok=True)
    for sheet in sheets:
        picks = sheet.picks
        figure = drawing.grid(
            sheet.rows, sheet.titles, sheet.labels, credit(picks, manifest), sheet.width
        )
        drawing.save_picture(figure, folders, sheet.name)
        files = [scenes.images[i]["file_name"] if pd.notna(i) else "" for i in picks["image_id"]]
        table = picks.assign(file_name=files, rule=gallery.RULES[sheet.name]).round(4)
        table.to_csv(paths.figures / f"{sheet.name}.csv", index=False)


def credit(picks: pd.DataFrame, manifest: Manifest) -> str:
    """Of which backbone the pictures are, and whose the drawings."""
    parts = []
    if "backbone" in picks:
        shown = picks["backbone"].dropna().map(BACKBONES).unique()
        parts += [f"Backbone: {', '.join(shown)}."] if len(shown) else []
    return " ".join([*parts, *([CREDIT] if manifest.kind == "miniature" else [])])


if __name__ == "__main__":
    run()
