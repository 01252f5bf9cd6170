"""The embedded data set: scenes of emoji and own drawings with COCO's 80 classes and exact masks.

Made for clusters of overlapping objects, the ambiguous RoIs that the paper (section 1) is about.
"""

from opmask.miniature.build import build

__all__ = ["build"]
