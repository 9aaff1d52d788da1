"""Pools of noises, rooms, loudspeakers and microphones that degradations draw from.

A pool follows from a seed and from the sounds reserved for its side. No two sides share a sound, a
room or a device. Making one takes minutes, so that a finished pool is kept in `data/cache/`.
"""

import hashlib
import itertools
import operator
from dataclasses import dataclass

import numpy as np
import scipy.signal

from amg import code, files, paths, progress
from amg.sound.audio import SAMPLE_RATE

SIDES = {"train": 0, "test": 1, "valid": 2}  # part of the seed: no two pools coincide
T60_S = (0.1, 1.0)
DIRECT_DB = (-6.0, 10.0)  # energy of the direct sound over that of all echoes
DISTANCE_M = (0.3, 3.0)  # from the loudspeaker to the microphone
NOISE_S = 30
N_SAMPLES = NOISE_S * SAMPLE_RATE  # of a noise
N_NOISES = {"train": 120, "test": 40, "valid": 40}  # of each kind; a network learns few by heart
N_DEVICES = 64  # microphones, and loudspeakers
# where their band begins and ends, in Hz, and its ripple in dB
MICROPHONE = (80, 300), (2800, 3800), 5  # as a telephone's
SPEAKER = (200, 600), (3000, 3900), 7  # of a few centimetres: no bass, resonances in the middle


@dataclass(frozen=True)
class Pool:
    """What one side (training or test) draws its degradations from."""

    noises: np.ndarray  # float16 (n_noises, n_samples), unit RMS
    kinds: np.ndarray  # str (n_noises,): coloured, music, or the name of a group of sounds
    rooms: np.ndarray  # float32 (n_rooms, n_taps), direct sound at sample 0, zeros at the end
    microphones: np.ndarray  # float32 (N_DEVICES, n_taps), linear phase
    speakers: np.ndarray  # float32 (N_DEVICES, n_taps), linear phase
    sounds: np.ndarray  # str (n_sounds,): digests of the reserved sounds that it is made from
    digest: str = ""  # of all that the pool follows from, but for the code


def make(side, sounds, n_rooms, seed, workers=2) -> Pool:
    """Build the pool of one side (a key of SIDES), or read it from the cache.

    sounds: name -> list of float32 sounds reserved for this side; those named music become a
    `babble`, others (speech, machines) a `scene`.
    """
    heard = {
        name: [hashlib.sha256(np.ascontiguousarray(sound)).hexdigest()[:16] for sound in group]
        for name, group in sounds.items()
    }
    seed, n_noises = [seed, SIDES[side]], N_NOISES[side]
    digest = files.digest([seed, n_rooms, n_noises, N_DEVICES, NOISE_S, heard])
    file = paths.resolve(f"data/cache/pool-{digest}-{code.digest(__name__)}.npz")
    if not file.exists():
        rng, simulators = np.random.default_rng(seed), SIMULATORS[: 2 if side == "train" else 1]
        pool = _make(rng, sounds, n_noises, n_rooms, simulators, workers)
        with files.atomic(file) as temporary:
            np.savez(temporary, **pool, sounds=[name for group in heard.values() for name in group])
    with np.load(file, allow_pickle=False) as arrays:
        return Pool(**arrays, digest=digest)


def _make(rng, sounds, n_noises, n_rooms, simulators, workers):
    """The arrays of a pool, by name; rooms come from the simulators by turns."""
    noises = [coloured_noise(rng) for _ in range(n_noises)]
    for name, clips in sounds.items():
        noises += [(babble if name == "music" else scene)(rng, clips) for _ in range(n_noises)]
    jobs = [*zip(itertools.cycle(simulators), rng.spawn(n_rooms))]
    rooms = [*progress.parallel(operator.call, jobs, workers, desc="simulating rooms", unit="room")]
    n_taps = max(map(len, rooms))
    return {
        "noises": np.stack(noises).astype(np.float16),
        "kinds": np.repeat(["coloured", *sounds], n_noises),
        "rooms": np.stack([np.pad(room, (0, n_taps - len(room))) for room in rooms]),
        "microphones": np.stack([device_response(rng, *MICROPHONE) for _ in range(N_DEVICES)]),
        "speakers": np.stack([device_response(rng, *SPEAKER) for _ in range(N_DEVICES)]),
    }


