"""``classes.yaml``: what it may say, and what is said of what it may not."""

from __future__ import annotations

import re
from pathlib import Path

import fabricate
import numpy as np
import pytest

from dropclass_jax.data import classes, files, masks
from dropclass_jax.data.info import distinct_colors
from dropclass_jax.errors import UserError


@pytest.fixture
def read(tmp_path):
    def read(text: str) -> classes.Classes:
        (tmp_path / "classes.yaml").write_text(text)
        return classes.read(tmp_path / "classes.yaml")

    return read


def test_all_that_it_may_say(read):
    found = read(
        """
        masks: index
        ignore: [255, 9]
        classes:
          - {name: road, value: 7, color: [128, 64, 128]}
          - car
          - {name: sky, value: 0}
        """
    )
    assert found.names == ("road", "car", "sky")
    assert found.codes == (7, 1, 0)
    assert found.colors == ((128, 64, 128), *distinct_colors(3)[1:])
    table = found.table()
    assert {v: int(table[v]) for v in (0, 1, 7, 9, 255)} == {0: 2, 1: 1, 7: 0, 9: 255, 255: 255}
    assert (np.delete(table, [0, 1, 7, 9, 255]) == masks.UNKNOWN).all()


def test_colours_and_one_to_ignore(read):
    found = read(
        """
        masks: color
        ignore: [0, 0, 0]
        classes: [{name: a, color: [1, 2, 3]}, {name: b, color: [255, 255, 255]}]
        """
    )
    table = found.table()
    assert (table[0x010203], table[0xFFFFFF], table[0]) == (0, 1, 255)
    assert (table == masks.UNKNOWN).sum() == 2**24 - 3
    assert read("masks: color\nignore: [[0, 0, 0], [1, 1, 1]]\nclasses: "
                "[{name: a, color: [1, 2, 3]}, {name: b, color: [4, 5, 6]}]"
                ).ignored == (0, 0x010101)  # fmt: skip


def test_255_may_be_a_class(read):
    assert read("classes: [{name: 'no', value: 0}, {name: 'yes', value: 255}]").ignored == ()
    assert read("classes: [a, b]").ignored == (255,)
    assert read("ignore: []\nclasses: [a, b]").ignored == ()
    assert read("ignore: 3\nclasses: [a, b]").ignored == (3,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no list of classes: write"),
        ("[road, car]", "has no list of classes: write"),
        ("classes: road", "has no list of classes: write"),
        ("classes: [road", ", line 1: expected"),
        ("classes: [a, b]\nmaskz: index", ": unknown key 'maskz': want masks, ignore, classes"),
        ("classes: [a, b]\nmasks: palette", ": masks is 'palette': want index or color"),
        ("classes: [a]", "lists 1 classes: want 2 to 254"),
        ("classes: []", "lists 0 classes: want 2 to 254"),
        ("classes: [a, b, a]", "two classes have the name 'a': make them differ"),
        ("classes: [a, {name: b, value: 0}]", "two classes have the value 0: make them differ"),
        ("classes: [a, {value: 3}]", ": class 2 has no name"),
        ("classes: [a, null]", ": class 2 has no name"),
        ("classes: [a, no]", ": class 2: its name means False in YAML: put it in quotes"),
        ("classes: [a, {name: b, colour: 3}]", ": class 2: unknown key 'colour': want name, val"),
        ("classes: [a, {name: b, value: 256}]", ": class 2, b: value 256: want a whole number"),
        ("classes: [a, {name: b, value: x}]", ": class 2, b: value 'x': want a whole number"),
        ("classes: [a, {name: b, value: yes}]", ": class 2, b: value True: want a whole number"),
        ("classes: [a, {name: b, color: red}]", r": class 2, b: color 'red': want \[red, green"),
        ("classes: [a, {name: b, color: [1, 2]}]", r": class 2, b: color \[1, 2\]: want \[red"),
        ("classes: [a, b]\nignore: [void]", ": ignore: value 'void': want a whole number"),
        ("masks: color\nclasses: [a, b]", ": class 1, a: want the colour in the masks"),
        ("masks: color\nclasses: [a, b]\nignore: 0", ": class 1, a: want the colour in the masks"),
        (
            "ignore: [0]\nclasses: [wall, building, sky]",
            r": value 0 is under ignore and is the class 'wall': .*\{name: wall, value: 1\}",
        ),
        (
            "ignore: [9, 255]\nclasses: [a, {name: b, value: 255}]",
            ": value 255 is under ignore and is the class 'b'",
        ),
        (
            "masks: color\nignore: [[4, 5, 6]]\n"
            "classes: [{name: a, color: [1, 2, 3]}, {name: b, color: [4, 5, 6]}]",
            r": color \[4, 5, 6\] is under ignore and is the class 'b'",
        ),
        ("classes: [a, b]\nclasses: [b, a]", ", line 2: the key 'classes' is there twice"),
        ("classes: [{name: a, value: 1, value: 2}, b]", ", line 1: the key 'value' is there twice"),
        ("classes: [&x a, *x]", r", line 1: aliases \(\*name\) are not supported"),
        ("classes: [a, {name: b, value: 2001-99-99}]", ": month must be in 1..12"),
        (f"classes: [a, {{name: b, value: {'9' * 5000}}}]", ": Exceeds the limit"),
        ("classes: " + "[" * 3000, "is nested too deeply"),
        ("classes: [a, [b, c]]", ": class 2: its name is no plain text"),
        ('classes: [a, "b\\nc"]', ": class 2: its name is no plain text"),
        (
            "masks: color\nclasses: [{name: a, color: [1, 1, 1]}, {name: b, color: [1, 1, 1]}]",
            r"two classes have the color \(1, 1, 1\)",
        ),
    ],
)
def test_what_it_may_not_say_is_named(read, text, message):
    with pytest.raises(UserError, match=rf"classes\.yaml.*{message}") as caught:
        read(text)
    assert "\n" not in str(caught.value)


