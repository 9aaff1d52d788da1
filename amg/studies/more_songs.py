"""Learning curves: the same training on fewer songs and on more, with as many updates."""

from dataclasses import dataclass, replace

import numpy as np

from amg import check
from amg.embedding import runs, songs
from amg.fingerprint.features import TrainingSet


@dataclass(frozen=True)
class Training:
    """One point of the curve."""

    n_songs: int  # that it learns from
    config: runs.Config
    data: TrainingSet  # those songs, then the ones for validation
    updates: int


def runs_of(train_set) -> str:
    """Under which name the curve's runs lie, in the place of their training set's."""
    return f"{train_set}-curve"


def trainings(data, config, sizes, n_seeds, n_updates) -> list[Training]:
    """The trainings of a learning curve, smallest first: on the first `n` songs for each `n` of
    `sizes`, so that a smaller set is part of a larger, the last `n_valid` held out from all.

    The two largest are trained `n_seeds` times, the others once. Epochs follow from `n_updates`,
    rounded to whole ones. Raises InputError for a size that the training set does not have.
    """
    most = len(data.length) - config.n_valid
    check.each("sizes", sizes, check.integer, 2, most)
    check.integers(1, n_seeds=n_seeds, n_updates=n_updates)
    held_out, points, sizes = np.arange(most, len(data.length)), [], sorted(sizes)
    for n in sizes:
        part = data.part(np.concatenate([np.arange(n), held_out]))
        chosen = songs.with_updates(config, n_updates, part)
        per_epoch = songs.updates(config, part)
        for seed in range(n_seeds if n in sizes[-2:] else 1):
            of_seed = replace(chosen, seed=seed)
            points.append(Training(n, of_seed, part, chosen.epochs * per_epoch))
    return points
