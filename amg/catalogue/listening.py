"""From sound to fingerprints, in a catalogue and in what is asked of it, and what of it is silent.

A fingerprint does not know how loud its sound was: what is silent would be told by its noise.
"""

import numpy as np

from amg.check import InputError
from amg.sound import audio

LEVEL_S = 0.25  # of sound, whose level is measured
SILENT_DB = -90.0  # of full scale: the noise of 16 bits lies below, and what codecs make of silence
BELOW_LOUDEST_DB = 60.0  # from there down on, a part of a query is silent


def listen(name, blocks, fingerprinter, hop=audio.HOP) -> tuple[np.ndarray, np.ndarray]:
    """Fingerprints float32 (T, 128) of blocks of sound, and the level of each LEVEL_S of it, float
    (n,) in dB of full scale; InputError if it is shorter than a frame, or silent."""
    size, powers, rest = round(LEVEL_S * audio.SAMPLE_RATE), [], np.zeros(0)

    def measured():
        nonlocal rest
        for block in blocks:
            rest = np.concatenate([rest, np.square(block, dtype=float)])
            whole = len(rest) - len(rest) % size
            powers.extend(rest[:whole].reshape(-1, size).mean(axis=1))
            rest = rest[whole:]
            yield block
        n_samples = len(powers) * size + len(rest)
        if n_samples < audio.WINDOW:
            raise InputError(
                f"{name} holds {n_samples / audio.SAMPLE_RATE:.2f} s of sound, but a "
                "fingerprint needs 1 s."
            )

    frames = next(fingerprinter.load().extract([measured()], hop))
    level = 10 * np.log10(np.maximum(powers, 1e-30))
    if level.max() < SILENT_DB:
        raise InputError(
            f"{name} holds nothing but silence (below {SILENT_DB:g} dB), or channels that cancel "
            "each other."
        )
    return frames, level


def sounding(level) -> np.ndarray:
    """Which frames of 1 s, one each LEVEL_S, hold no silence: bool (n - 3,), of levels (n,)."""
    loud = level > max(SILENT_DB, level.max() - BELOW_LOUDEST_DB)
    return np.lib.stride_tricks.sliding_window_view(loud, round(1 / LEVEL_S)).min(axis=1)
