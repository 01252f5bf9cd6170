"""A checked and cleaned copy of a user's annotation file, which all later stages read."""

from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from opmask.data import cleaning
from opmask.data.checks import Summary, check_file
from opmask.data.records import Record, load_json


class _Copy:
    """Cleans what `check_file` finds sound, and adds it to a `cleaning.writer`."""

    def __init__(self, add: Callable[[str, Iterable[Record]], None]) -> None:
        self.add = add
        self.images: list[Record] = []
        self.categories: list[Record] = []
        self.fits = True  # all ids of annotations may stay

    def use(
        self, images: list[Record], categories: list[Record], annotations: list[Record]
    ) -> None:
        """As `check_file` calls it."""
        if not self.images:
            self._begin(images, categories)
        objects = cleaning.clean_objects(annotations, self.sizes)
        self.fits &= cleaning.may_stay([record["id"] for record in objects], "annotations")
        if self.fits:
            self.add("annotations", cleaning.with_ids(objects, "annotations", self.new))

    def _begin(self, images: list[Record], categories: list[Record]) -> None:
        self.images, self.categories = images, categories
        self.sizes = cleaning.sizes_of(images)
        lists = cleaning.clean({"images": images, "categories": categories, "annotations": []})
        del lists["annotations"]
        self.new = {
            key: cleaning.new_ids([record["id"] for record in records], key)
            for key, records in lists.items()
        }
        for key, records in lists.items():
            self.add(key, cleaning.with_ids(records, key, self.new))


def check_and_copy(
    file: Path,
    image_dir: Path,
    copy: Path,
    images: str,
    on_degenerate: str,
    needs: Collection[str],
) -> tuple[Summary, list[Record], list[Record]]:
    """Check `file` as `check_file` does, and write it to `copy`, cleaned and renumbered.

    Returns its Summary, images and categories. UserError, and no copy, if it breaks the contract.
    """
    with cleaning.writer(copy) as add:
        made = _Copy(add)
        summary = check_file(file, image_dir, images, on_degenerate, needs, made.use)
    if not made.fits:
        cleaning.write(cleaning.renumber(cleaning.clean(load_json(file))), copy)
    return summary, made.images, made.categories
