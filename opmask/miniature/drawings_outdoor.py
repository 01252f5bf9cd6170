"""Own drawings of street and sport classes that the emoji sets lack, one function a class.

Each takes a generator, which chooses shape variants and colours, and returns an SVG fragment.
"""

import numpy as np

from opmask.miniature.svg import Draw, circle, ellipse, path, pick, rect, stroke, turned


def fire_hydrant(rng: np.random.Generator) -> str:
    """Bonnet, barrel, two side nozzles and a flange."""
    body = pick(rng, "#d8232a", "#e8b21a", "#c43c1f", "#e04848")
    cap = pick(rng, body, "#f2c230", "#b9c0c7")
    bonnet = pick(rng, "M32 32 Q50 2 68 32Z", "M30 32 L38 14 H62 L70 32Z")
    return (
        rect(45, 3, 10, 10, cap, 2)
        + path(bonnet, cap)
        + rect(34, 32, 32, 56, body)
        + rect(20, 46, 14, 16, cap, 3)
        + rect(66, 46, 14, 16, cap, 3)
        + circle(50, 54, 9, cap)
        + circle(50, 54, 4, "#555")
        + rect(27, 29, 46, 7, body, 3)
        + rect(25, 86, 50, 11, body, 3)
    )


def parking_meter(rng: np.random.Generator) -> str:
    """One or two round-topped heads with a window on a pole."""
    metal = pick(rng, "#7d8791", "#4f5d6b", "#9aa3ab", "#3f6a8a")
    pole = pick(rng, "#8d949b", "#5b6167")

    def head(x: float, top: float) -> str:
        return (
            path(f"M{x - 15} {top + 40} V{top + 15} a15 15 0 0 1 30 0 V{top + 40}Z", metal)
            + path(f"M{x - 10} {top + 20} V{top + 15} a10 10 0 0 1 20 0 V{top + 20}Z", "#dff0e6")
            + rect(x - 3, top + 26, 6, 9, "#e8c63a", 1)
        )

    base = rect(46, 40, 8, 58, pole) + rect(38, 94, 24, 5, pole, 1)
    if rng.random() < 0.35:
        return base + rect(30, 50, 40, 6, pole) + head(30, 12) + head(70, 12)
    return base + head(50, 2)


def bench(rng: np.random.Generator) -> str:
    """Slatted park bench seen from the front or in perspective."""
    wood = pick(rng, "#a8713a", "#8a5a2b", "#c08a4e", "#5c7f4a")
    iron = pick(rng, "#333a40", "#5f676e", "#23262a")
    legs = rect(12, 44, 6, 46, iron) + rect(82, 44, 6, 46, iron)
    seat = rect(2, 58, 96, 7, wood, 2) + rect(4, 67, 92, 6, wood, 2)
    if rng.random() < 0.25:
        return legs + seat
    back = "".join(rect(4, y, 92, 7, wood, 2) for y in (26, 36, 46))
    posts = rect(14, 22, 5, 40, iron) + rect(81, 22, 5, 40, iron)
    arms = stroke("M6 50 H22 M78 50 H94", iron, 4) if rng.random() < 0.5 else ""
    return legs + posts + back + arms + seat


def baseball_bat(rng: np.random.Generator) -> str:
    """Slim handle with a knob, thick rounded barrel, drawn along the diagonal."""
    wood = pick(rng, "#d9a45b", "#b97a3a", "#e3bd83", "#2f3338")
    grip = pick(rng, "#333", "#7a2020", "#f0e9dc", wood)
    barrel = path("M46 70 L41 28 Q39 2 50 2 Q61 2 59 28 L54 70Z", wood)
    handle = rect(46, 68, 8, 26, grip) + ellipse(50, 96, 8, 4, grip)
    ring = rect(42, 22, 16.5, 3, "#8a2b22") if rng.random() < 0.5 else ""
    return turned(barrel + handle + ring, float(rng.uniform(20, 70)))