def test_an_exploding_file_is_refused_at_once(read):
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    with pytest.raises(UserError, match=r"classes\.yaml, line 2: aliases"):
        read("\n".join(lines) + "\nclasses: *a11")
    with pytest.raises(UserError, match=r"classes\.yaml has 2 MiB: want a list of classes"):
        read("#" * 2**21)


def test_a_byte_order_mark_is_none_of_its_content(read):
    assert read("\ufeffclasses: [a, b]").names == ("a", "b")


def grey(*held: int) -> bytes:
    """A mask of some values, as many pixels of each."""
    return fabricate.encode(np.repeat(np.array(held, np.uint8), 12).reshape(len(held), 12))


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        # Half of the masks 0/1, half 0/255; also of more classes, and beside unlabelled masks.
        ([grey(0, 1), grey(0, 1), grey(0, 255)],
         r"is 255 \(16\.7% of the pixels, in 1 of 3 masks\) a class .* hold only 0 and 255, others "
         r"0, 1: if it is an object, save all masks with the same values; .*`ignore: \[255\]`"),
        ([grey(0, 1, 2), grey(0, 255), grey(255)], "only 0 and 255, others 0, 1, 2"),
        # Grey levels.
        ([grey(0, 128, 255)], r"255 \(33\.3% .*with 128 it looks like grey levels: .*value: 255"),
        ([grey(0, 85), grey(170, 255)], "with 85, 170 it looks like grey levels"),
    ],
)  # fmt: skip
def test_what_255_is_is_not_guessed(tmp_path, contents, message):
    with pytest.raises(UserError, match=message) as caught:
        made_of(tmp_path, *contents)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_255_is_ignored_where_it_lies_among_classes(tmp_path):
    """As the borders of VOC do."""
    note = made_of(tmp_path, grey(0, 1, 255), grey(0, 255), grey(0, 1))
    assert "2 classes, 255 is ignored (28.6% of the pixels, in 2 of 3 masks)" in note
    assert classes.read(tmp_path / "classes.yaml").ignored == (255,)


def made_of(tmp_path, *contents: bytes) -> str:
    listed = [
        files.File(f"{i}.png", len(content), lambda content=content: content)
        for i, content in enumerate(contents)
    ]
    return classes.make(tmp_path / "classes.yaml", listed)


def test_shares_of_what_was_found_are_noted(tmp_path):
    label = np.zeros((10, 10), np.uint8)
    label[0] = 5
    other = np.full((10, 10), 255, np.uint8)
    note = made_of(tmp_path, fabricate.encode(label), fabricate.encode(other))
    text = (tmp_path / "classes.yaml").read_text()
    assert "value: 0, color: [0, 0, 0]}  # 90 % of the pixels, in 1 masks" in text
    assert "value: 5, color: [128, 0, 0]}  # 10 % of the pixels, in 1 masks" in text
    assert "2 classes, 255 is ignored" in note
    assert classes.read(tmp_path / "classes.yaml").codes == (0, 5)


def test_the_kind_of_most_masks_counts(tmp_path):
    index = [fabricate.encode(fabricate.values(i, 3)) for i in range(2)]
    odd = [fabricate.encode(fabricate.image(0)), b"broken"]
    made_of(tmp_path, odd[0], *index, odd[1])
    assert classes.read(tmp_path / "classes.yaml").kind == "index"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"broken", r"no mask can be read, the first is 0\.png"),
        (fabricate.encode(fabricate.image(0)), "more than 254 values or colours: .*smoothed"),
        (fabricate.encode(np.full((4, 4), 3, np.uint8)), r"hold nothing but \[3\]"),
        (fabricate.encode(np.full((4, 4), 255, np.uint8)), r"hold nothing but \[\]"),
    ],
)
def test_masks_that_make_no_classes_are_named(tmp_path, content, message):
    with pytest.raises(UserError, match=message) as caught:
        made_of(tmp_path, content)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_the_one_in_the_documentation_is_one(read):
    (block,) = re.findall(r"```yaml\n(.*?)```", Path("docs/data.md").read_text(), flags=re.DOTALL)
    found = read(block)
    assert (found.kind, found.names, found.codes) == ("index", ("background", "crack"), (0, 1))
