"""Contrastive training of the fingerprinter (NAFP, arXiv 2010.11910, sec. 2 and 4).

A batch holds N/2 windows as recorded (*anchors*) and N/2 degraded *replicas* of them, each
shifted by up to 0.2 s. NT-Xent pulls every pair together and pushes all other rows away.
Batch `i` follows from (seed, i) alone: training resumes anywhere and gives the same weights.
"""

import hashlib
import json
import math
import time
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch.nn import functional as F

from amg import checkpoint, degrade, nafp, paths, progress
from amg.audio import SAMPLE_RATE, WINDOW

TEMPERATURE = 0.05
MAX_SHIFT = int(0.2 * SAMPLE_RATE)
LEAD = SAMPLE_RATE // 2  # samples before a window whose echoes reach into it


@dataclass(frozen=True)
class Config:
    """Everything that decides the weights, given the clips and the pool."""

    size: str = "lite"  # a key of nafp.CONFIGS
    steps: int = 4000
    pairs: int = 60  # N/2
    peak_lr: float = 1.5e-3
    weight_decay: float = 1e-2
    seed: int = 0


def nt_xent(anchors, replicas, temperature=TEMPERATURE):
    """Normalised-temperature cross-entropy (NAFP, eq. 1) of unit vectors (P, D), (P, D).

    Row i's positive is its pair; the other 2P - 2 rows are its negatives. Returns a scalar.
    """
    rows = torch.cat([anchors, replicas])  # (2P, D)
    similarity = rows @ rows.T / temperature
    similarity.fill_diagonal_(-math.inf)
    pairs = len(anchors)
    target = torch.arange(2 * pairs, device=rows.device).roll(pairs)
    return F.cross_entropy(similarity, target)


class Pairs(torch.utils.data.Dataset):
    """Item i is batch i: (anchors, replicas), each float32 (pairs, 8000)."""

    def __init__(self, clips, pool, config):
        self.clips, self.pool, self.config = clips, pool, config

    def __len__(self):
        return self.config.steps

    def __getitem__(self, step):
        rng = np.random.default_rng([self.config.seed, step])
        pairs = [self._pair(rng) for _ in range(self.config.pairs)]
        return tuple(torch.from_numpy(np.stack(side)) for side in zip(*pairs))

    def _pair(self, rng):
        clip = self.clips[rng.integers(len(self.clips))]
        start = rng.integers(LEAD + MAX_SHIFT, len(clip) - WINDOW - MAX_SHIFT)
        anchor = clip[start : start + WINDOW]
        start += rng.integers(-MAX_SHIFT, MAX_SHIFT + 1)
        heard = clip[start - LEAD : start + WINDOW].astype(np.float32) / 32768
        replica = degrade.apply(heard, degrade.draw(rng, self.pool), self.pool)[LEAD:]
        return anchor.astype(np.float32) / 32768, replica


def cut_out(spectrograms, generator):
    """Blank one random rectangle (up to half of each side) of every spectrogram, in place."""
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


def learning_rate(step, config):
    """Linear rise over the first tenth of the steps, then a cosine to zero."""
    warm_up = max(1, config.steps // 10)
    if step < warm_up:
        return config.peak_lr * (step + 1) / warm_up
    progress = (step - warm_up) / max(1, config.steps - warm_up)
    return config.peak_lr * 0.5 * (1 + math.cos(math.pi * progress))


def fit(config, clips, pool, path, validate, every=250, device="cpu"):
    """Train a fingerprinter; returns (encoder, history).

    clips: list of int16 (n_samples,) at 8 kHz, at least 2 s each. path: checkpoint file,
    continued if it is there. validate: called with the encoder every `every` steps, returns
    a dict of figures for the history (a list of dicts: step, loss, lr, seconds, figures).
    """
    torch.manual_seed(config.seed)
    encoder = nafp.NAFP(nafp.CONFIGS[config.size]).to(device)
    optimiser = torch.optim.AdamW(encoder.parameters(), weight_decay=config.weight_decay)
    made_of = {"config": asdict(config), "data": _digest(clips, pool), "size": config.size}
    done, history = _resume(path, made_of, encoder, optimiser)
    loader = torch.utils.data.DataLoader(
        Pairs(clips, pool, config), batch_size=None, num_workers=1, prefetch_factor=4,
        sampler=range(done, config.steps))
    losses, began = [], time.perf_counter()
    bar = progress.bar(loader, initial=done, total=config.steps, desc="NT-Xent", unit="step")
    for step, (anchors, replicas) in enumerate(bar, done + 1):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step - 1, config)
        losses.append(_step(encoder, optimiser, anchors.to(device), replicas.to(device),
                            torch.Generator().manual_seed(config.seed * 1_000_003 + step)))
        if step % every == 0 or step == config.steps:
            figures = validate(encoder.eval())
            encoder.train()
            history.append({"step": step, "loss": float(np.mean(losses)),
                            "lr": group["lr"], "seconds": time.perf_counter() - began, **figures})
            tensors = checkpoint.prefixed("model", encoder.state_dict())
            tensors |= checkpoint.prefixed("optimiser", checkpoint.optimiser_tensors(optimiser))
            checkpoint.save(path, tensors, {**made_of, "step": step, "history": history})
            losses, began = [], time.perf_counter()
    return encoder.eval(), history


def _step(encoder, optimiser, anchors, replicas, generator):
    """One update; returns the loss."""
    spectrograms = cut_out(encoder.log_mel(torch.cat([anchors, replicas])), generator)
    vectors = encoder.encode(spectrograms)
    loss = nt_xent(*vectors.chunk(2))
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return loss.item()


def _digest(clips, pool):
    """Digest of what is trained on, so that a checkpoint of other data is not continued."""
    digest = hashlib.sha256()
    for array in (*clips, pool.noises, *pool.rooms, *pool.microphones):
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()[:16]


def _resume(path, made_of, encoder, optimiser):
    """Continue from `path` if it holds this very run, else put it aside: (steps done, history)."""
    if not path.exists():
        return 0, []
    tensors, record = checkpoint.load(path)
    if {key: record.get(key) for key in made_of} != made_of:
        paths.put_aside(path)
        return 0, []
    encoder.load_state_dict(checkpoint.part("model", tensors))
    checkpoint.restore_optimiser(optimiser, checkpoint.part("optimiser", tensors))
    return record["step"], record["history"]


def ship(encoder, card, name):
    """Write half-precision weights and their model card to `amg/weights/`."""
    file = nafp.shipped(name)
    tensors = {key: value.half() for key, value in encoder.state_dict().items()}
    checkpoint.save(file, checkpoint.prefixed("model", tensors), {"size": name})
    with paths.atomic(file.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps({"sha256": checkpoint.sha256(file), **card}, indent=1) + "\n")
    return file
