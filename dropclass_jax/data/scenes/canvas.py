"""A camera over a flat street, and the few strokes the `streets` scenes are painted with.

World coordinates are metres: `x` to the right of the camera, `y` up from the ground, `z` ahead. A
stroke goes to the picture and, where it names a class, to the label map as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

(
    ROAD,
    SIDEWALK,
    BUILDING,
    WALL,
    FENCE,
    POLE,
    TRAFFIC_LIGHT,
    TRAFFIC_SIGN,
    VEGETATION,
    TERRAIN,
    SKY,
    PERSON,
    RIDER,
    CAR,
    TRUCK,
    BUS,
    TRAIN,
    MOTORCYCLE,
    BICYCLE,
) = range(19)
IGNORED = 255

SHIFT = 3  # sub-pixel bits of the polygon coordinates given to cv2
NEAREST = 0.7  # metres; what lies nearer, or behind the camera, is moved here along its own line
# A box's corners, across and along its heading: back left, back right, front right, front left.
FOOT = ((-1, -1), (1, -1), (1, 1), (-1, 1))


@dataclass(frozen=True)
class Camera:
    """A pinhole camera looking down the street, which bends by `bend * z^2` metres to the right."""

    height: int  # pixels
    width: int
    focal: float  # pixels
    horizon: float  # row of the vanishing point
    centre: float  # column of the vanishing point
    eye: float  # metres above the ground
    bend: float  # 1 / metres

    def project(self, points: np.ndarray) -> np.ndarray:
        """World points `[..., 3]` in metres to pixels `[..., 2]` as (column, row)."""
        z = np.maximum(points[..., 2], NEAREST)
        scale = self.focal / z
        pixels = np.empty((*points.shape[:-1], 2))
        pixels[..., 0] = self.centre + (points[..., 0] + self.bend * z * z) * scale
        pixels[..., 1] = self.horizon + (self.eye - points[..., 1]) * scale
        return pixels

    def spot(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        """One world point to (column, row), and the pixels a metre takes there."""
        z = max(z, NEAREST)
        scale = self.focal / z
        column = self.centre + (x + self.bend * z * z) * scale
        return column, self.horizon + (self.eye - y) * scale, scale

    def ground(self, step: int) -> tuple[int, np.ndarray, np.ndarray]:
        """The ground in blocks of `step` pixels: first row, world x `[h, w]` and z `[h, 1]`."""
        first = int(self.horizon) // step * step
        middle = np.float32(0.5 * step)
        rows = np.arange(first, self.height, step, dtype=np.float32)[:, None] + middle
        z = np.float32(self.focal * self.eye) / np.maximum(rows - np.float32(self.horizon), 0.5)
        columns = np.arange(0, self.width, step, dtype=np.float32)[None, :] + middle
        columns -= np.float32(self.centre)
        return first, columns * (z / np.float32(self.focal)) - np.float32(self.bend) * z * z, z

    def sees(self, x: float, z: float, reach: float = 0.0) -> bool:
        """Whether anything within `reach` metres of x, at distance z, is between the side edges."""
        column, _, scale = self.spot(x, 0.0, z)
        return -reach * scale < column < self.width + reach * scale

    def half_view(self, z: float) -> float:
        """How far to the side, in metres, the camera surely sees at distance z."""
        return z * (0.5 * self.width - abs(self.centre - 0.5 * self.width)) / self.focal


@dataclass(frozen=True)
class Light:
    """Weather and time of day. Colours are RGB; `ambient` and `direct` multiply the paint."""

    sky_top: tuple[float, float, float]
    sky_low: tuple[float, float, float]
    ambient: tuple[float, float, float]
    direct: tuple[float, float, float]
    sun: tuple[float, float, float]  # unit vector towards the sun
    haze: float  # metres after which 63 % of a colour is lost to the haze
    clouds: float  # 0 clear .. 1 overcast
    lamps: float  # share of windows and lamps that are lit


@dataclass(frozen=True)
class Canvas:
    """The picture uint8 `[H, W, 3]` and label map uint8 `[H, W]` being painted, in place."""

    camera: Camera
    light: Light
    image: np.ndarray
    label: np.ndarray


def tone(
    canvas: Canvas, z: float, normal=(0.0, 0.25, -0.9), glow: bool = False
) -> tuple[list[float], list[float]]:
    """Gain and offset, per RGB channel, that light paint on a surface `z` metres away.

    The sun lights it by its normal, the haze fades it; what glows needs no light.
    """
    light = canvas.light
    keep = math.exp(-max(z, 0.0) / light.haze)
    sun = normal[0] * light.sun[0] + normal[1] * light.sun[1] + normal[2] * light.sun[2]
    sun = max(0.0, sun)
    offset = [(1 - keep) * haze for haze in light.sky_low]
    if glow:
        return [keep] * 3, offset
    return [keep * (a + d * sun) for a, d in zip(light.ambient, light.direct, strict=True)], offset


def shade(canvas: Canvas, color, z: float, **shading) -> tuple[float, float, float]:
    """One paint, RGB, as seen from `z` metres; see `tone`."""
    gain, offset = tone(canvas, z, **shading)
    red, green, blue = color.tolist() if isinstance(color, np.ndarray) else color
    return (
        min(255.0, red * gain[0] + offset[0]),
        min(255.0, green * gain[1] + offset[1]),
        min(255.0, blue * gain[2] + offset[2]),
    )


def fixed_point(pixels: np.ndarray) -> np.ndarray:
    """Pixel coordinates in cv2's fixed-point format, int32."""
    return np.rint(pixels * (1 << SHIFT)).astype(np.int32)


