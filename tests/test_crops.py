"""Crops: geometry, margins and batching, for any length and duration."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amg.check import InputError
from amg.embedding import batches, crops


@given(st.integers(3, 130), st.sampled_from(crops.DURATIONS), st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_crops_lie_in_the_clip(n_frames, duration_max, seed):
    original = np.arange(50) == 0
    crop = crops.draw(np.random.default_rng(seed), np.full(50, n_frames), original, duration_max)
    mid, centre_frames = crops.centre(n_frames, crops.PADDED_FRAMES[duration_max])
    assert (crop.start >= 0).all() and (crop.start + crop.length <= n_frames).all()
    assert (crop.length >= min(3, centre_frames)).all() and (crop.length <= centre_frames).all()
    for start, length, overlap in zip(*crop):
        naive = len(set(range(start, start + length)) & set(range(mid, mid + centre_frames)))
        assert overlap == pytest.approx(naive / centre_frames)
    assert (crop.start[0], crop.length[0], crop.overlap[0]) == (mid, centre_frames, 1)
    assert crops.margin(crop.overlap[0]) == pytest.approx(0.4) and crops.margin(0.0) == 0.2


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


@given(st.lists(st.integers(1, 64), min_size=1, max_size=80), st.integers(1, 400))
def test_micro_batches_cover_the_batch_once(lengths, max_frames):
    lengths = np.array(lengths)
    groups = crops.micro_batches(lengths, max_frames)
    assert sorted(np.concatenate(groups)) == list(range(len(lengths)))
    assert all(len(group) and lengths[group].sum() < max_frames + 64 for group in groups)
    in_order = lengths[np.concatenate(groups)]
    assert (np.diff(in_order) <= 0).all()


@given(
    st.integers(2, 12),
    st.integers(2, 5),
    st.integers(6, 40),
    st.sampled_from(["classes", "pairs", "triplets"]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=150, deadline=None)
def test_an_epoch_takes_every_clip_once(n_songs, n_clips, batch_size, kind, seed):
    rng = np.random.default_rng(seed)
    length = rng.integers(3, 70, (n_songs, n_clips)) * (rng.random((n_songs, n_clips)) < 0.8)
    length[:, 0] = 59
    length[0, 1] = 30
    epoch = batches.epoch(np.random.default_rng(seed), length, batch_size, kind, 10)
    assert len(epoch) == batches.count(length, batch_size, kind)
    assert all(0 < len(batch.song) <= batch_size for batch in epoch)
    there = set(zip(*np.nonzero(length)))
    seen = [clip for batch in epoch for clip in zip(batch.song, batch.clip)]
    if kind == "classes":
        assert sorted(seen) == sorted(there)
        return
    degraded = sorted(clip for clip in seen if clip[1])
    assert degraded == sorted(clip for clip in there if clip[1])
    for batch in epoch:
        parts = np.split(np.stack([batch.song, batch.clip]), batches.PARTS[kind], axis=1)
        anchor, original = parts[:2] if kind == "triplets" else parts[::-1]
        assert anchor[1].all() and not original[1].any()
        assert np.array_equal(anchor[0], original[0])
        assert len(set(anchor[0])) == len(anchor[0])
        if kind == "triplets":
            assert not parts[2][1].any() and (parts[2][0] != anchor[0]).all()


def test_negatives_of_triplets_are_any_other_song():
    length = np.full((5, 2), 59)
    pairs = {
        (a, n)
        for seed in range(40)
        for b in batches.epoch(np.random.default_rng(seed), length, 15, "triplets", 10)
        for a, n in zip(b.song[:5], b.song[10:])
    }
    assert pairs == {(a, n) for a in range(5) for n in range(5) if a != n}


def test_what_a_loss_is_told_of_its_rows():
    batch = batches.epoch(np.random.default_rng(0), np.full((4, 3), 59), 12, "classes", 10)[0]
    rows = batch.rows("cpu", np.arange(4))
    assert rows.song.tolist() == batch.song.tolist()
    assert rows.is_original.tolist() == [clip == 0 for clip in batch.clip]
    assert rows.overlap.tolist() == batch.crop.overlap.tolist()


def test_an_epoch_follows_from_its_seed():
    length = np.full((20, 3), 59)
    one, same, other = (
        [
            b.crop.start.tolist()
            for b in batches.epoch(np.random.default_rng(seed), length, 16, "classes", 10)
        ]
        for seed in (0, 0, 1)
    )
    assert one == same != other
