"""Evaluate a checkpoint of a run.

python -m dropclass_jax.evaluate --workdir=RUN [--split=val] [--head=drop|plain]
    [--checkpoint=best] [--mode=slide] [--window=H,W] [--stride=H,W] [--scales=0.75,1,1.25]
    [--flip] [--batch_size=N]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from dropclass_jax.cli import app, view_flags
from dropclass_jax.cli.run_report import write_reports
from dropclass_jax.evaluation import inference, step
from dropclass_jax.evaluation.loop import evaluate_split
from dropclass_jax.experiment import check
from dropclass_jax.parallel import pmap
from dropclass_jax.reporting import table
from dropclass_jax.runs import results, rundir, trained_network


def evaluate_run(
    workdir: Path,
    splits: Sequence[str] | None = None,
    heads: Sequence[str] | None = None,
    data_dir: str | None = None,
    which: str = "last",
    views: inference.Views = inference.WHOLE,
    batch_size: int | None = None,
) -> dict[str, Any]:
    """Score a checkpoint of a run and write the results into its folder.

    Args:
      workdir: the run's folder.
      splits: of its data set; all of ``config.eval.splits`` by default.
      heads: ``drop`` or ``plain``; all that the model has by default.
      data_dir: the data's source folder, if it has moved.
      which: the checkpoint: ``last``, ``best`` or a step.
      views: how the images are shown to the network.
      batch_size: images at once, over all devices; ``config.eval.batch_size`` by default.

    Returns:
      What was written to ``metrics.json``.

    Raises:
      UserError: the folder holds no run or no checkpoint, or not such a split or head, or cannot
        be written; or views or a batch size that are out of range.
    """
    inference.check(views)
    facts = rundir.read_facts(workdir)
    for head in heads or ():
        trained_network.check_output(workdir, facts, head)
    batch_size = facts.eval_batch_size if batch_size is None else batch_size
    check.check_eval_batch(batch_size)
    splits = splits or facts.eval_splits
    dataset = trained_network.load_data(workdir, data_dir)
    for split in splits:
        dataset.check_split(split)
    rundir.check_writable(workdir)
    network = trained_network.load(workdir, which)
    eval_step = pmap.pmap_eval(step.bind(network.model, dataset.info, views))
    evaluations = {
        split: evaluate_split(eval_step, network.variables, dataset, split, batch_size)
        for split in splits
    }
    heads = heads or inference.OUTPUTS
    with rundir.writing(workdir):
        content = results.write(workdir, facts, dataset, network.step, evaluations, heads, views)
        write_reports(workdir, content)
    return content


def main(argv: list[str]) -> None:
    """The command."""
    given = flags.FLAGS
    workdir = Path(given.workdir)
    splits = [given.split] if given.split else None
    heads = [given.head] if given.head else None
    views = view_flags.read(rundir.read_facts(workdir).crop)
    content = evaluate_run(
        workdir, splits, heads, given.data_dir, given.checkpoint, views, given.batch_size
    )
    shown = {
        kind: [entry for entry in content[kind] if splits is None or entry["split"] in splits]
        for kind in ("results", "view_results")
    }
    table.print_tables({**content, **shown}, heads, views)
    written = ["metrics.json", "metrics.csv"]
    written += ["images.npz"] if views == inference.WHOLE else []
    written += ["report.html"] if content["results"] else []
    print(f"\nwritten: {workdir}/{', '.join(written)}")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "The run's folder.", required=True)
    flags.DEFINE_string("split", None, "One split; all of config.eval.splits by default.")
    flags.DEFINE_enum(
        "head", None, list(inference.OUTPUTS), "One head; all that the model has by default."
    )
    flags.DEFINE_string("data_dir", None, "The data's source folder, if it has moved.")
    flags.DEFINE_string("checkpoint", "last", "Which: last, best (by mean IoU) or a step.")
    flags.DEFINE_integer("batch_size", None, "Images at once; config.eval.batch_size by default.")
    view_flags.define()
    flags.adopt_module_key_flags(view_flags)  # so that --help lists them
    app.run(main)
