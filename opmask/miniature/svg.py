"""SVG primitives for the drawings of our own: strings on a canvas of 100 x 100 units."""

from collections.abc import Callable

import numpy as np

Draw = Callable[[np.random.Generator], str]


def rect(x: float, y: float, w: float, h: float, fill: str, r: float = 0) -> str:
    """Rectangle with corner radius `r`."""
    return f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="{r}" fill="{fill}"/>'


def circle(x: float, y: float, r: float, fill: str) -> str:
    """Filled circle."""
    return f'<circle cx="{x}" cy="{y}" r="{r}" fill="{fill}"/>'


def ellipse(x: float, y: float, rx: float, ry: float, fill: str) -> str:
    """Filled ellipse."""
    return f'<ellipse cx="{x}" cy="{y}" rx="{rx}" ry="{ry}" fill="{fill}"/>'


def path(d: str, fill: str) -> str:
    """Filled path."""
    return f'<path d="{d}" fill="{fill}"/>'


def stroke(d: str, colour: str, width: float) -> str:
    """Path drawn as a round-capped line."""
    return (
        f'<path d="{d}" fill="none" stroke="{colour}" stroke-width="{width}" '
        f'stroke-linecap="round" stroke-linejoin="round"/>'
    )


def turned(body: str, degrees: float) -> str:
    """`body` rotated clockwise about the centre of the canvas."""
    return f'<g transform="rotate({degrees} 50 50)">{body}</g>'


def pick(rng: np.random.Generator, *options: str) -> str:
    """One of `options`, all equally likely."""
    return options[int(rng.integers(len(options)))]


def document(body: str, *, outlined: bool) -> str:
    """A whole SVG document; `outlined` gives filled shapes a dark contour, as OpenMoji has."""
    pen = ' stroke="#1a1a1a" stroke-width="2.5" stroke-linejoin="round"' if outlined else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-4 -4 108 108"><g{pen}>{body}</g></svg>'
    )
