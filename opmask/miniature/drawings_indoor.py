"""Own drawings of household classes that the emoji sets lack, one function a class.

Each takes a generator, which chooses shape variants and colours, and returns an SVG fragment.
"""

import numpy as np

from opmask.miniature.svg import Draw, circle, ellipse, path, pick, rect, stroke

ENAMEL = ("#f1f1ee", "#c9ced2", "#3b4046", "#b8322f", "#8fb7b3")


def tie(rng: np.random.Generator) -> str:
    """Neck tie (knot and blade with stripes or dots) or a bow tie."""
    cloth = pick(rng, "#b3202c", "#1f3f77", "#3b7a4b", "#6a2f7d", "#d98e1f")
    trim = pick(rng, "#f2f2f2", "#f3d36b", "#111827")
    if rng.random() < 0.2:
        return path("M48 50 L8 26 V74Z M52 50 L92 26 V74Z", cloth) + rect(42, 40, 16, 20, trim, 4)
    knot = path("M36 2 H64 L58 20 H42Z", cloth)
    blade = path("M42 20 H58 L68 80 L50 100 L32 80Z", cloth)
    bands = path("M40 34 L60 26 V33 L39 42Z M37 56 L64 44 V52 L36 64Z M34 76 L67 62 V70Z", trim)
    dots = "".join(circle(x, y, 3, trim) for x, y in ((50, 32), (45, 48), (54, 60), (46, 76)))
    return knot + blade + pick(rng, bands, dots)


def dining_table(rng: np.random.Generator) -> str:
    """Four-legged, pedestal or clothed table seen from the side, slightly above."""
    wood = pick(rng, "#9b6332", "#c08a52", "#6b4226", "#d8b48a")
    dark = pick(rng, "#5b3a1e", "#4a4a4a")
    cloth = pick(rng, "#f4f1ea", "#c94f4f", "#6f9ec9")
    top = path("M14 30 H86 L100 46 H0Z", wood) + rect(0, 46, 100, 7, wood)
    legs = "".join(rect(x, 52, 6, h, dark) for x, h in ((5, 42), (89, 42), (22, 32), (72, 32)))
    pedestal = rect(46, 48, 8, 38, dark) + ellipse(50, 88, 24, 6, dark)
    clothed = path(
        "M10 34 H90 L100 70 L88 64 L76 72 L62 64 L50 72 L36 64 L24 72 L12 64 L0 70Z", cloth
    )
    return pick(
        rng,
        legs + top,
        pedestal + ellipse(50, 42, 50, 14, wood),
        "".join(rect(x, 60, 6, 36, dark) for x in (12, 82)) + clothed,
    )


def remote(rng: np.random.Generator) -> str:
    """Long rounded stick with a grid of keys and a round pad."""
    shell = pick(rng, "#2a2d31", "#474c52", "#dcdcdc", "#111")
    key = pick(rng, "#c9ccd0", "#8fa0b5", "#7c8288")
    keys = "".join(circle(x, y, 3.4, key) for x in (41, 50, 59) for y in (48, 58, 68, 78, 88))
    pad = circle(50, 30, 9, key) + circle(50, 30, 4, shell)
    return rect(33, 1, 34, 98, shell, 8) + circle(41, 11, 4, "#e23b3b") + pad + keys


def microwave(rng: np.random.Generator) -> str:
    """Wide box: door window on the left, key panel on the right."""
    shell, glass = pick(rng, *ENAMEL), pick(rng, "#1e2429", "#39424a", "#53616b")
    keys = "".join(rect(x, y, 6, 5, "#9aa0a6", 1) for x in (79, 87) for y in (46, 54, 62))
    dial = circle(86, 56, 7, "#9aa0a6") + circle(86, 71, 5, "#9aa0a6")
    panel = rect(76, 28, 20, 46, "#22272b", 2) + rect(78, 31, 16, 9, "#5fe08a")
    feet = rect(10, 78, 10, 5, "#333") + rect(80, 78, 10, 5, "#333")
    window = rect(7, 28, 62, 46, glass, 4) + path("M14 66 L34 34 H42 L22 66Z", "#7f8f99")
    handle = rect(70, 32, 3, 38, "#8a9097", 1)
    return feet + rect(0, 22, 100, 58, shell, 5) + window + handle + panel + pick(rng, keys, dial)


def oven(rng: np.random.Generator) -> str:
    """Range: burners on top, knobs, handle bar, glowing or dark door window."""
    shell, glass = pick(rng, *ENAMEL), pick(rng, "#23211f", "#e08a2b", "#4a3f38")
    knobs = "".join(circle(x, 25, 4, "#565c62") for x in (22, 36, 50, 64, 78))
    burners = "".join(rect(x, 8, 24, 5, "#333", 2) for x in (18, 58))
    door = rect(16, 34, 68, 48, "#8b9196", 3) + rect(24, 46, 52, 30, glass, 3)
    racks = stroke("M26 56 H74 M26 66 H74", "#b9bec3", 1.5)
    bar = rect(22, 38, 56, 4, "#e8eaec", 2)
    drawer = rect(16, 86, 68, 9, "#8b9196", 2)
    return burners + rect(10, 12, 80, 87, shell, 3) + knobs + door + racks + bar + drawer


