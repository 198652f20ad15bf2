"""The generated data set `streets`: street scenes with Cityscapes' classes, skew and context bias.

Rare classes stand in their usual surroundings with probability `in_context` (`plan.RULES`
says where), and look the same elsewhere: a model may learn the object or the shortcut, and a
split drawn with `in_context=0` tells which of the two it learned.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from dropclass_jax.data.scenes import backdrop, figures, ground, vehicles
from dropclass_jax.data.scenes import canvas as sc
from dropclass_jax.data.scenes.canvas import Canvas, child, seed_of
from dropclass_jax.data.scenes.plan import SIZES, Scene, Thing, plan_scene
from dropclass_jax.errors import UserError

# fmt: off
CLASSES: tuple[str, ...] = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
    "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle",
    "bicycle",
)
COLORS: tuple[tuple[int, int, int], ...] = (
    (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153),
    (153, 153, 153), (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152),
    (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100),
    (0, 80, 100), (0, 0, 230), (119, 11, 32),
)
# fmt: on


PAINTERS: dict[str, Callable] = {
    "car": vehicles.car,
    "truck": vehicles.truck,
    "bus": vehicles.bus,
    "train": vehicles.train,
    "person": figures.person,
    "rider": figures.rider,
    "bicycle": figures.bicycle,
    "motorcycle": figures.motorcycle,
    "traffic sign": figures.traffic_sign,
    "traffic light": figures.traffic_light,
    "pole": figures.pole,
    "tree": backdrop.tree,
    "wall": backdrop.wall,
    "fence": backdrop.fence,
}
BARRIERS = ("wall", "fence")


def paint_ground(canvas: Canvas, scene: Scene, rng: np.random.Generator) -> None:
    """The ground from house to house, its markings, shadows and light."""
    left, right = scene.left, scene.right
    strip = {"none": "walk", "yard": "walk", "lawn": "lawn"}
    edges = [-left.walk, -left.kerb, -left.lane, right.lane, right.kerb, right.walk]
    surfaces = [strip[left.strip], "walk", left.margin, "lane"]
    surfaces += [right.margin, "walk", strip[right.strip]]
    ground.paint_ground(canvas, child(rng), edges, surfaces)
    lines = [(-1.8, "dashed")]
    for side in (left, right):
        style = {"lane": "dashed", "bus lane": "bus", "rails": "solid"}.get(side.margin, "kerb")
        lines += [(side.sign * side.lane, style), (side.sign * side.kerb, "kerb")]
    zebra = None if scene.zebra is None else (-left.lane, right.lane, scene.zebra)
    ground.paint_lines(canvas, lines, zebra)
    sunny = right if scene.light.sun[0] > 0 else left
    house_edge = sunny.sign * (sunny.front - rng.uniform(1.5, 7))
    footprints = [(t.x, t.z, *SIZES[t.name]) for t in scene.things if t.name in SIZES]
    ground.light_ground(canvas, child(rng), footprints, house_edge)


def paint_fronts(canvas: Canvas, scene: Scene, rng: np.random.Generator) -> None:
    """Houses and green banks on both sides, far to near."""
    blocks = []
    for side in (scene.left, scene.right):
        barriers = [t for t in scene.things if t.name in BARRIERS and t.x * side.sign > 0]
        parts, z, x = child(rng), 1.0, side.sign * side.front
        while z < 110:
            length = parts.uniform(8, 17) * (1 + z / 60)
            green, tall, low = parts.random() < 0.42, parts.uniform(10, 23), parts.uniform(1, 2.4)
            for barrier in barriers:  # what lies behind a wall or fence is part of its context
                far = barrier.z + barrier.options["length"]
                if barrier.z - 3 < z + length and z < far + 3:
                    green = barrier.place == "lawn"
            seed = seed_of(parts)
            if scene.camera.sees(x, z + length):
                blocks.append((z, x, length, low if green else tall, green, seed))
            z += length
    for z, x, length, height, green, seed in sorted(blocks, key=lambda block: -block[0]):
        paint = backdrop.bushes if green else backdrop.building
        paint(canvas, np.random.default_rng(seed), x, z, length, height)


def paint_wires(canvas: Canvas, scene: Scene) -> None:
    """Wires above rails, and those that signs and lights hang from; thin and unlabelled."""
    for side in (scene.left, scene.right):
        x = side.sign * (side.lane + 1.75)
        for z in (4.0, 10.0, 20.0, 40.0) if side.margin == "rails" else ():
            sc.stroke(canvas, (x, 5.4, z), (x, 5.4, 2.2 * z), 0.02, (70, 70, 74))
    for thing in scene.things:
        if thing.place == "wire":
            y = thing.options["y"] + 1.0
            ends = (thing.x - 7, y, thing.z), (thing.x + 7, y, thing.z)
            sc.stroke(canvas, *ends, 0.03, (60, 60, 64))


def paint_things(canvas: Canvas, things: list[Thing]) -> None:
    """Walls and fences, then all else, far to near (by the nearer end)."""

    def order(thing: Thing) -> tuple[bool, float]:
        return thing.name not in BARRIERS, SIZES.get(thing.name, (0, 0))[1] / 2 - thing.z

    for thing in sorted(things, key=order):
        rng = np.random.default_rng(thing.seed)
        PAINTERS[thing.name](canvas, rng, thing.x, thing.z, **thing.options)


def paint_bonnet(canvas: Canvas, rng: np.random.Generator) -> None:
    """The bonnet of the car the camera rides in, which nobody has to recognise."""
    height, width = canvas.label.shape
    rise = rng.uniform(0.03, 0.06) * height
    for inset, tone in ((0.0, 40), (0.25, 62)):
        axes = (round(width * (0.42 - 0.1 * inset)), round(rise * (1 - inset)))
        color = tuple(tone + 0.12 * c for c in canvas.light.sky_low)
        cv2.ellipse(canvas.image, (width // 2, height), axes, 0, 180, 360, color, -1)
        cv2.ellipse(canvas.label, (width // 2, height), axes, 0, 180, 360, sc.IGNORED, -1)


def draw_scene(
    rng: np.random.Generator, in_context: float = 0.95, height: int = 128, width: int = 256
) -> tuple[np.ndarray, np.ndarray]:
    """Draws one scene.

    Args:
      rng: decides everything; the same state gives the same bytes.
      in_context: probability, 0..1, that a rare class stands where `RULES` says it usually does.
      height, width: pixels; scenes are composed for about 1:2.

    Returns:
      The picture uint8 `[H, W, 3]` (RGB) and the label map uint8 `[H, W]`: an index into `CLASSES`,
      or 255 on the bonnet of the camera's own car.

    Raises:
      UserError: `in_context` is no probability.
    """
    if not 0.0 <= in_context <= 1.0:
        raise UserError(f"in_context={in_context}: give a probability between 0 and 1")
    height, width = ground.STEP * height, ground.STEP * width  # painted larger, then averaged
    scene = plan_scene(child(rng), in_context, height, width)
    blank = np.zeros((height, width), np.uint8)
    canvas = Canvas(scene.camera, scene.light, np.repeat(blank[..., None], 3, -1), blank)
    ground.paint_sky(canvas, child(rng))
    paint_ground(canvas, scene, child(rng))
    backdrop.skyline(canvas, child(rng))
    paint_fronts(canvas, scene, child(rng))
    paint_wires(canvas, scene)
    paint_things(canvas, scene.things)
    paint_bonnet(canvas, child(rng))
    image, label = ground.develop(canvas, child(rng))
    if scene.mirrored:
        image, label = np.ascontiguousarray(image[:, ::-1]), np.ascontiguousarray(label[:, ::-1])
    return image, label
