"""From a sound file to log-mel spectrograms of 1 s windows (NAFP, arXiv 2010.11910, sec. 3).

Conventions: audio is mono float32 in [-1, 1] at 8 kHz, shape (n_samples,). A *frame* is one
1 s window; frames start every 0.5 s, so `seconds` of audio have `2 * seconds - 1` frames.
"""

import itertools
import operator
from collections.abc import Iterator

import numpy as np
import soxr
import torch

from amg.check import InputError
from amg.sound import decoding, libsndfile

SAMPLE_RATE = 8000
WINDOW = 8000  # samples in a frame: 1 s
HOP = 4000  # samples between frames: 0.5 s
N_FFT, STFT_HOP, N_COLUMNS = 1024, 256, 32
F_MIN, F_MAX = 300.0, 4000.0  # Hz
RANGE_DB = 80.0  # dynamic range of the spectrogram
RATES = 1000, 1_000_000  # Hz, of files
LOUDEST = 10**10  # of samples, 1 is full scale: integers that were written as floats reach less
SAME = 0.9  # likeness of two undegraded sounds from which on they sound the same


def blocks(path) -> Iterator[np.ndarray]:
    """Decode a file (`decoding`): 8 kHz mono float32 in consecutive arrays of about 30 s, whatever
    the recording's length. Raises InputError if it cannot be decoded."""
    try:
        for rate, decoded in itertools.groupby(decoding.decode(path), operator.itemgetter(0)):
            if not RATES[0] <= rate <= RATES[1]:  # no sound has it, and no memory holds
                raise InputError(
                    f"{path} claims {rate:,} samples per second, but must have {RATES[0]:,} to "
                    f"{RATES[1]:,}; its header is damaged."
                )
            yield from resampled((_mono(block, path) for _, block in decoded), rate)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from None


def _mono(block, path):
    """Samples (n, channels) of a file -> (n,)."""
    if not np.isfinite(block).all():
        raise InputError(f"{path} holds samples that are no numbers; export it again.")
    if np.abs(block).max(initial=0) > LOUDEST:
        raise InputError(
            f"{path} holds samples beyond {LOUDEST:,}, where full scale is 1; export it again."
        )
    return block.mean(axis=1)


def full_scale(path) -> float:
    """What counts as 1 in a file that `blocks` decodes: of floats the peak, where that is more,
    since integers may have been written as floats."""
    if not libsndfile.holds_floats(path):
        return 1.0
    peaks = [float(np.abs(block).max(initial=0)) for block in blocks(path)]
    return max([1.0, *peaks])


def resampled(blocks, rate) -> Iterator[np.ndarray]:
    """Consecutive blocks of `rate` samples per second -> the same sound in blocks at 8 kHz."""
    resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, "float32")
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def n_frames(seconds) -> int:
    """Frames in `seconds` of audio (a whole number of half seconds, at least 1 s)."""
    return int(2 * seconds) - 1


def seconds(frames) -> float:
    """Duration in seconds that `frames` consecutive frames span."""
    return (frames + 1) / 2


def frame(audio, hop=HOP) -> np.ndarray:
    """Audio (n_samples,) -> overlapping 1 s windows (T, 8000), without copying.

    `frame(x)[t, i] == x[hop * t + i]`. Raises InputError for less than 1 s.
    """
    if audio.ndim != 1 or len(audio) < WINDOW:
        raise InputError(
            f"audio has shape {audio.shape}, but must be (n_samples,) "
            f"with at least {WINDOW} samples (1 s)."
        )
    return np.lib.stride_tricks.sliding_window_view(audio, WINDOW)[::hop]


def frames(blocks, hop=HOP) -> Iterator[np.ndarray]:
    """The same of a recording that comes in consecutive blocks, in consecutive arrays (t, 8000)."""
    rest, n_frames = np.zeros(0, np.float32), 0
    for block in blocks:
        rest = np.concatenate([rest, block])
        if len(rest) >= WINDOW:
            windows = frame(rest, hop)
            yield windows
            n_frames += len(windows)
            rest = rest[len(windows) * hop :]
    if not n_frames:
        frame(rest)


def likeness(sound, place) -> float:
    """Highest correlation of `sound` (n,) with any n consecutive samples of `place` (m >= n,).

    From 0 to 1, whatever the level and polarity: 1 is the same waveform.
    """
    import scipy.fft  # here, since it takes as long as all else and identifying needs none

    size = scipy.fft.next_fast_len(len(place), real=True)  # what wraps around is not looked at
    spectrum = scipy.fft.rfft(place, size) * scipy.fft.rfft(sound, size).conj()
    products = scipy.fft.irfft(spectrum, size)[: len(place) - len(sound) + 1]
    energy = np.cumsum(np.concatenate([[0.0], np.square(place, dtype=float)]))
    energy = np.maximum(energy[len(sound) :] - energy[: -len(sound)], 1e-9)
    return float(np.max(np.abs(products) / np.sqrt(energy * (np.square(sound).sum() + 1e-9))))


def mel_frequencies(n_mels) -> np.ndarray:
    """Edges and centres of `n_mels` filters in Hz, equally spaced in mel; (n_mels + 2,)."""
    # Slaney's scale: linear up to 1 kHz, which is 15 mel, and logarithmic above
    highest = 15 + np.log(F_MAX / 1000) * 27 / np.log(6.4)
    mel = np.linspace(F_MIN * 3 / 200, highest, n_mels + 2)
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))


def mel_filters(n_mels) -> np.ndarray:
    """Triangular filters of unit area over the bins of the FFT; float32 (n_mels, 513)."""
    edges = mel_frequencies(n_mels)
    bins = np.fft.rfftfreq(N_FFT, 1 / SAMPLE_RATE)
    rise = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    triangles = np.maximum(0, np.minimum(rise, fall))
    return (triangles * 2 / (edges[2:] - edges[:-2])[:, None]).astype(np.float32)


class LogMel(torch.nn.Module):
    """1 s windows (B, 8000) -> log-mel spectrograms (B, 1, n_mels, 32) in [-1, 1].

    1 is the window's own maximum, -1 is RANGE_DB or more below it; silence is 1 everywhere.
    """

    def __init__(self, n_mels):
        super().__init__()
        self.register_buffer("filters", torch.from_numpy(mel_filters(n_mels)), persistent=False)
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)

    def forward(self, windows) -> torch.Tensor:
        spectrum = torch.stft(  # (B, 513, 32), windows are centred
            windows, N_FFT, STFT_HOP, window=self.window, pad_mode="constant", return_complex=True
        )
        power = spectrum.real.square() + spectrum.imag.square()
        decibel = 10 * torch.log10((self.filters @ power).clamp_min(1e-10))
        below_peak = decibel - decibel.amax(dim=(1, 2), keepdim=True)
        return (1 + below_peak.clamp_min(-RANGE_DB) / (RANGE_DB / 2)).unsqueeze(1)
