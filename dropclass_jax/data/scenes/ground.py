"""Light, sky and ground of the `streets` scenes, and the development of the finished picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from dropclass_jax.data.scenes import canvas as sc
from dropclass_jax.data.scenes.canvas import Canvas, Light, choose

# What can cover the ground: colour and class. Rails and bus lanes are road to the label map.
SURFACES = {
    "lane": ((110, 110, 115), sc.ROAD),
    "bus lane": ((132, 88, 80), sc.ROAD),
    "rails": ((112, 106, 92), sc.ROAD),
    "walk": ((172, 162, 150), sc.SIDEWALK),
    "lawn": ((112, 138, 66), sc.TERRAIN),
}
STEP = 2  # pixels of the canvas to a block of sky or ground, and to a pixel of the finished picture
# How strongly the fine mottle of the finished picture shows on each class (255: the bonnet).
MOTTLE = np.full(256, 0.02, np.float32)
# fmt: off
MOTTLE[: sc.BICYCLE + 1] = [
    0.04, 0.05, 0.03, 0.08, 0.09, 0.04, 0.03, 0.03, 0.24, 0.16,
    0.0, 0.06, 0.06, 0.04, 0.04, 0.04, 0.04, 0.06, 0.06,
]
# fmt: on


DISTANCES = np.geomspace(2.5, 220, 14)  # metres; where lines along the street may bend
ROUGHNESS = np.full(256, 0.028, np.float32)  # of the ground, by class
ROUGHNESS[sc.TERRAIN] = 0.1


@dataclass(frozen=True)
class Mood:
    """A kind of light; see `canvas.Light`."""

    name: str
    share: float
    sky_top: tuple[float, float, float]
    sky_low: tuple[float, float, float]
    ambient: tuple[float, float, float]
    direct: tuple[float, float, float]
    haze: float
    clouds: float
    lamps: float


# fmt: off
MOODS = (
    Mood("noon", 0.38, (74, 140, 220), (196, 222, 242), (0.70, 0.73, 0.80), (0.62, 0.57, 0.46),
         haze=330, clouds=0.35, lamps=0.0),
    Mood("evening", 0.2, (112, 140, 190), (250, 208, 158), (0.66, 0.60, 0.62), (0.72, 0.52, 0.28),
         haze=230, clouds=0.4, lamps=0.1),
    Mood("overcast", 0.2, (168, 178, 190), (212, 216, 220), (0.86, 0.87, 0.90), (0.12, 0.12, 0.12),
         haze=190, clouds=0.9, lamps=0.1),
    Mood("mist", 0.12, (178, 190, 200), (222, 222, 216), (0.74, 0.74, 0.76), (0.20, 0.19, 0.17),
         haze=85, clouds=0.7, lamps=0.15),
    Mood("dusk", 0.1, (58, 72, 122), (226, 158, 138), (0.54, 0.52, 0.62), (0.26, 0.18, 0.15),
         haze=190, clouds=0.5, lamps=0.75),
)
# fmt: on


def draw_light(rng: np.random.Generator) -> Light:
    """A time of day and its weather."""
    side, up = rng.choice([-1, 1]) * rng.uniform(0.35, 0.8), rng.uniform(0.35, 0.8)
    sun = np.array([side, up, rng.uniform(-0.7, 0.3)])
    sun = tuple((sun / np.linalg.norm(sun)).tolist())
    mood = MOODS[int(rng.choice(len(MOODS), p=[mood.share for mood in MOODS]))]
    haze = mood.haze * float(rng.uniform(0.8, 1.25))
    return Light(
        mood.sky_top, mood.sky_low, mood.ambient, mood.direct, sun, haze, mood.clouds, mood.lamps
    )


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]
) -> np.ndarray:
    """Smooth noise float32 `shape`, roughly N(0, 1) at its `cells` grid points."""
    grid = rng.standard_normal(cells, dtype=np.float32)
    return cv2.resize(grid, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


def enlarge(small: np.ndarray, large: np.ndarray) -> None:
    """Writes a picture `[h, w, 3]` to one `STEP` times as large, cutting what is too much."""
    height, width = large.shape[:2]
    size = (STEP * small.shape[1], STEP * small.shape[0])
    small = np.clip(small, 0, 255).astype(np.uint8)
    large[:] = cv2.resize(small, size, interpolation=cv2.INTER_NEAREST)[:height, :width]


def rgb(gray: np.ndarray) -> np.ndarray:
    """A map `[h, w]` three times over, `[h, 3 w]`, as the channels of a picture lie in memory."""
    return cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB).reshape(gray.shape[0], -1)


def row(color, width: int) -> np.ndarray:
    """A row of one colour, float32 `[3 w]`."""
    return np.tile(np.asarray(color, np.float32), width)


def paint_sky(canvas: Canvas, rng: np.random.Generator) -> None:
    """A vertical gradient with clouds, down to a little below the horizon."""
    light, width = canvas.light, canvas.camera.width // STEP
    rows = int(canvas.camera.horizon) // STEP + 2
    down = np.linspace(0, 1, rows, dtype=np.float32)[:, None] ** 1.3
    top, low = np.float32(light.sky_top), np.float32(light.sky_low)
    noise = smooth_noise(rng, (rows, width), (5, 7))
    noise += 0.5 * smooth_noise(rng, (rows, width), (12, 16))
    cloud = rgb(np.clip(noise * 0.5 + (light.clouds - 0.35), 0, 1) * np.float32(0.75))
    white = np.minimum(0.5 * low + 0.15 * top + 88, 250)
    sky = row(top, width) + down * row(low - top, width)
    sky += cloud * (row(white, width) - sky)
    enlarge(sky.reshape(rows, width, 3), canvas.image[: STEP * rows])
    canvas.label[: STEP * rows] = sc.SKY


def strip(left: float, right: float) -> np.ndarray:
    """The ground between two lines along the street, as a polygon `[2 N, 3]`."""
    n = len(DISTANCES)
    polygon = np.zeros((2 * n, 3))
    polygon[:n, 0], polygon[n:, 0] = left, right
    polygon[:n, 2], polygon[n:, 2] = DISTANCES, DISTANCES[::-1]
    return polygon


def bars(left, right, near, far) -> np.ndarray:
    """Rectangles on the ground, `[M, 4, 3]`; numbers or arrays `[M]`, in metres."""
    left, right, near, far = np.broadcast_arrays(left, right, near, far)
    x = np.stack([left, right, right, left], -1)
    z = np.stack([near, near, far, far], -1)
    return np.stack([x, np.zeros(x.shape), z], -1).astype(float)


def paint_ground(
    canvas: Canvas, rng: np.random.Generator, edges: list[float], surfaces: list[str]
) -> None:
    """Strips of ground along the street, unlit; `surfaces[i]` lies left of `edges[i]`."""
    camera = canvas.camera

    def lay(polygons, color, label: int | None = None) -> None:
        pixels = sc.fixed_point(camera.project(polygons))
        color = tuple(float(c) for c in color)
        sc.cover(canvas, [pixels] if pixels.ndim == 2 else list(pixels), color, label)

    tint = {name: choose(rng, [color], 6) for name, (color, _) in SURFACES.items()}
    tint["lane"] *= rng.uniform(0.82, 1.12)
    below = int(camera.horizon)
    canvas.image[below:], canvas.label[below:] = tint["walk"], sc.SIDEWALK
    bounds = [-220.0, *edges, 220.0]
    for left, right, name in zip(bounds, bounds[1:], surfaces, strict=False):
        lay(strip(left, right), tint[name], SURFACES[name][1])
        if name == "walk":
            near = np.arange(3.6, 22, 1.2)
            lay(bars(max(left, -30), min(right, 30), near, near + 0.06), 0.85 * tint[name])
        if name == "rails":
            near = np.arange(3.6, 32, 0.9)
            lay(bars(left + 0.5, right - 0.5, near, near + 0.35), 0.84 * tint[name])
            for rail in (0.5 * (left + right) - 0.72, 0.5 * (left + right) + 0.72):
                lay(strip(rail - 0.09, rail + 0.09), (70, 66, 66))
                lay(strip(rail - 0.045, rail + 0.045), (196, 198, 204))


def paint_lines(
    canvas: Canvas, lines: list[tuple[float, str]], zebra: tuple[float, float, float] | None
) -> None:
    """Markings, unlit: lengthways lines (x, 'solid' | 'dashed' | 'bus' | 'kerb') and a crossing.

    `zebra` is (left, right, z) of the crossing, in metres.
    """

    def lay(polygons, color) -> None:
        pixels = sc.fixed_point(canvas.camera.project(polygons))
        sc.cover(canvas, [pixels] if pixels.ndim == 2 else list(pixels), color, None)

    for x, style in lines:
        if style == "dashed":
            near = np.arange(3.0, 80, 6)
            lay(bars(x - 0.08, x + 0.08, near, near + 2.6), (200, 200, 196))
        else:
            half, color = {
                "solid": (0.07, (200, 200, 196)),
                "bus": (0.11, (232, 190, 70)),
                "kerb": (0.14, (188, 184, 178)),
            }[style]
            lay(strip(x - half, x + half), color)
    if zebra is not None:
        left = np.arange(zebra[0] + 0.3, zebra[1] - 0.6, 1.0)
        lay(bars(left, left + 0.5, zebra[2] - 1.6, zebra[2] + 1.6), (214, 214, 210))


def light_ground(
    canvas: Canvas,
    rng: np.random.Generator,
    footprints: list[tuple[float, float, float, float]],
    house_edge: float,
) -> None:
    """Roughness, sunlight, shadows and haze on the ground painted so far.

    `footprints` are (x, z, width, length) in metres of what casts a shadow; `house_edge` is the x
    that the shadow of the houses on the sun's side reaches.
    """
    light = canvas.light
    first, x, z = canvas.camera.ground(STEP)
    height, width = x.shape
    color = cv2.resize(canvas.image[first:], (width, height), interpolation=cv2.INTER_AREA)
    color = color.astype(np.float32).reshape(height, -1)  # [h, 3 w], as all below
    tile = cv2.resize(rng.standard_normal((24, 24), dtype=np.float32), (96, 96))
    ahead = np.ascontiguousarray(np.broadcast_to(z * 6, x.shape))
    grain = cv2.remap(tile, x * 9, ahead, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    grain *= cv2.LUT(canvas.label[first::STEP, ::STEP], ROUGHNESS)
    grain += 1 + 0.025 * smooth_noise(rng, x.shape, (5, 8))
    lit = rgb(shadows(canvas, footprints, house_edge)[first // STEP :])
    lit *= row(light.direct, width) * np.float32(light.sun[1])
    lit += row(light.ambient, width)
    color *= rgb(grain)
    color *= lit
    keep = np.exp(-z / np.float32(light.haze))
    color *= keep
    color += (1 - keep) * row(light.sky_low, width)
    enlarge(color.reshape(height, width, 3), canvas.image[first:])


def shadows(
    canvas: Canvas, footprints: list[tuple[float, float, float, float]], house_edge: float
) -> np.ndarray:
    """Where the sun reaches the ground, float32 `[H / STEP, W / STEP]`, 0 dark .. 1 lit."""
    camera, sun = canvas.camera, canvas.light.sun
    mask = np.full((camera.height // STEP, camera.width // STEP), 255, np.uint8)

    def darken(polygons: np.ndarray, value: int) -> None:
        for pixels in sc.fixed_point(camera.project(polygons) / STEP):  # they overlap
            cv2.fillPoly(mask, [pixels], value, shift=sc.SHIFT)

    darken(strip(house_edge, math.copysign(60.0, sun[0]))[None], 70)
    x, z, width, length = np.array(footprints, dtype=float).reshape(-1, 4).T
    slant = -sun[0] / max(sun[1], 0.3)
    left, right = x - width / 2 - 0.1, x + width / 2 + 0.1
    near, far = z - length / 2 - 0.1, z + length / 2 + 0.1
    darken(bars(left + min(slant, 0), right + max(slant, 0), near, far), 40)
    darken(bars(left, right, near, far), 0)
    mask = cv2.GaussianBlur(mask, (0, 0), camera.width / STEP / 230)
    return mask.astype(np.float32) / 255


def develop(canvas: Canvas, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The finished picture and label map, `STEP` times smaller than the canvas."""
    height, width = canvas.camera.height // STEP, canvas.camera.width // STEP
    image = cv2.resize(canvas.image, (width, height), interpolation=cv2.INTER_AREA)
    image = image.astype(np.float32).reshape(height, -1)  # [H, 3 W], as all below
    label = np.ascontiguousarray(canvas.label[STEP // 2 :: STEP, STEP // 2 :: STEP])
    gain = 0.7 * smooth_noise(rng, (height, width), (height // 4, width // 4))
    gain += uniform_noise(rng, (height, width), 0.5)
    gain *= cv2.LUT(label, MOTTLE)
    y, x = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
    gain += 1.0 - 0.1 * (x[None, :] ** 2 + y[:, None] ** 2)  # vignette
    image *= rgb(gain)
    contrast, exposure = rng.uniform(0.98, 1.16), rng.uniform(0.96, 1.2)
    balance = exposure * rng.normal(1, 0.018, 3)
    image *= row(contrast * balance, width)
    image += row(128 * (1 - contrast) * balance + 0.5, width)
    image += uniform_noise(rng, image.shape, rng.uniform(1.2, 3.8))
    image = np.clip(image, 0, 255, out=image).astype(np.uint8)
    return image.reshape(height, width, 3), label


def uniform_noise(rng: np.random.Generator, shape: tuple[int, ...], deviation: float) -> np.ndarray:
    """Noise float32 of mean 0, in 256 steps: a tenth of the time of normal noise."""
    noise = rng.integers(0, 256, shape, dtype=np.uint8).astype(np.float32)
    noise -= 127.5
    noise *= deviation / 73.9
    return noise
