"""Crops: geometry, margins and batching, for any length and duration."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from amg import crops
from amg.check import InputError


@given(st.integers(3, 130), st.sampled_from(crops.DURATIONS), st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_crops_lie_in_the_clip(n_frames, duration_max, seed):
    original = np.arange(50) == 0
    crop = crops.draw(np.random.default_rng(seed), np.full(50, n_frames), original, duration_max)
    mid, most = crops.centre(n_frames, crops.PADDED_FRAMES[duration_max])
    assert (crop.start >= 0).all() and (crop.start + crop.length <= n_frames).all()
    assert (crop.length >= min(3, most)).all() and (crop.length <= most).all()
    for start, length, overlap in zip(crop.start, crop.length, crop.overlap):
        naive = len(set(range(start, start + length)) & set(range(mid, mid + most)))
        assert overlap == naive
    assert (crop.margin >= 0.2 - 1e-6).all() and (crop.margin <= 0.4 + 1e-6).all()
    assert (crop.start[0], crop.length[0], crop.overlap[0]) == (mid, most, most)
    assert crop.margin[0] == pytest.approx(0.4)


def test_crop_lengths_follow_the_cube_law():
    n = 40000
    crop = crops.draw(np.random.default_rng(0), np.full(n, 59), np.zeros(n, bool), 30)
    expected = np.mean(np.maximum((np.linspace(0, 1, 10**6) ** 3 * 59).astype(int), 3))
    assert crop.length.mean() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("duration, frames", [(5, 9), (10, 19), (15, 29), (30, 59)])
def test_segment_frames(duration, frames):
    assert crops.segment_frames(duration) == frames


@pytest.mark.parametrize("bad", [7, 10.0, "10", None, True])
def test_segment_frames_refuses(bad):
    with pytest.raises(InputError, match="5, 10, 15, 30"):
        crops.segment_frames(bad)


@given(st.lists(st.integers(1, 64), min_size=1, max_size=80), st.integers(64, 400))
def test_micro_batches_cover_the_batch_once(lengths, max_frames):
    lengths = np.array(lengths)
    groups = crops.micro_batches(lengths, max_frames)
    assert sorted(np.concatenate(groups)) == list(range(len(lengths)))
    assert all(len(g) * lengths[g].max() <= max_frames for g in groups)


def test_micro_batches_refuse_a_crop_that_cannot_fit():
    with pytest.raises(InputError, match="max_frames"):
        crops.micro_batches(np.array([10]), 9)


def test_pad_gathers_runs():
    frames = np.arange(20 * 128, dtype=np.float32).reshape(20, 128)
    batch, mask = crops.pad(frames, np.array([2, 17]), np.array([4, 3]))
    assert batch.shape == (2, 4, 128) and mask.tolist() == [[False] * 4, [False] * 3 + [True]]
    assert torch.equal(batch[0], torch.from_numpy(frames[2:6]))
    assert torch.equal(batch[1, :3], torch.from_numpy(frames[17:])) and not batch[1, 3].any()
    again, same = crops.pad_list([frames[2:6], frames[17:]])
    assert torch.equal(again, batch) and torch.equal(same, mask)
