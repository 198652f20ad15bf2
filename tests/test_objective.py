"""The loss of a training loop of one's own: what does not belong together is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dropclass_jax import objective

B, K = 2, 4
LOGITS = jax.random.normal(jax.random.key(0), (B, 3, 5, K))
LABELS = jax.random.randint(jax.random.key(1), (B, 6, 10), 0, K)


def loss(labels=LABELS, keep=None, logits=LOGITS, weights=None, **outputs):
    keep = jnp.ones(K) if keep is None else keep
    outputs = {"logits": logits, "logits_drop": logits, **outputs}
    terms = objective.loss_terms(outputs, labels, keep, class_weights=weights)
    return objective.total(terms, lambda_=0.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"labels": LABELS[:1]}, r"labels are integers \[2, H, W\], not int32 \[1, 6, 10\]"),
        ({"labels": LABELS[..., None]}, r"labels are integers .*\[2, 6, 10, 1\]"),
        ({"labels": LABELS / 1}, r"labels are integers .* not float32"),
        ({"keep": jnp.ones(1)}, r"keep is \[4\], .* not \[1\]"),
        ({"keep": jnp.ones((B, 6, 10, K))}, r"keep is .* 3 x 5 tiles"),
        ({"weights": jnp.ones(3)}, r"class_weights are \[4\], not \[3\]"),
        ({"logits": LOGITS[0]}, r"logits is \[3, h, w, 4\], not \[3, 5, 4\]"),
        ({"logits_drop": LOGITS[..., :3]}, r"logits_drop is \[2, h, w, 4\], not \[2, 3, 5, 3\]"),
        (
            {"logits_auxiliary": LOGITS[:1]},
            r"logits_auxiliary is .* not \[1, 3, 5, 4\]",
        ),
    ],
)
def test_shapes_that_do_not_belong_together(wrong, message):
    assert np.isfinite(loss())
    with pytest.raises(ValueError, match=message):
        loss(**wrong)


def test_outputs_of_dropclass_need_a_keep_mask():
    with pytest.raises(ValueError, match="keep is None"):
        objective.loss_terms({"logits": LOGITS, "logits_drop": LOGITS}, LABELS, None)


@pytest.mark.parametrize("weights", [None, jnp.ones(K)])
@pytest.mark.parametrize("label", [-1, K, 254])
def test_a_label_that_is_no_class_makes_the_loss_nan(label, weights):
    """Also where only the drop path counts, and with class weights, which would pass it over."""
    ignored = LABELS.at[0, 0, 0].set(255)
    assert np.isfinite(jax.jit(loss)(ignored, weights=weights))
    wrong = ignored.at[1, 2, 3].set(label)
    value, gradient = jax.value_and_grad(lambda x: loss(wrong, logits=x, weights=weights))(LOGITS)
    assert np.isnan(value)
    assert np.isnan(gradient).all()
