"""What lines the street in the `streets` scenes: houses, trees, walls and fences."""

from __future__ import annotations

import math

import numpy as np

from dropclass_jax.data.scenes import canvas as sc
from dropclass_jax.data.scenes.canvas import (
    Canvas,
    choose,
    decal,
    discs,
    fill,
    patches,
    prism,
    seed_of,
    stroke,
)
from dropclass_jax.data.scenes.vehicles import LARGE_PAINT

# fmt: off
PLASTER = [
    (214, 200, 172), (190, 150, 112), (168, 96, 76), (205, 205, 198), (150, 142, 134),
    (222, 186, 130), (178, 172, 150), (132, 118, 110), (196, 160, 150), (160, 176, 180),
]
# fmt: on
ROOFS = [(128, 70, 56), (92, 86, 84), (110, 96, 88), (74, 78, 86)]
LEAVES = [(78, 112, 52), (96, 122, 58), (62, 96, 56), (118, 124, 56), (132, 110, 52)]
STONE = [(150, 142, 130), (168, 160, 150), (146, 112, 92), (128, 126, 124)]
FENCES = [(96, 78, 60), (150, 142, 130), (70, 88, 76), (80, 84, 90), (190, 186, 176)]


def building(
    canvas: Canvas, rng: np.random.Generator, x: float, z: float, length: float, height: float
) -> None:
    """A house with its facade at x (signed), `length` metres along the street from z on."""
    deep, plaster, roof = 9.0, choose(rng, PLASTER), choose(rng, ROOFS)
    pitch, look = rng.uniform(1.5, 3.0), seed_of(rng)
    centre = (x + math.copysign(deep / 2, x), z + length / 2)
    faces = prism(canvas, centre, (deep, length), (0, height), plaster, sc.BUILDING)
    if rng.random() < 0.6:
        levels, top_size = (height, height + pitch), (deep * 0.35, length)
        prism(canvas, centre, (deep + 0.6, length), levels, roof, sc.BUILDING, 0.0, top_size)
    for name, quad in faces.items():
        if z < 60 and (name != "back" or z < 30):  # farther gables are blank
            facade(canvas, np.random.default_rng(look), quad, plaster, height)


def facade(
    canvas: Canvas, rng: np.random.Generator, quad: np.ndarray, plaster: np.ndarray, height: float
) -> None:
    """Windows, a shop or a plinth at street level, and a cornice, on one face of a house."""
    near, long = float(quad[:, 2].min()), math.dist(quad[0], quad[1])
    night = canvas.light.lamps
    floors = max(2, round(height / 3.1))
    columns = max(1, int(long / (rng.uniform(1.9, 3.0) if near < 35 else 4.0)))
    framed, shop, sign = rng.random() < 0.6, rng.random() < 0.55, choose(rng, LARGE_PAINT)
    wide, tall = 0.27 / columns, 0.29 / floors
    windows = np.empty((floors - 1, columns, 4))
    windows[..., :2] = ((np.arange(columns) + 0.5) / columns)[:, None] + (-wide, wide)
    windows[..., 2:] = ((np.arange(1, floors) + 0.5) / floors)[:, None, None] + (-tall, tall)
    windows = windows.reshape(-1, 4)
    light_plaster = np.minimum(plaster * 1.16 + 12, 246)
    if framed and near < 40:
        pad = (-0.3 * wide, 0.3 * wide, -0.22 * tall, 0.22 * tall)
        decal(canvas, quad, windows + pad, light_plaster)
    glass = np.array(canvas.light.sky_top) * 0.35 + 30
    decal(canvas, quad, windows, glass, normal=(0.0, 0.6, -0.4))
    lit = windows[rng.random(len(windows)) < (0.5 if rng.random() < night else 0.0)]
    if len(lit):
        decal(canvas, quad, lit, (250, 214, 140), glow=True)
    street = 0.86 / floors
    if shop and near < 50:
        n = max(1, int(long / 4))
        panes = [((k + 0.12) / n, (k + 0.88) / n, 0.12 * street, 0.74 * street) for k in range(n)]
        color, glow = ((235, 205, 150), True) if night > 0.3 else ((52, 56, 62), False)
        decal(canvas, quad, panes, color, glow=glow)
        decal(canvas, quad, [(0.04, 0.96, 0.8 * street, street)], sign)
    else:
        decal(canvas, quad, [(0, 1, 0, 0.3 * street)], plaster * 0.72)
    decal(canvas, quad, ((0, 1, 0.975, 1),), light_plaster)


