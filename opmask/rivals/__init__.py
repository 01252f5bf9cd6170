"""Other systems of Table 1 and newer ones, on OPMask's base: a file each, imported where used.

A method of `paper.yaml` names its file as `components`; in a program of your own, import it and
detectron2 knows its heads. What is faithful and what was adapted is in `docs/rivals.md`.
"""
