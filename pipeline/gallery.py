"""Stage `gallery`: the pictures of the paper, figures 1, 4, 5, 7 and 8, chosen by written rules.

Reads `runs/<scale>/ambiguity.csv`, detections and weights. Writes `figureN.csv` (what was chosen,
by which rule) to `reports/<scale>/figures/`, and `figureN.{png,svg}` there and to
`runs/<scale>/figures/`: photographs to the latter alone.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import pandas as pd

from opmask.data.coco import Manifest, load_json, load_manifest
from opmask.evaluation.rois import Roi
from opmask.integrity import verified
from pipeline.reporting import Scale, report_stage
from study.analysis import gallery
from study.figures import gallery as drawing
from study.figures import pictures
from study.labels import BACKBONES, BASELINE, NOT_RUN, OURS
from study.spec.paths import DETECTIONS, WEIGHTS, Paths
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
    scenes = pictures.Scenes.of(data, manifest.val.images)
    frame = gallery.read_frame(paths.ambiguity)
    class_index = {c["id"]: n for n, c in enumerate(manifest.categories)}

    rois = {
        "figure1": gallery.ambiguous_rois(frame, scenes.images),
        "figure4": gallery.perforated_masks(frame, scenes.images),
    }
    whole = {name: gallery.whole_images(frame, name) for name in gallery.DIRECTION_OF}
    detections = read_detections([*rois.values(), *whole.values()], paths.evaluate)
    cams = gallery.by_size(data)
    cam_rois = [
        Roi(r.image_id, gallery.box_of(r), class_index[r.category_id]) for r in cams.itertuples()
    ]
    cam_runs = gallery.cam_runs(runs, paths.train)
    wanted = {(key, roi) for key in cam_runs.values() if key for roi in cam_rois}
    wanted |= pictures.wanted_priors(rois.values(), detections, class_index)
    maps = prior_maps(wanted, scenes, paths.train)

    sheets: list[tuple[str, pd.DataFrame, list, list[str], Sequence[str]]] = []
    for name, picks in rois.items():
        panels, labels = pictures.roi_rows(picks, scenes, detections, maps, class_index)
        sheets.append((name, picks, panels, labels, pictures.ROI_TITLES))
    for name, picks in whole.items():
        panels, labels = pictures.image_rows(picks, frame, scenes, detections)
        sheets.append((name, picks, panels, labels, pictures.IMAGE_TITLES))
    found = {m: [maps[key, roi] for roi in cam_rois] if key else [] for m, key in cam_runs.items()}
    names = {c["id"]: c["name"] for c in manifest.categories}
    cams.insert(3, "category", cams["category_id"].map(names))
    panels, labels, numbers = pictures.cam_rows(cams, scenes, found)
    numbers["run"] = numbers["method"].map(cam_runs).replace("", NOT_RUN)
    picks = cams.merge(numbers, on="annotation_id")
    sheets.append(("figure7", picks, panels, labels, pictures.cam_titles(cam_runs)))

    # photographs never go into the committed reports
    folders = [paths.pictures] if manifest.kind == "coco" else [paths.pictures, paths.figures]
    paths.figures.mkdir(parents=True, exist_ok=True)
    for name, picks, panels, labels, titles in sheets:
        figure = drawing.grid(panels, titles, labels, credit(picks, manifest))
        drawing.save_picture(figure, folders, name)
        files = [scenes.images[i]["file_name"] if pd.notna(i) else "" for i in picks["image_id"]]
        table = picks.assign(file_name=files, rule=gallery.RULES[name]).round(4)
        table.to_csv(paths.figures / f"{name}.csv", index=False)


def read_detections(picks: Iterable[pd.DataFrame], evaluated: Path) -> dict[str, list[dict]]:
    """COCO results, by run key, of the runs that the picks show."""
    keys = {
        pictures.key_of(row, method)
        for table in picks
        for row in table.itertuples()
        if pd.notna(row.image_id)
        for method in (OURS, BASELINE)
    }
    files = {key: evaluated / key / DETECTIONS for key in sorted(keys)}
    return {key: json.loads(verified(path).read_text()) for key, path in files.items()}


def prior_maps(
    wanted: Collection[tuple[str, Roi]], scenes: pictures.Scenes, trained: Path
) -> pictures.Maps:
    """The priors of RoIs by run key and RoI, left out where the run's weights are not there."""
    result = {}
    for key in sorted({key for key, _ in wanted}):
        if (trained / key / WEIGHTS).is_file():
            from opmask.evaluation.priors import prior_maps as compute

            rois = [roi for wanted_key, roi in wanted if wanted_key == key]
            maps = compute(trained / key, rois, scenes.images, scenes.folder)
            result.update({(key, roi): one for roi, one in zip(rois, maps, strict=True)})
    return result


def credit(picks: pd.DataFrame, manifest: Manifest) -> str:
    """Of which backbone the pictures are, and whose the drawings."""
    parts = []
    if "backbone" in picks:
        shown = picks["backbone"].dropna().map(BACKBONES).unique()
        parts += [f"Backbone: {', '.join(shown)}."] if len(shown) else []
    return " ".join([*parts, *([CREDIT] if manifest.kind == "miniature" else [])])


if __name__ == "__main__":
    run()