def crown(
    canvas: Canvas,
    rng: np.random.Generator,
    centre: tuple[float, float, float],
    size: tuple[float, float],
    leaves: np.ndarray,
) -> None:
    """A mass of leaves, dark below and lit above; `size` is its half width and half height."""
    x, y, z = centre
    if not canvas.camera.sees(x, z, 1.3 * size[0]):
        return
    blobs = min(12, max(2, int(190 / z)))
    draws = rng.standard_normal((blobs, 4))
    spread = np.minimum(np.maximum(0.42 * draws[np.argsort(draws[:, 1]), :2], -0.85), 0.85)
    bright = 0.84 + spread @ (0.22 * canvas.light.sun[0], 0.34) + 0.07 * draws[:, 2]
    figures = np.empty((blobs + 1, 3))
    figures[0] = x, y, 0.78 * min(size)
    figures[1:, :2] = spread * size + (x, y)
    figures[1:, 2] = min(size) * (0.36 + 0.06 * draws[:, 3])
    shades = np.empty((blobs + 1, 3))
    shades[0] = 0.6 * leaves
    shades[1:] = bright[:, None] * leaves
    discs(canvas, z, figures, shades, sc.VEGETATION, normal=(0, 0.8, -0.3))


def tree(canvas: Canvas, rng: np.random.Generator, x: float, z: float, height: float = 0.0) -> None:
    """A tree, as tall as a street tree unless told; its trunk is vegetation, as in Cityscapes."""
    height = height or rng.uniform(6, 9.5)
    leaves, wide = choose(rng, LEAVES, 10), rng.uniform(2.0, 3.1)
    top = (x + rng.normal(0, 0.15), height * 0.6, z)
    stroke(canvas, (x, 0, z), top, 0.26, (84, 68, 54), sc.VEGETATION)
    crown(canvas, rng, (x, height * 0.68, z), (wide, height * 0.32), leaves)


def bushes(
    canvas: Canvas, rng: np.random.Generator, x: float, z: float, length: float, height: float
) -> None:
    """A green bank along the street from z on, and trees that stand on it."""
    leaves, side, ahead = choose(rng, LEAVES, 10), math.copysign(1, x), z + length - 1
    while ahead > z:
        if ahead < 80 and rng.random() < 0.55:
            tree(canvas, rng, x + side * rng.uniform(3, 6), ahead, rng.uniform(6, 11))
        middle = (x + side * 1.6, height * 0.45, ahead)
        crown(canvas, rng, middle, (1.7, height * 0.62), leaves)
        ahead -= max(2.2, 0.13 * ahead)


def along(x: float, z: float, length: float, height: float) -> tuple[np.ndarray, tuple]:
    """A thin upright face along the street, and a normal towards it."""
    quad = np.array([(x, 0, z), (x, 0, z + length), (x, height, z + length), (x, height, z)])
    return quad, (-math.copysign(1, x), 0.0, -0.2)


def wall(canvas: Canvas, rng: np.random.Generator, x: float, z: float, length: float) -> None:
    """A wall along the street from z on: courses of stone under a coping."""
    paint = choose(rng, STONE)
    quad, normal = along(x, z, length, rng.uniform(1.2, 1.9))
    fill(canvas, quad, paint, sc.WALL, normal=normal)
    decal(canvas, quad, tuple((0, 1, t / 5, t / 5 + 0.03) for t in range(1, 5)), paint * 0.8)
    step = 1.1 / length  # the length of a stone, as a fraction of the wall's
    joints = []
    for course in range(5):
        start = np.arange((0.5 if course % 2 else 1.0) * step, 1, step)
        joints += [(s, s + 0.04 * step, course / 5, course / 5 + 0.2) for s in start.tolist()]
    decal(canvas, quad, joints, paint * 0.8)
    coping = patches(quad, ((0, 1, 0.93, 1.06),))
    fill(canvas, coping, np.minimum(paint * 1.2, 240), sc.WALL, normal=normal)


def fence(canvas: Canvas, rng: np.random.Generator, x: float, z: float, length: float) -> None:
    """A fence along the street from z on: posts, two rails and bars, or boards that hide more."""
    paint = choose(rng, FENCES)
    quad, normal = along(x, z, length, rng.uniform(1.2, 1.9))
    sc.mark(canvas, quad, sc.FENCE)
    thick = 0.2 if rng.random() < 0.3 else 0.07
    bars = np.arange(0, length - thick, 0.26)[:, None] + (0.0, thick)
    bars = np.concatenate([bars / length, np.tile((0.02, 1.0), (len(bars), 1))], -1)
    decal(canvas, quad, bars, paint, normal=normal)
    decal(canvas, quad, ((0, 1, 0.15, 0.21), (0, 1, 0.8, 0.86)), paint * 0.9, normal=normal)
    posts = [(s / length, (s + 0.12) / length, 0, 1.06) for s in np.arange(0, length, 2.2).tolist()]
    fill(canvas, patches(quad, posts), paint * 0.75, sc.FENCE, normal=normal)


def skyline(canvas: Canvas, rng: np.random.Generator) -> None:
    """What closes the street far away: hazy houses and tree tops."""
    x = -130.0
    while x < 130:
        height, wide = rng.uniform(8, 20), rng.uniform(11, 20)
        if rng.random() < 0.6:
            quad = [(x, 0, 150), (x + wide, 0, 150), (x + wide, height, 150), (x, height, 150)]
            fill(canvas, quad, choose(rng, PLASTER), sc.BUILDING)
        else:
            crown(canvas, rng, (x + wide / 2, 2, 148), (wide / 2, height / 2), choose(rng, LEAVES))
        x += wide - 1
