"""COCO data: reading and checking it, class splits, training batches."""