def cover(canvas: Canvas, polygons: list[np.ndarray], color, label: int | None) -> None:
    """Covers polygons `[N, 2]`, fixed-point pixels, with a colour as it is."""
    cv2.fillPoly(canvas.image, polygons, color, shift=SHIFT)
    if label is not None:
        cv2.fillPoly(canvas.label, polygons, label, shift=SHIFT)


def fill(canvas: Canvas, polygons, color, label: int | None = None, **shading) -> None:
    """Fills one polygon `[N, 3]` or several that do not overlap `[M, N, 3]`, in metres."""
    polygons = np.asarray(polygons, dtype=float)
    pixels = fixed_point(canvas.camera.project(polygons))
    corners = polygons.reshape(-1, 3)
    z = 0.5 * float(corners[0, 2] + corners[-2, 2])  # of a quad: two opposite corners
    pixels = [pixels] if pixels.ndim == 2 else list(pixels)
    cover(canvas, pixels, shade(canvas, color, z, **shading), label)


def mark(canvas: Canvas, polygon, label: int) -> None:
    """Labels a polygon `[N, 3]` without painting it: what shows through a wheel belongs to it."""
    pixels = fixed_point(canvas.camera.project(np.asarray(polygon, dtype=float)))
    cv2.fillPoly(canvas.label, [pixels], label, shift=SHIFT)


def stroke(
    canvas: Canvas, start, end, width: float, color, label: int | None = None, **shading
) -> None:
    """A round-ended bar from `start` to `end` (x, y, z), `width` metres thick, at least a pixel."""
    one = 1 << SHIFT
    column, row, scale = canvas.camera.spot(*start)
    a = (round(column * one), round(row * one))
    column, row, other = canvas.camera.spot(*end)
    b = (round(column * one), round(row * one))
    thickness = max(1, round(width * 0.5 * (scale + other)))
    color = shade(canvas, color, 0.5 * (start[2] + end[2]), **shading)
    cv2.line(canvas.image, a, b, color, thickness, shift=SHIFT)
    if label is not None:
        cv2.line(canvas.label, a, b, label, thickness, shift=SHIFT)


def outline(canvas: Canvas, polygon: np.ndarray, width: float, color, **shading) -> None:
    """The outline of a flat polygon `[N, 3]` in the picture, `width` metres thick, unlabelled."""
    z = float(polygon[0, 2])
    thickness = max(1, round(width * canvas.camera.focal / z))
    pixels = fixed_point(canvas.camera.project(polygon))
    color = shade(canvas, color, z, **shading)
    cv2.polylines(canvas.image, [pixels], True, color, thickness, shift=SHIFT)


def discs(canvas: Canvas, z: float, figures, colors, label: int | None = None, **shading) -> None:
    """Discs `z` metres away that face the camera, painted in order.

    `figures` are (x, y, radius) in metres, `colors` `[M, 3]`, one for each.
    """
    column, row, scale = canvas.camera.spot(0.0, 0.0, z)
    pixels = np.asarray(figures, dtype=float) * (scale, -scale, scale) + (column, row, 0.0)
    gain, offset = tone(canvas, z, **shading)
    colors = np.minimum(np.asarray(colors, dtype=float) * gain + offset, 255).tolist()
    for (x, y, radius), color in zip(fixed_point(pixels).tolist(), colors, strict=True):
        cv2.circle(canvas.image, (x, y), max(1, radius), color, -1, shift=SHIFT)
        if label is not None:
            cv2.circle(canvas.label, (x, y), max(1, radius), label, -1, shift=SHIFT)


def seed_of(rng: np.random.Generator) -> int:
    """A seed for one part, drawn from the generator of the whole."""
    return int(rng.integers(2**62))


def child(rng: np.random.Generator) -> np.random.Generator:
    """A generator of its own for one part, so that one part's choices do not move another's."""
    return np.random.default_rng(seed_of(rng))


