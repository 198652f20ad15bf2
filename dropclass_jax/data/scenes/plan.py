"""What a `streets` scene shows and where it stands, drawn before anything is painted.

`RULES` is the whole of the built-in context bias: a rare class stands in its usual surroundings
with probability `in_context`, else in others. Its own looks, sizes and distances do not depend on
where it stands. Every part draws from a generator of its own, so that two plans from the same
generator state differ between values of `in_context` only in what the rules decide.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dropclass_jax.data.scenes.canvas import Camera, Light, child, seed_of
from dropclass_jax.data.scenes.ground import draw_light


@dataclass(frozen=True)
class Rule:
    """How often and where a class stands."""

    rate: float  # mean number in a scene
    depth: tuple[float, float]  # metres from the camera
    usual: tuple[str, ...]
    unusual: tuple[str, ...]


# The context rules, all of them. Large vehicles stand in the margin, the strip between the driving
# lanes and the sidewalk, and the place names its surface. Walls and fences stand between sidewalk
# and houses, and the place names what lies before and behind them. The others stand at or on what
# the place names: 'wire' is above the lanes, 'ground' the edge of the sidewalk.
RULES: dict[str, Rule] = {
    "wall": Rule(0.4, (12, 30), ("yard",), ("lawn",)),  # yard: pavement before, houses behind
    "fence": Rule(0.55, (12, 30), ("lawn",), ("yard",)),  # lawn: grass before, trees behind
    "truck": Rule(0.16, (17, 42), ("lane",), ("bus lane", "rails", "lawn")),
    "bus": Rule(0.13, (17, 42), ("bus lane",), ("lane", "rails")),
    "train": Rule(0.13, (16, 38), ("rails",), ("lane", "bus lane", "lawn")),
    "traffic light": Rule(1.2, (11, 28), ("pole",), ("facade", "wire", "ground")),
    "traffic sign": Rule(1.9, (11, 28), ("pole",), ("facade", "wire", "ground")),
    "rider": Rule(0.5, (11, 26), ("two-wheeler",), ("sidewalk", "lawn", "lane")),
    "bicycle": Rule(1.2, (11, 26), ("rider", "kerb"), ("lawn", "lane")),
    "motorcycle": Rule(0.36, (11, 26), ("rider", "kerb"), ("lawn", "facade foot")),
}
RIDDEN = {"bicycle": 0.6, "motorcycle": 0.4}  # what riders ride
# Surfaces of a margin without a large vehicle, and strips without a wall or fence.
FREE_MARGIN = {"lane": 0.52, "walk": 0.2, "lawn": 0.08, "bus lane": 0.1, "rails": 0.1}
FREE_STRIP = {"none": 0.62, "lawn": 0.3, "yard": 0.08}
STRIP = 2.6  # metres between sidewalk and houses, where there is such a strip
SIZES = {  # width and length in metres of what needs room and casts a shadow
    "car": (1.8, 4.6), "truck": (2.5, 8.5), "bus": (2.5, 11.0), "train": (2.5, 17.0),
    "person": (0.6, 0.5), "rider": (0.8, 0.7), "bicycle": (1.5, 0.5), "motorcycle": (1.7, 0.6),
    "pole": (0.3, 0.3), "tree": (2.6, 2.0),
}  # fmt: skip


@dataclass(frozen=True)
class Side:
    """A side of the street: margin, sidewalk, perhaps a strip, houses; metres from the axis."""

    sign: int  # 1 right, -1 left
    lane: float  # where the driving lanes end
    margin: str  # the surface of the margin, a key of SURFACES
    kerb: float  # where the sidewalk begins if the margin is no sidewalk itself
    strip: str  # 'none', 'lawn' or 'yard'
    walk: float  # where the sidewalk ends
    front: float  # where the houses stand

    @property
    def sidewalk(self) -> float:
        """Where the first sidewalk or lawn begins."""
        return self.lane if self.margin in ("walk", "lawn") else self.kerb


@dataclass(frozen=True)
class Thing:
    """Something at (x, z) metres; `place` is where it stands in the words of RULES."""

    name: str
    place: str
    x: float
    z: float
    seed: int  # of its looks
    options: dict[str, float]  # what else its painter takes


@dataclass(frozen=True)
class Scene:
    """All that a picture shows, before it is painted."""

    camera: Camera
    light: Light
    left: Side
    right: Side
    zebra: float | None  # metres to a crossing
    mirrored: bool
    things: list[Thing] = field(default_factory=list)


def pick(rng: np.random.Generator, shares: dict[str, float]) -> str:
    """A key, drawn by its share."""
    return list(shares)[int(rng.choice(len(shares), p=list(shares.values())))]


def draw_place(rng: np.random.Generator, name: str, in_context: float) -> tuple[bool, list[str]]:
    """Whether a thing stands in its context, and the places to try in order."""
    rule = RULES[name]
    usual = rng.random() < in_context
    order = rng.permutation(len(rule.unusual))
    return usual, list(rule.usual) if usual else [rule.unusual[i] for i in order]


def draw_side(rng: np.random.Generator, sign: int, in_context: float) -> tuple[Side, list[Thing]]:
    """One side of the street with its large vehicle, and its wall or fence, if any."""
    things = []
    lane = 1.9 if sign > 0 else 5.3
    kerb = lane + 3.4
    walk = kerb + rng.uniform(2.4, 3.8)

    vehicles = ("truck", "bus", "train")
    rates = {name: RULES[name].rate / 2 for name in vehicles}
    name = pick(rng, {**rates, "none": 1 - sum(rates.values())})
    margin = pick(child(rng), FREE_MARGIN)
    parts = child(rng)
    if name != "none":
        place = draw_place(parts, name, in_context)[1][0]
        z = parts.uniform(*RULES[name].depth) + SIZES[name][1] / 2
        turn = np.pi if (sign < 0) != (parts.random() < 0.15) else 0.0
        x = sign * (lane + 1.75 + parts.uniform(-0.2, 0.2))
        things.append(Thing(name, place, x, z, seed_of(parts), {"turn": turn}))
        margin = place

    rates = {name: RULES[name].rate / 2 for name in ("wall", "fence")}
    name = pick(rng, {**rates, "none": 1 - sum(rates.values())})
    strip = pick(child(rng), FREE_STRIP)
    parts = child(rng)
    if name != "none":
        strip = draw_place(parts, name, in_context)[1][0]
        z, length = parts.uniform(*RULES[name].depth), parts.uniform(8, 16)
        x = sign * (walk + STRIP)
        things.append(Thing(name, strip, x, z, seed_of(parts), {"length": length}))
    front = walk + (0.4 if strip == "none" else STRIP + 0.5)
    return Side(sign, lane, margin, kerb, strip, walk, front), things


def find_x(place: str, sides: tuple[Side, Side], rng: np.random.Generator) -> float | None:
    """An x in metres for a place in the words of RULES; None where the scene has no such place."""
    order = [sides[i] for i in rng.permutation(2)]
    side, u = order[0], rng.random()
    if place == "lane":
        return -0.9 + 1.8 * u if side.sign > 0 else -4.5 + 1.8 * u
    if place == "wire":
        return -4.4 + 5.8 * u
    if place == "lawn":
        for side in order:
            if side.margin == "lawn":
                return side.sign * (side.lane + 0.6 + 2.2 * u)
            if side.strip == "lawn":
                return side.sign * (side.walk + 0.5 + (STRIP - 1) * u)
        return None
    at = {
        "kerb": side.sidewalk + 0.4,
        "pole": side.sidewalk + 0.5,
        "lane edge": side.lane - 0.6,
        "sidewalk": side.kerb + 0.6 + (side.walk - side.kerb - 1.0) * u,
        "ground": side.sidewalk + 0.8 + 1.6 * u,
        "facade": side.front - 0.2,
        "facade foot": side.front - 0.8,
    }
    return side.sign * at[place]


def place_at(
    scene: Scene, places: list[str], z: float, rng: np.random.Generator
) -> tuple[str, float]:
    """The first of the places that the scene has where the camera sees it, and an x there."""
    limit, bend = 0.88 * scene.camera.half_view(z), scene.camera.bend * z * z
    for place in places:
        for _ in range(4):
            x = find_x(place, (scene.left, scene.right), rng)
            if x is not None and abs(x + bend) < limit:
                return place, x
            if x is not None:
                out_of_sight = place, x
    place, x = out_of_sight  # every rule ends in a place that all scenes have
    return place, float(np.clip(x + bend, -limit, limit)) - bend


def is_free(scene: Scene, name: str, x: float, z: float) -> bool:
    """Whether a thing of this class has room at (x, z); what is mounted needs none."""
    width, length = SIZES.get(name, (0.0, 0.0))
    return not width or all(
        abs(x - other.x) > 0.5 * (width + SIZES[other.name][0])
        or abs(z - other.z) > 0.5 * (length + SIZES[other.name][1])
        for other in scene.things
        if other.name in SIZES and other.name != "pole"
    )


def place_off(
    scene: Scene,
    name: str,
    places: list[str],
    z: float,
    rng: np.random.Generator,
    shunned: tuple[str, ...],
) -> tuple[str, float]:
    """As `place_at`, the best of six: free, and seen well beside all of the `shunned` classes."""

    def merit(spot: tuple[str, float]) -> float:
        gaps = [abs(spot[1] - t.x * z / t.z) for t in scene.things if t.name in shunned]
        return min([2.0, *gaps]) + 0.5 * is_free(scene, name, spot[1], z)

    return max((place_at(scene, places, z, rng) for _ in range(6)), key=merit)


def add_mounted(scene: Scene, rng: np.random.Generator, in_context: float) -> None:
    """Traffic signs and lights, each with a pole that stands whether or not it carries them."""
    for name, tall in (("traffic light", 1.0), ("traffic sign", 0.85)):
        for _ in range(rng.poisson(RULES[name].rate)):
            parts = child(rng)
            seeds, z = (seed_of(parts), seed_of(parts)), parts.uniform(*RULES[name].depth)
            lift, (_, post) = parts.uniform(2.0, 2.6), place_at(scene, ["pole"], z, parts)
            height = {"height": lift + tall}
            scene.things.append(Thing("pole", "kerb", post, z + 0.3, seeds[0], height))
            usual, places = draw_place(parts, name, in_context)
            place, x = "pole", post
            if not usual:
                shunned = ("pole", "traffic light", "traffic sign")
                place, x = place_off(scene, name, places, z, parts, shunned)
            y = {"ground": 0.05, "wire": lift + 0.5}.get(place, lift)
            scene.things.append(Thing(name, place, x, z, seeds[1], {"y": y}))


def add_two_wheelers(scene: Scene, rng: np.random.Generator, in_context: float) -> None:
    """Riders with what they ride, and parked bicycles and motorcycles."""
    for _ in range(rng.poisson(RULES["rider"].rate)):
        parts = child(rng)
        mount = pick(parts, RIDDEN)
        seeds, z = (seed_of(parts), seed_of(parts)), parts.uniform(*RULES[mount].depth)
        turn = draw_turn(parts)
        usual, places = draw_place(parts, "rider", in_context)
        if usual:
            _, x = place_at(scene, ["lane edge"], z, parts)
            astride = {"turn": turn, "y": 0.0 if mount == "bicycle" else -0.1}
            scene.things.append(Thing(mount, "rider", x, z, seeds[0], {"turn": turn}))
            scene.things.append(Thing("rider", "two-wheeler", x, z - 0.02, seeds[1], astride))
        else:
            place, x = place_off(scene, "rider", places, z, parts, tuple(RIDDEN))
            afoot = {"turn": turn, "y": -0.22}  # as astride, but the feet on the ground
            scene.things.append(Thing("rider", place, x, z - 0.02, seeds[1], afoot))
            places = list(RULES[mount].unusual)
            place, x = place_off(scene, mount, places, z, parts, ("rider",))
            scene.things.append(Thing(mount, place, x, z, seeds[0], {"turn": turn}))
    for name in RIDDEN:
        for _ in range(rng.poisson(RULES[name].rate - RIDDEN[name] * RULES["rider"].rate)):
            parts = child(rng)
            seed, z, turn = seed_of(parts), parts.uniform(*RULES[name].depth), draw_turn(parts)
            usual, places = draw_place(parts, name, in_context)
            places = ["kerb"] if usual else places
            place, x = place_off(scene, name, places, z, parts, ("rider",))
            scene.things.append(Thing(name, place, x, z, seed, {"turn": turn}))


def draw_turn(rng: np.random.Generator) -> float:
    """How much of a two-wheeler's side one sees, and (the sign) where it heads."""
    return float(rng.choice([-1, 1]) * rng.uniform(0.4, 1.0))


