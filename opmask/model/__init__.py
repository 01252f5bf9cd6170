"""The method on detectron2: heads, backbones, configuration, weights."""
