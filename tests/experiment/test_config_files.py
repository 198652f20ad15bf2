"""Config files of a user's: a mistake in one is one line, and no key of it is passed over."""

import pytest

from dropclass_jax.errors import UserError
from dropclass_jax.experiment.check import check
from dropclass_jax.experiment.config import load_config
from dropclass_jax.experiment.defaults import from_scratch

HEAD = "from dropclass_jax.experiment import defaults\n\n\n"


def config_of(folder, lines):
    """What a config file gives whose function holds these lines."""
    path = folder / "mine.py"
    body = "".join(f"    {line}\n" for line in ("config = defaults.get_config()", *lines))
    path.write_text(f"{HEAD}def get_config():\n{body}")
    return load_config(str(path))


def test_a_config_of_a_user(tmp_path):
    """Values of known keys arrive, and so does any option of a data set."""
    lines = ("config.optim.lr = 0.5", "config.data.options.mine = 3", "return config")
    config = config_of(tmp_path, lines)
    assert (config.optim.lr, config.data.options.mine) == (0.5, 3)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ["config.optim.learning_rate = 0.5", "return config"],
            r"unknown config key 'optim\.learning_rate'; did you mean optim\.lr\?",
        ),
        (["config.dropclas = 1", "return config"], r"unknown config key 'dropclas'; did you"),
        (["config.mine = defaults.get_config()", "return config"], r"unknown config key 'mine'"),
        (["del config.total_steps", "return config"], r"config key 'total_steps' is missing"),
        (
            ["del config.loss", "config.loss = 'ohem'", "return config"],
            r"config key 'loss' is a section, not 'ohem'",
        ),
        (["config.optim.lr = 0.5"], r"mine\.py: get_config returns NoneType, not a ConfigDict"),
        (["return conf"], r"mine\.py, line 6: NameError: name 'conf' is not defined"),
        (["config.batch_size = 'all'"], r"mine\.py, line 6: TypeError: .*batch_size"),
        (["return (config"], r"mine\.py, line 6: SyntaxError: '\(' was never closed"),
        (["open('weights.json')"], r"mine\.py, line 6: FileNotFoundError: .*weights\.json"),
    ],
)
def test_a_mistake_in_a_config_file_is_one_line(lines, message, tmp_path):
    with pytest.raises(UserError, match=message) as error:
        config_of(tmp_path, lines)
    assert str(error.value).startswith(f"config file {tmp_path / 'mine.py'}")
    assert "\n" not in str(error.value)


def test_what_is_no_config_file(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.py does not exist"):
        load_config(str(tmp_path / "nowhere.py"))
    with pytest.raises(UserError, match=r"ablate\.py has no get_config function"):
        load_config("dropclass_jax/ablate.py")
    with pytest.raises(UserError, match=r"base\.py: TypeError: get_config\(\) takes 0"):
        load_config("configs/base.py:tiny")


def test_a_config_made_in_a_program_is_looked_at_too():
    config = from_scratch()
    config.optim.learning_rate = 0.5
    with pytest.raises(UserError, match=r"unknown config key 'optim\.learning_rate'"):
        check(config)
