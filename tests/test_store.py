"""Files: fingerprints, training sets, checkpoints."""

import os
import pickle

import pytest
import torch

from amg.check import InputError
from amg.retrieval import published


def test_a_pickle_is_never_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    for file, read, message in (
        ("ids.pkl", published.load_test_ids, "it asks for .*mkdir"),
        ("x.pth", published.load_published, "no published checkpoint"),
    ):
        (tmp_path / file).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(InputError, match=message):
            read(tmp_path / file)
        assert not (tmp_path / "exploded").exists()


def test_other_checkpoints_than_published_ones_are_refused(tmp_path):
    torch.save({"model": {"linear1.weight": torch.zeros(256, 64)}}, tmp_path / "a.pth")
    with pytest.raises(InputError, match="no published checkpoint of mt"):
        published.load_published(tmp_path / "a.pth")
    torch.save({"model": torch.zeros(3)}, tmp_path / "b.pth")
    for encoder in ("mt", "mlstm"):
        with pytest.raises(InputError, match="no published checkpoint"):
            published.load_published(tmp_path / "b.pth", encoder)
    with pytest.raises(InputError, match="no published checkpoint of mt.* No such file"):
        published.load_published(tmp_path / "none.pth")
    with pytest.raises(InputError, match="must be one of: mt, mlstm, if a published"):
        published.load_published(tmp_path / "a.pth", "mcnn")