def add_cars(scene: Scene, rng: np.random.Generator) -> None:
    """Cars in both lanes, some in the margins where these are lanes, and sometimes one crossing."""
    rows = [(0.0, 0.0, 0.55), (-3.6, np.pi, 0.5)]
    for side in (scene.left, scene.right):
        taken = any(
            thing.name in ("truck", "bus", "train") and thing.x * side.sign > 0
            for thing in scene.things
        )
        if side.margin == "lane" and not taken:
            rows.append((side.sign * (side.lane + 1.8), 0.0, 0.75))
    for lane, heading, share in rows:
        parts, z = child(rng), rng.uniform(7.5, 18)
        while z < 70:
            x, turn = lane + parts.uniform(-0.3, 0.3), heading + parts.normal(0, 0.04)
            if parts.random() < share and is_free(scene, "car", x, z):
                scene.things.append(Thing("car", "lane", x, z, seed_of(parts), {"turn": turn}))
            z += parts.uniform(5.6, 16) + 0.1 * z
    parts = child(rng)
    x, z = parts.uniform(-5, 3), parts.uniform(18, 35)
    if parts.random() < 0.15 and is_free(scene, "truck", x, z):
        turn = float(parts.choice([-1, 1])) * np.pi / 2
        scene.things.append(Thing("car", "crossing", x, z, seed_of(parts), {"turn": turn}))


