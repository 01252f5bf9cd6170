"""Trained runs on the validation images: detections, per-class AP, bootstrap over images."""