def coloured_noise(rng) -> np.ndarray:
    """Noise of a random spectral slope (0 to -6 dB/octave) whose level wanders by a few dB."""
    spectrum = np.fft.rfft(rng.standard_normal(N_SAMPLES))
    frequency = np.fft.rfftfreq(N_SAMPLES, 1 / SAMPLE_RATE)
    spectrum *= np.maximum(frequency, 50.0) ** -rng.uniform(0, 1)
    steps = np.cumsum(rng.normal(0, 1.5, N_SAMPLES // SAMPLE_RATE + 2))
    level_db = np.interp(np.arange(N_SAMPLES) / SAMPLE_RATE, np.arange(len(steps)), steps)
    return _unit_rms(np.fft.irfft(spectrum, N_SAMPLES) * 10 ** (np.clip(level_db, -8, 8) / 20))


def babble(rng, music) -> np.ndarray:
    """Up to four pieces of music at once, each shifted at random."""
    chosen = rng.choice(len(music), size=min(4, len(music)), replace=False)
    pieces = (np.resize(_unit_rms(music[i]), N_SAMPLES) for i in chosen)
    return _unit_rms(sum(np.roll(piece, rng.integers(N_SAMPLES)) for piece in pieces))


def scene(rng, sounds) -> np.ndarray:
    """One to five voices, each a string of sounds with pauses between: a crowd, a workshop."""
    mix = np.zeros(N_SAMPLES)
    for _ in range(rng.integers(1, 6)):
        at, level = -rng.integers(2 * SAMPLE_RATE), 10 ** (rng.uniform(-10, 0) / 20)
        while at < N_SAMPLES:
            sound = level * _unit_rms(sounds[rng.integers(len(sounds))])
            part = sound[max(0, -at) : max(0, N_SAMPLES - at)]
            mix[max(0, at) :][: len(part)] += part
            at += len(sound) + int(rng.exponential(0.3) * SAMPLE_RATE)
    return _unit_rms(mix + 0.03 * coloured_noise(rng))  # no scene is digital silence


def room_response(rng) -> np.ndarray:
    """Image-source response of a random shoebox room, T60 from 0.1 to 1.0 s."""
    import pyroomacoustics as pra  # slow to import, and only pools need it

    while True:
        t60_s = rng.uniform(*T60_S)
        # a living room is dry, a hall is not
        size = rng.uniform([3.0, 3.0, 2.3], [8.0, 6.0, 3.0]) * (0.8 + 1.2 * t60_s)
        source, microphone = rng.uniform(0.1, 0.9, (2, 3)) * size
        try:
            absorption, order = pra.inverse_sabine(t60_s, size)
        except ValueError:  # so large a room cannot be so dry: draw again
            continue
        if DISTANCE_M[0] <= np.linalg.norm(source - microphone) <= DISTANCE_M[1]:
            break
    room = pra.ShoeBox(size, fs=SAMPLE_RATE, materials=pra.Material(absorption), max_order=order)
    room.add_source(source)
    room.add_microphone(microphone)
    room.compute_rir()
    response = room.rir[0][0]
    direct = int(np.abs(response).argmax())  # the delay of the direct sound is not wanted
    kept = response[direct:][: int(1.2 * t60_s * SAMPLE_RATE)]
    return (kept / np.abs(response[direct])).astype(np.float32)


def diffuse_response(rng) -> np.ndarray:
    """Noise that decays behind the direct sound, higher tones faster, T60 from 0.1 to 1.0 s: the
    echoes of a room that has no walls one could hear out."""
    t60_s, gap_s = rng.uniform(*T60_S), rng.uniform(0.002, 0.02)
    seconds = np.arange(int(1.2 * t60_s * SAMPLE_RATE)) / SAMPLE_RATE
    tail = np.zeros(len(seconds))
    for low, high, share in ((50, 500, 1.1), (500, 1500, 1.0), (1500, 3900, rng.uniform(0.4, 0.9))):
        band = scipy.signal.butter(2, (low, high), "bandpass", fs=SAMPLE_RATE, output="sos")
        noise = scipy.signal.sosfilt(band, rng.standard_normal(len(seconds)))
        tail += noise * 10 ** (-3 * seconds / (t60_s * share))
    tail *= seconds > gap_s
    tail *= 10 ** (-rng.uniform(*DIRECT_DB) / 20) / np.linalg.norm(tail)
    return np.append(1, tail[1:]).astype(np.float32)


SIMULATORS = (room_response, diffuse_response)  # training hears both, else it is the first


def device_response(rng, low_hz, high_hz, ripple_db) -> np.ndarray:
    """Band-pass between frequencies from two ranges, with ripple: a MICROPHONE or a SPEAKER."""
    low, high = rng.uniform(*low_hz), rng.uniform(*high_hz)
    gains_db = rng.uniform(-ripple_db, ripple_db, 6)
    frequency = np.concatenate([[0, low / 2], np.geomspace(low, high, 6), [SAMPLE_RATE / 2]])
    gain = np.concatenate([[0, 0.1], 10 ** (gains_db / 20), [0.05]])
    taps = scipy.signal.firwin2(129, frequency, gain, fs=SAMPLE_RATE)
    return (taps / np.sqrt(np.sum(taps**2))).astype(np.float32)


def _unit_rms(audio):
    return (audio / (np.sqrt(np.mean(np.square(audio))) + 1e-9)).astype(np.float32)