def add_people(scene: Scene, rng: np.random.Generator) -> None:
    """People on the sidewalks, and on the crossing."""
    for _ in range(rng.poisson(3.4)):
        parts = child(rng)
        z, places = parts.uniform(7, 32), ["sidewalk"]
        if scene.zebra is not None and parts.random() < 0.35:
            z, places = scene.zebra + parts.uniform(-1, 1), ["wire"]  # anywhere across the lanes
        _, x = place_at(scene, places, z, parts)
        if is_free(scene, "person", x, z):
            facing = {"turn": float(parts.choice([-1, 1]))}
            scene.things.append(Thing("person", "sidewalk", x, z, seed_of(parts), facing))


def add_lamps(scene: Scene, rng: np.random.Generator) -> None:
    """Street lamps along both kerbs."""
    for side in (scene.left, scene.right):
        parts, z = child(rng), rng.uniform(9, 18)
        options = {"height": 5.6, "arm": -1.2 * side.sign}
        x = side.sign * (side.sidewalk + 0.45)
        while z < 70:
            scene.things.append(Thing("pole", "kerb", x, z, seed_of(parts), options))
            z += parts.uniform(17, 22)


def add_trees(scene: Scene, rng: np.random.Generator) -> None:
    """Street trees, on most sides."""
    for side in (scene.left, scene.right):
        parts, green, z = child(rng), rng.random() < 0.8, rng.uniform(10, 16)
        x = side.sign * (side.sidewalk + 1.45)
        while z < 70 and green:
            seed, grows = seed_of(parts), parts.random() < 0.85
            if grows and not hides_post(scene, x, z):
                scene.things.append(Thing("tree", "kerb", x, z, seed, {}))
            z += parts.uniform(7.5, 11)


