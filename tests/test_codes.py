"""Codes in place of frames, against the frames that they decode to."""

import numpy as np
import pytest
from conftest import unit_rows

from amg.check import InputError
from amg.retrieval import codes, databases, search


@pytest.fixture(scope="module")
def frames():
    return unit_rows(np.random.default_rng(0), 600, 128)


@pytest.mark.parametrize(("name", "n_bytes", "lost"), [("SQ8", 128, 1e-3), ("PQ64x4", 32, 0.2)])
def test_codes_decode_to_unit_vectors_near_the_frames(frames, name, n_bytes, lost):
    kept = codes.Codes.of(name, frames, frames)
    assert len(kept) == 600 and kept.nbytes == 600 * n_bytes
    decoded = kept[:]
    np.testing.assert_allclose(np.linalg.norm(decoded, axis=1), 1, atol=1e-5)
    assert 1 - (decoded * frames).sum(1).mean() < lost
    rows = np.array([[5, 2], [599, 5]])
    assert np.array_equal(kept[rows], decoded[rows])


def test_searches_of_codes_are_those_of_what_they_decode_to(frames, tmp_path):
    made = codes.Codes.of("SQ4", frames, frames)
    np.save(tmp_path / "codes.npy", made.packed)
    kept = codes.Codes(made.codec, np.load(tmp_path / "codes.npy", mmap_mode="r"))
    bounds = np.array([0, 100, 350, 600])
    of_codes, decoded = (search.Sequences(of, bounds) for of in (kept, kept[:]))
    segments = search.Segments.of(decoded, 9)
    queries = unit_rows(np.random.default_rng(1), 4, 9, 128)
    listed = np.random.default_rng(2).integers(0, len(segments.start), (4, 20))
    neighbours = np.random.default_rng(3).integers(0, 600, (4, 9, 5))
    for find, candidates in ((search.two_stage, listed), (search.sequence_search, neighbours)):
        every = (segments,) if find is search.two_stage else ()
        found, wanted = (find(queries, candidates.copy(), *every, of) for of in (of_codes, decoded))
        assert np.array_equal(found[0], wanted[0])
        np.testing.assert_allclose(found[1], wanted[1], atol=1e-6)


def test_an_index_of_codes_finds_the_nearest_of_what_they_decode_to(frames):
    kept = codes.Codes.of("SQ4", frames, frames)
    index = kept.index()
    assert index.ntotal == 600 and kept.codec.ntotal == 0
    found = index.search(frames[:50], 1)[1][:, 0]
    raw = kept.codec.sa_decode(kept.packed)
    assert found.tolist() == ((frames[:50, None] - raw) ** 2).sum(2).argmin(1).tolist()


def test_a_database_of_codes_has_those_of_its_frames(frames):
    songs = [*frames.reshape(10, 60, 128)]
    database = databases.Database.of(songs, first_test=8)
    coded = database.coded("PQ64x4", database.distractors)
    kept, wanted = coded.sequences.frames, codes.Codes.of("PQ64x4", frames, frames[:480])
    assert np.array_equal(kept.packed, wanted.packed)
    assert np.array_equal(coded.decoded().sequences.frames, kept[:])


@pytest.mark.parametrize("name", ["nothing", "HNSW32", "", 1])
def test_what_is_no_code_is_refused(frames, name):
    with pytest.raises(InputError, match="^code is .* must be a code of FAISS"):
        codes.Codes.of(name, frames, frames)
    with pytest.raises(InputError, match="^100 frames are too few to train the code PQ32x8"):
        codes.Codes.of("PQ32x8", frames, frames[:100])
