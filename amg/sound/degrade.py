"""Degradations: what loudspeakers, rooms, crowds and telephones do to music.

`draw` picks the settings of a version from a random generator, `apply` is a pure function of
(audio, settings, pool), so that a version follows from its seed. The order is that of the world:
music, loudspeaker, room, plus noise, microphone, automatic gain, overload, codec, and a recording
that starts a little early or late: cut from a longer excerpt of the music, so that no silence is
put in.
"""

import io
from dataclasses import dataclass, replace

import numpy as np
import soundfile
from scipy.signal import lfilter, oaconvolve

from amg.check import InputError
from amg.sound.audio import SAMPLE_RATE

KINDS = ("noise", "room", "microphone", "speaker", "clipping", "codec", "offset", "dynamics")
FIELD = ("noise", "room", "microphone")  # what a query goes through unless said otherwise
SNR_DB = (0.0, 10.0)
GAIN_DB = (-12.0, 0.0)
RATIO = (1.5, 4.0)  # of an automatic gain: so many dB of a change become one
LEVEL_S = 0.02  # within which it follows
OVERLOAD_DB = (3.0, 12.0)  # how far the peak exceeds full scale
CODECS = {  # 13 kbit/s telephone, about 6 kbit/s streaming
    "gsm": {"format": "WAV", "subtype": "GSM610"},
    "opus": {"format": "OGG", "subtype": "OPUS", "compression_level": 1.0},
}
MAX_OFFSET_S = 0.25  # half a hop: the nearest frame stays the same


@dataclass(frozen=True)
class Degradation:
    """Settings of one degraded version; numbers are rows of a pool, None leaves that step out."""

    noise: int | None
    noise_offset: float  # where it starts, as a share of its length
    snr_db: float
    room: int | None
    microphone: int | None
    speaker: int | None
    overload_db: float | None
    codec: str | None
    offset_s: float | None  # > 0: the recording starts late
    gain_db: float
    ratio: float | None


def draw(rng, pool, kinds=FIELD) -> Degradation:
    """Draw the settings of one version that goes through some of KINDS.

    rng: a `numpy.random.Generator`. The other kinds are drawn all the same and then dropped, so
    that versions of equal seed and different kinds share what they have in common.
    """
    of_kind = np.flatnonzero(pool.kinds == rng.choice(np.unique(pool.kinds)))
    settings = {
        "noise": int(rng.choice(of_kind)),
        "noise_offset": float(rng.random()),
        "snr_db": float(rng.uniform(*SNR_DB)),
        "room": int(rng.integers(len(pool.rooms))),
        "microphone": int(rng.integers(len(pool.microphones))),
        "speaker": int(rng.integers(len(pool.speakers))),
        "overload_db": float(rng.uniform(*OVERLOAD_DB)),
        "codec": str(rng.choice(list(CODECS))),
        "offset_s": float(rng.uniform(-MAX_OFFSET_S, MAX_OFFSET_S)),
        "gain_db": float(rng.uniform(*GAIN_DB)),
        "ratio": float(rng.uniform(*RATIO)),
    }
    fields = {"clipping": "overload_db", "offset": "offset_s", "dynamics": "ratio"}
    dropped = {fields.get(kind, kind): None for kind in KINDS if kind not in kinds}
    return Degradation(**settings | dropped)


def apply(audio, settings, pool, margin_s=0.0) -> np.ndarray:
    """One degraded version of a clip: float32, as long as the clip, peak at most 1.

    audio: the clip, float32 (n_samples,), with `margin_s` seconds of its recording before and after
    it. The version is aligned with the clip but for `offset_s`. The SNR is that of room sound over
    noise, over the whole excerpt. Raises InputError for an offset that is longer than the margin.
    """
    margin = round(margin_s * SAMPLE_RATE)
    first = margin + round((settings.offset_s or 0.0) * SAMPLE_RATE)
    if not 0 <= first <= 2 * margin:
        raise InputError(
            f"offset_s is {settings.offset_s}, but must be at most the {margin_s:g} s of sound "
            "before and after the clip."
        )
    sound = audio
    if settings.speaker is not None:  # without the delay of linear phase, as a microphone
        sound = oaconvolve(sound, pool.speakers[settings.speaker], mode="same")
    if settings.room is not None:
        taps = np.trim_zeros(pool.rooms[settings.room], "b")
        sound = oaconvolve(sound, taps)[: len(audio)]
    if settings.noise is not None:
        noise = pool.noises[settings.noise]
        rows = int(settings.noise_offset * len(noise)) + np.arange(len(audio))
        noise = noise.take(rows, mode="wrap").astype(np.float32)  # it goes round its end
        sound = sound + noise * (_rms(sound) / _rms(noise) * 10 ** (-settings.snr_db / 20))
    if settings.microphone is not None:
        sound = oaconvolve(sound, pool.microphones[settings.microphone], mode="same")
    if settings.ratio is not None:
        sound = levelled(sound, settings.ratio)
    if settings.overload_db is not None:
        sound = np.clip(sound * (10 ** (settings.overload_db / 20) / _peak(sound)), -1, 1)
    sound = sound * (10 ** (settings.gain_db / 20) / max(1.0, _peak(sound)))
    if settings.codec is not None:
        sound = through_codec(sound, CODECS[settings.codec])
    return sound[first : first + len(audio) - 2 * margin].astype(np.float32)


def degrade(read, seed, pool, kinds=FIELD, **fixed) -> np.ndarray:
    """One degraded version of a clip; `seed` is anything `numpy.random.default_rng` takes.

    read: margin in seconds -> samples, as `Clip.read`; fixed: settings that are given, not drawn,
    as snr_db=5.0.
    """
    settings = replace(draw(np.random.default_rng(seed), pool, kinds), **fixed)
    margin_s = 0.0 if settings.offset_s is None else MAX_OFFSET_S
    return apply(read(margin_s), settings, pool, margin_s)


def levelled(audio, ratio) -> np.ndarray:
    """Automatic gain: what is louder or quieter than usual becomes less so by `ratio`, in dB."""
    usual, step = _rms(audio), 1 - np.exp(-1 / (LEVEL_S * SAMPLE_RATE))
    power, _ = lfilter([step], [1, step - 1], np.square(audio), zi=[(1 - step) * usual**2])
    return audio * (np.sqrt(power) / usual + 0.05) ** (1 / ratio - 1)


def through_codec(audio, codec) -> np.ndarray:
    """Encoded and decoded again, float32 as long; codec: settings of `soundfile.write`."""
    buffer = io.BytesIO()
    soundfile.write(buffer, audio, SAMPLE_RATE, **codec)
    buffer.seek(0)
    decoded = soundfile.read(buffer, dtype="float32")[0][: len(audio)]
    return np.pad(decoded, (0, len(audio) - len(decoded)))


def _rms(audio):
    return np.sqrt(np.mean(np.square(audio))) + 1e-9


def _peak(audio):
    return np.abs(audio).max() + 1e-9