def toaster(rng: np.random.Generator) -> str:
    """Round-shouldered box with two slices of toast and a side lever."""
    shell = pick(rng, "#c7ccd1", "#d23f3f", "#70b8ab", "#f0dfae")
    toast = "".join(
        path(f"M{x} 44 V22 q-5 -12 6 -12 h12 q11 0 6 12 V44Z", "#d9a35a") for x in (22, 54)
    )
    body = path("M8 90 V52 Q8 36 24 36 H76 Q92 36 92 52 V90Z", shell)
    lever = rect(92, 54, 8, 6, "#333", 2) + rect(70, 70, 12, 5, "#555", 2)
    feet = rect(16, 89, 12, 6, "#333") + rect(72, 89, 12, 6, "#333")
    slots = rect(20, 36, 26, 4, "#333") + rect(52, 36, 26, 4, "#333")
    shown = toast if rng.random() < 0.8 else ""
    return feet + shown + body + slots + lever + stroke("M18 80 H60", "#ffffff", 3)


def sink(rng: np.random.Generator) -> str:
    """Pedestal basin, or kitchen cabinet with a basin, both under a curved tap."""
    china = pick(rng, "#f4f6f7", "#dfe7ea", "#cfd6da", "#f3ead7")
    wood = pick(rng, "#b98650", "#7c8c96", "#e6e0d4")
    tap = stroke("M50 36 V14 Q50 6 60 6 Q68 6 68 18", "#8f989f", 6)
    taps = circle(38, 34, 4, "#8f989f") + circle(62, 34, 4, "#8f989f")
    basin = path("M6 40 H94 Q90 70 62 72 H38 Q10 70 6 40Z", china)
    hollow = ellipse(50, 43, 36, 5, "#a9b6bd")
    if rng.random() < 0.5:
        return tap + path("M42 68 H58 L62 100 H38Z", china) + basin + hollow + taps
    doors = rect(12, 58, 36, 36, wood, 1) + rect(52, 58, 36, 36, wood, 1)
    knobs = circle(44, 74, 2.5, "#444") + circle(56, 74, 2.5, "#444")
    cabinet = rect(8, 50, 84, 48, wood) + doors + knobs
    return tap + cabinet + path("M0 38 H100 V48 Q88 56 50 56 T0 48Z", china) + hollow + taps


def refrigerator(rng: np.random.Generator) -> str:
    """Tall box with a freezer door above or below, or two doors side by side."""
    shell = pick(rng, "#e9edef", "#c3c9ce", "#a9d0c9", "#d9534f", "#8c949b")
    metal = "#6b7177"
    body = rect(22, 0, 56, 97, shell, 4) + rect(26, 96, 8, 4, "#333") + rect(66, 96, 8, 4, "#333")
    seam = 'stroke="#444" stroke-width="1.6"'
    top = f'<path d="M22 32 H78" {seam}/>' + rect(28, 14, 4, 14, metal, 2)
    top += rect(28, 38, 4, 24, metal, 2)
    bottom = f'<path d="M22 62 H78" {seam}/>' + rect(68, 30, 4, 26, metal, 2)
    bottom += rect(38, 68, 24, 4, metal, 2)
    double = f'<path d="M50 0 V97" {seam}/>' + rect(44, 28, 3.5, 40, metal, 2)
    double += rect(53, 28, 3.5, 40, metal, 2) + rect(28, 34, 12, 16, "#30363b", 2)
    return body + pick(rng, top, bottom, double)


def hair_drier(rng: np.random.Generator) -> str:
    """Barrel with a nozzle, a slanting handle and a cord."""
    shell = pick(rng, "#e0528b", "#2f3640", "#5b8fd6", "#e6e6e6", "#8a5fb8")
    trim = pick(rng, "#222", "#b9bec4", "#f7d154")
    cord = stroke("M52 94 q10 8 20 0 q8 -8 18 -2", "#333", 3.5)
    handle = path("M44 48 H68 L60 94 H44Z", shell)
    barrel = path("M26 10 H68 Q96 12 96 33 Q96 54 68 56 H26Z", shell)
    nozzle = path("M27 14 L2 8 V58 L27 52Z", trim)
    fan = circle(72, 33, 13, trim) + circle(72, 33, 7, "#777")
    button = rect(51, 62, 6, 14, trim, 3)
    return cord + handle + barrel + nozzle + fan + button


def fork(rng: np.random.Generator) -> str:
    """Four tines, a neck and a widening handle, drawn upright."""
    metal = pick(rng, "#c3cad0", "#9fa8b0", "#d9b45a")
    tines = "".join(rect(x, 0, 3.6, 30, metal, 1.8) for x in (36.5, 44.3, 52.1, 59.9))
    root = path("M36.5 24 H63.5 Q64 46 53 48 H47 Q36 46 36.5 24Z", metal)
    grip = pick(rng, metal, metal, "#6b4226", "#2d5f8a")
    return tines + root + path("M47.5 46 H52.5 L55 100 H45Z", grip)


def knife(rng: np.random.Generator) -> str:
    """Table or kitchen knife: one straight and one curved edge, drawn upright."""
    metal = pick(rng, "#cfd6db", "#aab3ba", "#dfe4e8")
    grip = pick(rng, "#2b2b2b", "#7a4a22", "#b3282d", metal)
    blade = pick(rng, "M45 60 V4 Q60 10 58 60Z", "M43 60 V0 Q52 2 57 60Z", "M40 60 V6 L60 20 V60Z")
    return path(blade, metal) + rect(44, 58, 13, 42, grip, 4)


DRAWINGS: dict[str, Draw] = {
    "tie": tie,
    "dining table": dining_table,
    "remote": remote,
    "microwave": microwave,
    "oven": oven,
    "toaster": toaster,
    "sink": sink,
    "refrigerator": refrigerator,
    "hair drier": hair_drier,
    "fork": fork,
    "knife": knife,
}
