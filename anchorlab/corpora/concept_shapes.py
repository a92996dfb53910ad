"""Concept graphs: pictures of one shape, described by three binary concept variables (section 13.6, figure 13.13).

A tuple has three digits, (shape, size, colour): 0 is circle, large, red; 1 is triangle, small, blue. The section calls
010 a small red circle, so the second digit is the size; it expects a circle for 011 as well, so the third is not the
shape. Okawa et al. (2024, arXiv 2310.09336), whose experiment this is, write the same in the order (shape, colour,
size): their training tuples 000, 100, 010, 111 are 000, 100, 001, 111 here. Small is seen in a triangle only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from anchorlab.errors import InputError

TUPLES = tuple(f"{index:03b}" for index in range(8))
TRAINED = ("000", "100", "001", "111")
SHAPES = ("circle", "triangle")
CONCEPT_WIDTHS = (2, 1, 3)
"""Numbers in a row of concepts: shape (one-hot), size, colour (RGB)."""

_SIZES = (2.6, 1.4)  # the source's, as its colours
_COLOURS = ((0.9, 0.1, 0.1), (0.1, 0.1, 0.9))
_RADIUS = 1.75 / 16  # of size 1, as a part of the picture's side
_BRIGHTNESS = 1.1  # of either colour: the sum of its channels
_SIZE_SPREAD, _COLOUR_SPREAD = 0.1, 0.05
_SHIFT = 1.0 / 16  # of the picture's side
_SIDE = float(np.sqrt(np.pi / (3 * np.sqrt(3) / 4)))  # circumradius of the triangle with a unit circle's area

_TEMPLATE_SIZES = np.arange(1.0, 3.01, 0.1)
_TEMPLATE_STEP = 0.5 / 16
_FAINT = 0.3
_RECOGNIZED = 0.8


@dataclass(frozen=True)
class Drawings:
    """Pictures, RGB from 0 to 1 on black, and the concepts that describe each (see `CONCEPT_WIDTHS`)."""

    images: Float[np.ndarray, "n 3 pixels pixels"]
    concepts: Float[np.ndarray, "n 6"]


def draw(tuples: Sequence[str], pixels: int, random: np.random.Generator) -> Drawings:
    """One picture for every tuple, of `pixels` x `pixels`.

    As in the source, size and colour vary from picture to picture around the tuple's value and the concepts hold the
    values that were drawn; so does the position, which no concept describes. Circle and triangle of one size have the
    same area. Raises InputError for a tuple that is not one of `TUPLES`.
    """
    digits = _digits(tuples)
    count = len(digits)
    sizes = np.array(_SIZES)[digits[:, 1]] + random.uniform(-_SIZE_SPREAD, _SIZE_SPREAD, count)
    colours = np.array(_COLOURS)[digits[:, 2]] + random.uniform(-_COLOUR_SPREAD, _COLOUR_SPREAD, (count, 3))
    centres = 0.5 + random.uniform(-_SHIFT, _SHIFT, (count, 2))
    ink = coverage(digits[:, 0], sizes, centres, pixels)[:, None]
    images = ink * colours[:, :, None, None]
    return Drawings(images.astype(np.float32), _concepts(digits[:, 0], sizes, colours))


def concepts_of(tuples: Sequence[str]) -> Float[np.ndarray, "n 6"]:
    """The concepts of each tuple at its central size and colour; raises InputError as `draw` does."""
    digits = _digits(tuples)
    return _concepts(digits[:, 0], np.array(_SIZES)[digits[:, 1]], np.array(_COLOURS)[digits[:, 2]])


def describe(name: str) -> str:
    """The tuple and its meaning: `010 small red circle`; raises InputError as `draw` does."""
    ((shape, size, colour),) = _digits([name])
    return f"{name} {('large', 'small')[size]} {('red', 'blue')[colour]} {SHAPES[shape]}"


def coverage(
    shapes: Int[np.ndarray, " n"],
    sizes: Float[np.ndarray, " n"],
    centres: Float[np.ndarray, "n 2"],
    pixels: int,
) -> Float[np.ndarray, "n pixels pixels"]:
    """How much of each pixel the shape covers, from 0 to 1; centres (x, y) in sides of the picture, y downwards."""
    middles = (np.arange(pixels) + 0.5) / pixels
    x = middles[None, None, :] - centres[:, 0, None, None]
    y = middles[None, :, None] - centres[:, 1, None, None]
    radius = (_RADIUS * sizes)[:, None, None]
    circle = np.hypot(x, y) - radius
    # An upright triangle whose bounding box is centred: three half planes at the inradius, half the circumradius.
    corner = _SIDE * radius
    below = y - corner / 4
    sides = np.maximum(np.sqrt(3) / 2 * np.abs(x) - below / 2, below) - corner / 2
    distance = np.where(np.asarray(shapes)[:, None, None] == 0, circle, sides)
    covered: Float[np.ndarray, "n pixels pixels"] = np.clip(0.5 - pixels * distance, 0.0, 1.0)
    return covered


@dataclass(frozen=True)
class Recognized:
    """What each picture shows: the shape (index into `SHAPES`), the size, and whether it looks like either shape."""

    shapes: Int[np.ndarray, " n"]
    sizes: Float[np.ndarray, " n"]
    clear: Bool[np.ndarray, " n"]


def recognize(images: Float[np.ndarray, "n 3 pixels pixels"]) -> Recognized:
    """The shape in each picture, by template matching: nothing is trained.

    The ink of a picture is the brightness of its three channels together, whatever the colour; below 0.3 it counts as
    none. It is compared
    with circles and triangles of sizes 1 to 3 at all positions half a sixteenth apart; the one with the largest cosine
    is what the picture shows. It is `clear` if that template explains 80 % of the squared ink.
    """
    ink = np.clip(images.sum(axis=1) / _BRIGHTNESS, 0.0, 1.0).reshape(len(images), -1)
    ink[ink < _FAINT] = 0.0
    shapes, sizes, templates = _templates(images.shape[-1])
    length = np.linalg.norm(ink, axis=1, keepdims=True)
    cosines = ink @ templates.T / np.maximum(length, 1e-12)
    best = cosines.argmax(axis=1)
    return Recognized(shapes[best], sizes[best], cosines.max(axis=1) ** 2 >= _RECOGNIZED)


def _templates(
    pixels: int,
) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"], Float[np.ndarray, "m area"]]:
    """Shapes, sizes and normalized coverages of all templates."""
    shifts = np.arange(-3 * _SHIFT, 3 * _SHIFT + 1e-9, _TEMPLATE_STEP)
    grid = np.meshgrid(range(len(SHAPES)), _TEMPLATE_SIZES, 0.5 + shifts, 0.5 + shifts, indexing="ij")
    shapes, sizes, x, y = (axis.ravel() for axis in grid)
    flat = coverage(shapes, sizes, np.stack((x, y), axis=1), pixels).reshape(len(shapes), -1)
    return shapes, sizes, flat / np.linalg.norm(flat, axis=1, keepdims=True)


def _digits(tuples: Sequence[str]) -> Int[np.ndarray, "n 3"]:
    for name in tuples:
        if name not in TUPLES:
            raise InputError(f"tuple={name!r}: must be three digits 0 or 1 (shape, size, colour)")
    return np.array([[int(digit) for digit in name] for name in tuples]).reshape(-1, 3)


def _concepts(
    shapes: Int[np.ndarray, " n"], sizes: Float[np.ndarray, " n"], colours: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n 6"]:
    columns: Float[np.ndarray, "n 6"] = np.column_stack((np.eye(2)[shapes], sizes, colours)).astype(np.float32)
    return columns
