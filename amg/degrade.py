"""Degradations: what a room, a crowd and a telephone do to music.

Each version of a clip is made in two steps: `draw` picks the settings from a random
generator, `apply` is a pure function of (audio, settings, pool). A version is therefore
reproduced from its seed alone. Training and test draw from pools that share no recording,
no room and no microphone.
"""

from dataclasses import dataclass

import numpy as np
import scipy.signal

from amg.audio import SAMPLE_RATE

SNR_DB = (0.0, 10.0)
GAIN_DB = (-12.0, 0.0)
T60_S = (0.1, 0.6)
N_ROOMS, N_MICROPHONES, N_COLOURED = 48, 32, 24


@dataclass(frozen=True)
class Pool:
    """What one side (training or test) draws its degradations from."""

    noises: np.ndarray  # float32 (n_noises, n_samples), unit RMS
    rooms: list  # float32 (n_taps,), direct sound at sample 0
    microphones: list  # float32 (n_taps,), linear phase


@dataclass(frozen=True)
class Degradation:
    """Settings of one degraded version."""

    noise: int  # which recording of the pool
    noise_offset: float  # where it starts, as a share of its length
    snr_db: float
    room: int
    microphone: int
    gain_db: float


def draw(rng, pool):
    """Draw the settings of one version from a `numpy.random.Generator`."""
    return Degradation(
        noise=int(rng.integers(len(pool.noises))),
        noise_offset=float(rng.random()),
        snr_db=float(rng.uniform(*SNR_DB)),
        room=int(rng.integers(len(pool.rooms))),
        microphone=int(rng.integers(len(pool.microphones))),
        gain_db=float(rng.uniform(*GAIN_DB)),
    )


def apply(audio, settings, pool):
    """Music in a room, plus noise, through a microphone, at a level.

    `audio` float32 (n_samples,) -> float32 of the same length, aligned in time with the
    input, peak at most 1. The SNR is that of room sound over noise, both over the whole clip.
    """
    music = _convolve(audio, pool.rooms[settings.room])
    noise = _excerpt(pool.noises[settings.noise], settings.noise_offset, len(audio))
    music_rms = np.sqrt(np.mean(np.square(music))) + 1e-9
    noise_rms = np.sqrt(np.mean(np.square(noise))) + 1e-9
    noisy = music + noise * (music_rms / noise_rms * 10 ** (-settings.snr_db / 20))
    taps = pool.microphones[settings.microphone]
    recorded = _convolve(noisy, taps, delay=len(taps) // 2)
    recorded *= 10 ** (settings.gain_db / 20) / max(1.0, np.abs(recorded).max())
    return recorded.astype(np.float32)


def degrade(audio, seed, pool):
    """One degraded version of `audio`; `seed` is anything `numpy.random.default_rng` takes."""
    return apply(audio, draw(np.random.default_rng(seed), pool), pool)


def make_pool(rng, music):
    """Build a pool: coloured noise and music babble, shoebox rooms, microphone responses.

    `music` is a list of float32 clips reserved for this pool; each babble mixes four of them, cut
    to the shortest.
    """
    n_samples = min(map(len, music))
    noises = [coloured_noise(rng, n_samples) for _ in range(N_COLOURED)]
    noises += [_babble(rng, [clip[:n_samples] for clip in music]) for _ in music]
    return Pool(np.stack(noises),
                [room_response(rng) for _ in range(N_ROOMS)],
                [microphone_response(rng) for _ in range(N_MICROPHONES)])


def coloured_noise(rng, n_samples):
    """Noise of a random spectral slope (0 to -6 dB/octave) whose level wanders by a few dB."""
    spectrum = np.fft.rfft(rng.standard_normal(n_samples))
    frequency = np.fft.rfftfreq(n_samples, 1 / SAMPLE_RATE)
    spectrum *= np.maximum(frequency, 50.0) ** -rng.uniform(0, 1)
    steps = np.cumsum(rng.normal(0, 1.5, n_samples // SAMPLE_RATE + 2))
    level_db = np.interp(np.arange(n_samples) / SAMPLE_RATE, np.arange(len(steps)), steps)
    return _unit_rms(np.fft.irfft(spectrum, n_samples) * 10 ** (np.clip(level_db, -8, 8) / 20))


def room_response(rng):
    """Image-source response of a random shoebox room, T60 from 0.1 to 0.6 s."""
    import pyroomacoustics as pra  # slow to import, and only pools need it

    while True:
        size = rng.uniform([3.0, 3.0, 2.3], [9.0, 7.0, 3.5])
        t60_s = rng.uniform(*T60_S)
        source, microphone = rng.uniform(0.1, 0.9, (2, 3)) * size
        try:
            absorption, order = pra.inverse_sabine(t60_s, size)
        except ValueError:  # so large a room cannot be so dry: draw again
            continue
        room = pra.ShoeBox(size, fs=SAMPLE_RATE, materials=pra.Material(absorption),
                           max_order=order)
        room.add_source(source)
        room.add_microphone(microphone)
        room.compute_rir()
        response = room.rir[0][0]
        direct = int(np.abs(response).argmax())  # the delay of the direct sound is not wanted
        return (response[direct:] / np.abs(response[direct])).astype(np.float32)


def microphone_response(rng, n_taps=129):
    """Band-pass with a few dB of ripple, as a telephone's microphone; unit gain on average."""
    low, high = rng.uniform(80, 300), rng.uniform(2800, 3800)
    points = np.geomspace(low, high, 6)
    ripple_db = rng.uniform(-6, 6, 6)
    frequency = np.concatenate([[0, low / 2], points, [SAMPLE_RATE / 2]])
    gain = np.concatenate([[0, 0.1], 10 ** (ripple_db / 20), [0.05]])
    taps = scipy.signal.firwin2(n_taps, frequency, gain, fs=SAMPLE_RATE)
    return (taps / np.sqrt(np.sum(taps**2))).astype(np.float32)


def _babble(rng, music):
    """Four clips at once, each shifted at random."""
    chosen = rng.choice(len(music), size=min(4, len(music)), replace=False)
    mix = sum(np.roll(_unit_rms(music[i]), rng.integers(len(music[i]))) for i in chosen)
    return _unit_rms(mix)


def _excerpt(noise, offset, n_samples):
    """`n_samples` of `noise` from the share `offset` of its length on, going round its end."""
    start = int(offset * len(noise))
    return np.take(noise, np.arange(start, start + n_samples), mode="wrap")


def _convolve(audio, taps, delay=0):
    """Filter and drop `delay` samples, so that output and input stay aligned."""
    return scipy.signal.oaconvolve(audio, taps)[delay : delay + len(audio)]


def _unit_rms(audio):
    return (audio / (np.sqrt(np.mean(np.square(audio))) + 1e-9)).astype(np.float32)