def choose(rng: np.random.Generator, colors, spread: float = 14.0) -> np.ndarray:
    """One of the colours, a little off."""
    *tints, light = rng.standard_normal(4).tolist()
    color = colors[int(rng.integers(len(colors)))]
    off = [c + spread * (0.5 * tint + light) for c, tint in zip(color, tints, strict=True)]
    return np.array([min(max(c, 8.0), 250.0) for c in off])


def upright(x: float, y: float, z: float, points) -> np.ndarray:
    """Stands a flat figure up: points `[N, 2]` (sideways, up) from the foot (x, y, z) on."""
    points = np.asarray(points, dtype=float)
    flat = np.empty((len(points), 3))
    flat[:, 0] = x + points[:, 0]
    flat[:, 1] = y + points[:, 1]
    flat[:, 2] = z
    return flat


@cache
def ring(sides: int = 14) -> np.ndarray:
    """The corners `[sides, 2]` of a regular polygon on the unit circle."""
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], -1)


def prism(
    canvas: Canvas,
    centre: tuple[float, float],
    size: tuple[float, float],
    levels: tuple[float, float],
    color,
    label: int,
    turn: float = 0.0,
    top_size: tuple[float, float] | None = None,
    top_shift: float = 0.0,
) -> dict[str, np.ndarray]:
    """Paints a box, or a frustum, that stands on the ground.

    `centre` is (x, z), `size` is (width, length), `levels` the heights of its floor and top, `turn`
    its heading in radians (0 heads away from the camera, so that one sees its back). `top_size` and
    `top_shift` (along the length) make it taper. Returns the faces one can see by name, `[4, 3]`
    each: from outside, bottom left, bottom right, top right, top left.
    """
    cos, sin = math.cos(turn), math.sin(turn)
    corners = []
    for y, (width, length), shift in (
        (levels[0], size, 0.0),
        (levels[1], top_size or size, top_shift),
    ):
        for across, along in FOOT:
            across, along = 0.5 * width * across, 0.5 * length * along + shift
            corners.append(centre[0] + across * cos + along * sin)
            corners += [y, centre[1] - across * sin + along * cos]
    corners = np.array(corners).reshape(2, 4, 3)
    pixels = fixed_point(canvas.camera.project(corners))
    if canvas.camera.eye > levels[1]:
        up = shade(canvas, color, centre[1], normal=(0.0, 1.0, 0.0))
        cover(canvas, [pixels[1]], up, label)
    columns = pixels[0, :, 0].tolist()
    faces = {}
    for i, name in enumerate(("back", "right", "front", "left")):
        j = (i + 1) % 4
        if columns[i] < columns[j]:  # seen from outside a face runs from left to right
            outline = ([0, 0, 1, 1], [i, j, j, i])
            quad = faces[name] = corners[outline]
            z = 0.5 * float(quad[0, 2] + quad[1, 2])
            lit = shade(canvas, color, z, normal=normal_of(quad))
            cover(canvas, [pixels[outline]], lit, label)
    return faces


def normal_of(quad: np.ndarray) -> tuple[float, float, float]:
    """The outward horizontal unit normal of an upright face `[4, 3]`."""
    dx, dz = quad[1, 0] - quad[0, 0], quad[1, 2] - quad[0, 2]
    norm = max(1e-6, math.hypot(dx, dz))
    return float(dz) / norm, 0.0, -float(dx) / norm


def on_face(quad: np.ndarray, points) -> np.ndarray:
    """Fractions `[..., 2]` (left to right, bottom to top) of a face `[4, 3]` to `[..., 3]`."""
    points = np.asarray(points, dtype=float)
    s, t = points[..., 0], points[..., 1]
    return np.stack([(1 - t) * (1 - s), (1 - t) * s, t * s, t * (1 - s)], -1) @ quad


def patches(quad: np.ndarray, boxes) -> np.ndarray:
    """Rectangles `[M, 4]` (left, right, bottom, top: fractions of a face) to `[M, 4, 3]`."""
    if isinstance(boxes, tuple):  # always the same ones
        return _corner_weights(boxes) @ quad
    boxes = np.asarray(boxes, dtype=float).reshape(-1, 4)
    return on_face(quad, boxes[:, [[0, 2], [1, 2], [1, 3], [0, 3]]])


@cache
def _corner_weights(boxes: tuple) -> np.ndarray:
    """What each corner of a face contributes to each corner of its boxes, `[M, 4, 4]`."""
    return patches(np.eye(4), list(boxes))


def decal(canvas: Canvas, quad: np.ndarray, boxes, color, **shading) -> None:
    """Paints rectangles, given as for `patches`, on a face; they keep the face's label."""
    shading.setdefault("normal", normal_of(quad))
    fill(canvas, patches(quad, boxes), color, **shading)