def baseball_glove(rng: np.random.Generator) -> str:
    """Leather mitt: four fingers, thumb, laced web and a dark pocket."""
    leather = pick(rng, "#a5642a", "#8a4b1f", "#c07f3d", "#5a3a24")
    dark = pick(rng, "#5b3313", "#3d2411")
    fingers = "".join(
        ellipse(x, y, 9, 21, leather) for x, y in ((35, 29), (50, 23), (65, 27), (79, 38))
    )
    palm = path("M26 40 Q24 96 56 96 Q90 96 88 46 Q56 28 26 40Z", leather)
    thumb = turned(ellipse(18, 46, 10, 24, leather), -14)
    web = path("M20 46 L34 26 L38 52 Z", dark)
    pocket = ellipse(56, 66, 20, 18, dark)
    laces = stroke("M42 90 H74 M44 40 V46 M58 36 V42 M71 40 V46", "#f0d9a8", 2.5)
    ball = circle(57, 64, 12, "#f7f5ef") if rng.random() < 0.3 else ""
    return fingers + web + thumb + palm + pocket + laces + ball


def tennis_racket(rng: np.random.Generator) -> str:
    """Oval strung head, open throat, gripped handle, drawn along the diagonal."""
    frame = pick(rng, "#d0342c", "#2b6cb0", "#222", "#e0b020", "#3a9a5c")
    grip = pick(rng, "#222", "#704522", "#f2f2f2")
    strings = "".join(
        stroke(d, "#dfe3cf", 1.2)
        for d in (
            *(f"M{x} 8 V56" for x in (36, 43, 50, 57, 64)),
            *(f"M30 {y} H70" for y in (14, 23, 32, 41, 50)),
        )
    )
    bed = ellipse(50, 32, 23, 29, "#f4f6e4")
    rim = (
        f'<ellipse cx="50" cy="32" rx="23" ry="29" fill="none" stroke="{frame}" stroke-width="5"/>'
    )
    throat = stroke("M38 58 L49 72 M62 58 L51 72", frame, 4)
    handle = rect(46, 70, 8, 29, grip, 2)
    return turned(bed + strings + rim + throat + handle, float(rng.uniform(15, 60)))


def surfboard(rng: np.random.Generator) -> str:
    """Pointed oval with a stringer and bands, drawn upright."""
    board = pick(rng, "#f5e9d0", "#39b6c8", "#f7c83c", "#f27d6b", "#ffffff")
    band = pick(rng, "#e2483d", "#1f5f8b", "#f49d1d", "#20a37a")
    shape = path("M50 0 C72 22 73 72 60 100 H40 C27 72 28 22 50 0Z", board)
    stringer = stroke("M50 6 V96", band, 2)
    bands = pick(
        rng,
        rect(32, 40, 36, 7, band) + rect(32, 52, 36, 4, band),
        path("M50 3 C60 12 65 22 67 33 H33 C35 22 40 12 50 3Z", band),
        path("M34 62 L66 44 V56 L35 74Z", band),
    )
    return turned(shape + bands + stringer, float(rng.uniform(-25, 25)))


def snowboard(rng: np.random.Generator) -> str:
    """Round-nosed, waisted board with two bindings, drawn upright."""
    board = pick(rng, "#2d3561", "#e0457b", "#28a39a", "#8bc53f", "#f0a020")
    stripe = pick(rng, "#f3f3f3", "#ffd84d", "#111", "#8de1f5")
    shape = path("M37 16 Q37 0 50 0 T63 16 Q58 50 63 84 Q63 100 50 100 T37 84 Q42 50 37 16Z", board)
    art = pick(
        rng,
        path("M40 44 H60 V56 H40Z", stripe),
        path("M39 10 L61 20 L61 12 L46 5Z M39 80 L61 92 L60 84 L40 74Z", stripe),
        circle(50, 50, 7, stripe),
    )
    bindings = rect(34, 27, 32, 9, "#333", 3) + rect(34, 64, 32, 9, "#333", 3)
    straps = rect(44, 24, 12, 15, "#9a9a9a", 3) + rect(44, 61, 12, 15, "#9a9a9a", 3)
    return turned(shape + art + bindings + straps, float(rng.uniform(15, 75)))


DRAWINGS: dict[str, Draw] = {
    "fire hydrant": fire_hydrant,
    "parking meter": parking_meter,
    "bench": bench,
    "baseball bat": baseball_bat,
    "baseball glove": baseball_glove,
    "tennis racket": tennis_racket,
    "surfboard": surfboard,
    "snowboard": snowboard,
}
