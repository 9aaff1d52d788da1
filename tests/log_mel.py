"""librosa's answer for `test_audio.py`, in `log_mel.npz`: `pip install librosa==0.11.0`, then
`python tests/log_mel.py`. It is not among the pins: one test needs it, and it brings 260 MB.
"""

from pathlib import Path

import numpy as np

FILE = Path(__file__).with_suffix(".npz")
SIZES = (128, 256)  # mel bands: of the lite network and of the published one


def window() -> np.ndarray:
    """One second at 8 kHz, a chirp in noise."""
    t = np.arange(8000) / 8000
    noise = 0.01 * np.random.default_rng(0).standard_normal(8000)
    return (0.3 * np.sin(2 * np.pi * (300 + 1500 * t) * t) + noise).astype(np.float32)


def main():
    import librosa

    found = {}
    for n_mels in SIZES:
        mel = {"sr": 8000, "n_fft": 1024, "n_mels": n_mels, "fmin": 300, "fmax": 4000}
        power = librosa.feature.melspectrogram(
            y=window(), hop_length=256, center=True, pad_mode="constant", **mel
        )
        found[f"filters_{n_mels}"] = librosa.filters.mel(**mel)
        found[f"decibel_{n_mels}"] = librosa.power_to_db(power, ref=np.max, top_db=80)
    np.savez_compressed(FILE, **found)


if __name__ == "__main__":
    main()
