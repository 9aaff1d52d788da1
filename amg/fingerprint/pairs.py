"""Training pairs of the fingerprinter (NAFP, arXiv 2010.11910, sec. 3).

A batch holds N/2 windows of music as it is (*anchors*) and N/2 degraded *replicas* of them, each
shifted by up to 0.3 s, every other one up to 3 % faster or slower, too. Several windows of a batch
come from the same few seconds of one track: they are each other's hardest negatives, and the ones
that an exact answer must tell apart. Half of all places of a batch belong to one source, a package
or a composer, whose tracks are alike. Batch `i` follows from (seed, i) alone.
"""

from dataclasses import replace

import numpy as np
import soxr
import torch

from amg.sound import degrade
from amg.sound.audio import SAMPLE_RATE, WINDOW

MAX_SHIFT = int(0.3 * SAMPLE_RATE)  # a query may start half a hop, 0.25 s, beside a stored frame
LEAD = SAMPLE_RATE // 2  # samples before a window whose echoes reach into it
TEMPO = 0.03  # share by which a replica may be faster or slower than its anchor
MARGIN = LEAD + MAX_SHIFT + int(TEMPO * (LEAD + WINDOW)) + 1  # that replicas take beside anchors
SPREAD = 8 * SAMPLE_RATE  # windows of one visit to a track lie within these samples
SPEED_OCTAVES = 0.35  # tracks are played up to so much slower or faster: more music than there is
SNR_DB = (-4.0, 10.0)  # of a window; a clip of 0 dB has seconds that are quieter than the rest
# kind of degradation -> share of replicas that go through it
TRAINED = dict.fromkeys(degrade.FIELD, 0.9)
TRAINED |= {"speaker": 0.4, "clipping": 0.1, "codec": 0.03, "dynamics": 0.2}
QUIET = 1e-3 * 32768  # RMS under which a window holds nothing to recognise


class Pairs(torch.utils.data.Dataset):
    """Item i is batch i: (anchors, replicas), each float32 (pairs, 8000)."""

    def __init__(self, tracks, sources, pool, config):
        self.tracks, self.pool, self.config = tracks, pool, config
        self.sources = np.array(sources)
        lengths = np.array([len(track) for track in tracks], float)
        self.share = lengths / lengths.sum()

    def __getitem__(self, step):
        rng = np.random.default_rng([self.config.seed, step])
        n_visits = -(-self.config.pairs // self.config.per_visit)
        visits = rng.choice(len(self.tracks), n_visits, p=self.share)
        alike = self.share * (self.sources == self.sources[visits[0]])
        visits[::2] = rng.choice(len(self.tracks), len(visits[::2]), p=alike / alike.sum())
        pairs = [pair for visit in visits for pair in self._visit(rng, self.tracks[visit])]
        return tuple(torch.from_numpy(np.stack(side)) for side in zip(*pairs[: self.config.pairs]))

    def _visit(self, rng, track):
        """`per_visit` pairs from a random place of a track, played at a speed of its own."""
        n, least = self.config.per_visit, WINDOW + 2 * MARGIN
        speed = min(2 ** rng.uniform(-SPEED_OCTAVES, SPEED_OCTAVES), len(track) / (least + 1))
        length = min(len(track), int(speed * (least + 1 + (SPREAD if n > 1 else 0))))
        for _ in range(8):  # a silent place is left, a silent track is heard as it is
            first = rng.integers(len(track) - length + 1)
            place = track[first : first + length].astype(np.float32)
            if np.square(place).mean() > QUIET**2:
                break
        sound = soxr.resample(place / 32768, speed * SAMPLE_RATE, SAMPLE_RATE, "LQ")
        # not evenly: bars of equal length would make negatives of equal sound
        starts = (np.arange(n) + rng.uniform(0, 0.5, n)) * (len(sound) - least) / n
        return [self._pair(rng, sound, MARGIN + int(start)) for start in starts]

    def _pair(self, rng, sound, start):
        anchor = sound[start : start + WINDOW]
        start += rng.integers(-MAX_SHIFT, MAX_SHIFT + 1)
        kinds = [kind for kind, share in TRAINED.items() if rng.random() < share]
        settings = degrade.draw(rng, self.pool, kinds)
        settings = replace(settings, snr_db=float(rng.uniform(*SNR_DB)))
        tempo = 1 + rng.uniform(-TEMPO, TEMPO) * rng.integers(2)
        heard = degrade.apply(_excerpt(sound, start, tempo), settings, self.pool)
        return anchor, heard[LEAD:]


def _excerpt(sound, start, tempo):
    """LEAD samples and a window, whose middle is that of the window at `start`, so much faster."""
    middle, before = start + WINDOW // 2, round(tempo * (LEAD + WINDOW // 2))
    part = sound[middle - before : middle + round(tempo * WINDOW / 2) + 1]
    return soxr.resample(part, tempo * SAMPLE_RATE, SAMPLE_RATE, "LQ")[: LEAD + WINDOW]


def cut_out(spectrograms, generator) -> torch.Tensor:
    """Blank one random rectangle (up to half of each side) of spectrograms (B, 1, F, T), in place.

    generator: a torch.Generator of the CPU, whatever the device.
    """
    batch, _, n_freq, n_time = spectrograms.shape
    rows = _random_span(batch, n_freq, generator)[:, None, :, None]
    columns = _random_span(batch, n_time, generator)[:, None, None, :]
    return spectrograms.masked_fill_((rows & columns).to(spectrograms.device), -1.0)


def _random_span(batch, n, generator):
    """True on one random run of up to half of `n` places; bool (batch, n)."""
    size = torch.rand(batch, 1, generator=generator) * n / 2
    start = torch.rand(batch, 1, generator=generator) * (n - size)
    at = torch.arange(n)
    return (at >= start) & (at < start + size)
