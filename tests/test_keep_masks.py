"""Keep-masks: which shapes there are, and how the dropped classes are drawn."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropclass_jax import keep_masks

K = 5


@pytest.mark.parametrize("shape", [(5,), (1, 5), (2, 5), (1, 1, 1, 5), (2, 3, 4, 5), (2, 2, 1, 5)])
def test_shapes_that_fit(shape):
    keep_masks.check_keep(jnp.ones(shape), (2, 3, 4, 5))


@pytest.mark.parametrize(
    "shape",
    [
        *((), (1,), (4,), (6,)),  # not of the classes
        *((5, 2), (3, 5), (2, 1), (3, 1, 1, 5)),  # not of the examples
        *((3, 4, 5), (2, 3, 5), (1, 2, 3, 4, 5)),  # a grid without examples; an axis too many
        *((2, 4, 4, 5), (2, 3, 8, 5)),  # tiles finer than the logits
    ],
)
def test_other_shapes_are_refused(shape):
    """Most of them would broadcast."""
    with pytest.raises(ValueError, match=r"keep is \[5\], \[2, 5\] or .* 3 x 4 tiles") as error:
        keep_masks.check_keep(jnp.ones(shape), (2, 3, 4, 5))
    assert str(error.value).endswith(f"not {list(shape)}")


class TestDraw:
    def masks(self, probability, odds, count=4000, classes=1):
        keys = jax.random.split(jax.random.key(7), count)
        draw = partial(keep_masks.draw_keep, count=classes)
        return np.asarray(jax.vmap(lambda key: draw(key, probability, jnp.asarray(odds)))(keys))

    def test_at_most_one_class_is_dropped_and_all_equally_often(self):
        masks = self.masks(0.6, np.ones(K))
        dropped = 1 - masks
        assert set(dropped.sum(1)) == {0.0, 1.0}
        # Six standard deviations of a binomial share.
        assert abs(dropped.any(1).mean() - 0.6) < 6 * np.sqrt(0.6 * 0.4 / 4000)
        expected = 0.6 / K
        assert np.abs(dropped.mean(0) - expected).max() < 6 * np.sqrt(expected / 4000)

    @pytest.mark.parametrize("odds", [np.ones(K), np.array([0, 1, 3, 0.5, 0]), np.zeros(K)])
    def test_one_class_is_drawn_as_by_the_formula(self, odds):
        """Bit for bit: runs of one class a batch or an example are what they were."""

        def formula(key):
            pick, coin = jax.random.split(key)
            z = jax.random.categorical(pick, jnp.log(odds))
            dropped = (jax.random.uniform(coin) < 0.6) & odds.any()
            return 1.0 - dropped * jax.nn.one_hot(z, K)

        odds = jnp.asarray(odds)
        expected = jax.vmap(formula)(jax.random.split(jax.random.key(7), 500))
        np.testing.assert_array_equal(self.masks(0.6, odds, 500), expected)

    @pytest.mark.parametrize("probability", [0.3, 1.0])
    def test_several_classes_each_with_its_own_coin(self, probability):
        dropped = 1 - self.masks(probability, np.ones(K), classes=3)
        number = dropped.sum(1)
        assert number.max() == 3
        assert dropped.max() == 1
        for n in range(4):  # a binomial number, whichever the classes
            share = math.comb(3, n) * probability**n * (1 - probability) ** (3 - n)
            assert abs((number == n).mean() - share) <= 6 * np.sqrt(share * (1 - share) / 4000)
        expected = 3 * probability / K
        assert np.abs(dropped.mean(0) - expected).max() < 6 * np.sqrt(expected / 4000)

    def test_fewer_where_fewer_have_odds(self):
        dropped = 1 - self.masks(1.0, [0.0, 1.0, 3.0, 0.0, 0.0], 50, classes=4)
        assert (dropped == [0, 1, 1, 0, 0]).all()

    @pytest.mark.parametrize(("classes", "places"), [(1, 4), (1, 5), (2, 7), (4, 12), (3, 1)])
    def test_even_draws_take_every_class_before_any_comes_twice(self, classes, places):
        draw = jax.jit(keep_masks.draw_keep_evenly, static_argnums=(3, 4))
        for probability in (0.0, 0.4, 1.0):
            wanted = probability * classes * places
            for number in range(20):
                key = jax.random.key(number)
                dropped = 1 - np.asarray(draw(key, probability, jnp.ones(K), classes, places))
                assert dropped.shape == (places, K)
                assert abs(dropped.sum() - wanted) < 1
                for counts in (dropped.sum(0), dropped.sum(1)):  # of classes, of places
                    assert np.ptp(counts) <= 1
                assert dropped.sum(1).max() <= classes

    def test_even_draws_drop_as_often_as_others(self):
        keys = jax.random.split(jax.random.key(7), 4000)
        odds = jnp.array([1, 1, 0, 1, 1, 1.0])
        draw = jax.vmap(lambda key: keep_masks.draw_keep_evenly(key, 0.3, odds, 2, 3))
        dropped = 1 - np.asarray(draw(keys))  # [4000, 3, 6]
        expected = np.broadcast_to(0.3 * 2 / 5 * odds, (3, 6))
        error = np.abs(dropped.mean(0) - expected)
        assert (error <= 6 * np.sqrt(expected / 4000)).all()
        only = keep_masks.draw_keep_evenly(keys[0], 1.0, jnp.array([0, 1, 0, 1.0]), 3, 5)
        assert (only == jnp.array([1, 0, 1, 0])).all()
        assert (keep_masks.draw_keep_evenly(keys[0], 1.0, jnp.zeros(4), 3, 5) == 1).all()

    def test_odds_decide_which_class(self):
        dropped = 1 - self.masks(1.0, [0.0, 1.0, 3.0])
        assert dropped[:, 0].sum() == 0
        assert abs(dropped[:, 2].mean() - 0.75) < 6 * np.sqrt(0.75 * 0.25 / 4000)

    def test_never_and_nothing_to_draw(self):
        assert (self.masks(0.0, np.ones(K)) == 1).all()
        assert (self.masks(1.0, np.zeros(K)) == 1).all()

    @pytest.mark.parametrize("count", [0, K, K + 1])
    def test_a_class_is_always_kept(self, count):
        draws = (keep_masks.draw_keep, partial(keep_masks.draw_keep_evenly, places=2))
        for draw in draws:
            with pytest.raises(ValueError, match=f"count is 1 to 4, of 5 classes; not {count}"):
                draw(jax.random.key(0), 1.0, jnp.ones(K), count=count)

    def test_rows_are_drawn_on_their_own(self):
        keys = jax.random.split(jax.random.key(3), 3)
        odds = jnp.ones((3, K))
        together = keep_masks.draw_keep(keys, 1.0, odds)
        for row in range(3):
            alone = keep_masks.draw_keep(keys[row], 1.0, odds[row])
            np.testing.assert_array_equal(together[row], alone)