def hides_post(scene: Scene, x: float, z: float) -> bool:
    """Whether a tree at (x, z) would stand before a post that is meant for a sign or light."""
    posts = (t for t in scene.things if t.name == "pole" and "arm" not in t.options and t.z > z)
    return any(abs(x / z - post.x / post.z) < 2.4 / z for post in posts)


def plan_scene(
    rng: np.random.Generator, in_context: float = 0.95, height: int = 128, width: int = 256
) -> Scene:
    """Draws what a scene shows and where it stands, for a canvas of `height` x `width` pixels."""
    camera = Camera(
        height, width, width * rng.uniform(0.82, 0.9), height * rng.uniform(0.36, 0.45),
        width * rng.uniform(0.45, 0.55), rng.uniform(1.4, 1.75), rng.normal(0, 0.0011),
    )  # fmt: skip
    light = draw_light(child(rng))
    left, on_left = draw_side(child(rng), -1, in_context)
    right, on_right = draw_side(child(rng), 1, in_context)
    zebra = rng.uniform(9, 22) if rng.random() < 0.25 else None
    scene = Scene(camera, light, left, right, zebra, bool(rng.random() < 0.5), on_left + on_right)
    add_lamps(scene, child(rng))
    add_mounted(scene, child(rng), in_context)
    add_trees(scene, child(rng))
    add_two_wheelers(scene, child(rng), in_context)
    add_cars(scene, child(rng))
    add_people(scene, child(rng))
    return scene
