"""Contrastive training of the fingerprinter (NAFP, arXiv 2010.11910, sec. 2 and 4).

NT-Xent pulls the two windows of every pair (`pairs.py`) together and pushes all others of the batch
away. Training resumes anywhere and gives the same weights.
"""

import copy
import hashlib
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from amg import check, checkpoint, code, files, paths, progress, provenance
from amg.fingerprint import nafp
from amg.fingerprint.pairs import Pairs, cut_out
from amg.sound.audio import SAMPLE_RATE, WINDOW

TEMPERATURE = 0.05


@dataclass(frozen=True)
class Config:
    """Everything that decides the weights, given the clips and the pool."""

    size: str = "lite"  # a key of nafp.CONFIGS
    steps: int = 5400
    pairs: int = 150  # N/2
    per_visit: int = 3  # windows taken from one place of a track
    peak_lr: float = 3e-4
    weight_decay: float = 1e-2
    seed: int = 0

    def __post_init__(self):
        check.one_of("size", self.size, nafp.CONFIGS)
        check.integers(1, steps=self.steps, pairs=self.pairs, per_visit=self.per_visit)
        check.seed(self.seed)
        check.number("peak_lr", self.peak_lr, 1e-6, 1)


def nt_xent(anchors, replicas) -> torch.Tensor:
    """Normalised-temperature cross-entropy (NAFP, eq. 1) of unit vectors (P, D), (P, D).

    Row i's positive is its pair; the other 2P - 2 rows are its negatives. Returns a scalar.
    """
    rows = torch.cat([anchors, replicas])  # (2P, D)
    similarity = rows @ rows.T / TEMPERATURE
    similarity.fill_diagonal_(-math.inf)
    target = torch.arange(len(rows), device=rows.device).roll(len(anchors))
    return F.cross_entropy(similarity, target)


def learning_rate(step, config) -> float:
    """Linear rise over the first tenth of the steps (at most 1,000), then a cosine to zero."""
    rise = max(1, min(1000, config.steps // 10))
    if step < rise:
        return config.peak_lr * (step + 1) / rise
    done = (step - rise) / max(1, config.steps - rise)
    return config.peak_lr * 0.5 * (1 + math.cos(math.pi * done))


def precision(device) -> str:
    """What convolutions are trained in: bfloat16 on a GPU and on CPUs with instructions for it.

    Without them bfloat16 is far slower than float32, with them up to twice as fast.
    """
    half = device == "cuda" or torch.cpu.get_capabilities().get("avx512_bf16", False)
    return "bfloat16" if half else "float32"


@dataclass(frozen=True)
class Trained:
    """A finished training, and what it left in its folder."""

    folder: Path  # final.safetensors, best.safetensors (before whitening), last.safetensors
    record: dict  # how it was made: parameters, inputs, device and precision
    encoder: nafp.NAFP  # the final one, on the CPU
    history: list  # of validations: a dict of step, loss, lr, seconds, waiting, score, figures


class Trainer:
    """Weights, optimiser and history of a training, as its checkpoint in `folder` left them."""

    def __init__(self, config, device, folder):
        torch.manual_seed(config.seed)
        self.config, self.device, self.folder, self.history = config, device, folder, []
        self.encoder = nafp.NAFP(nafp.CONFIGS[config.size]).to(device)
        weights = self.encoder.parameters()
        self.optimiser = torch.optim.AdamW(weights, weight_decay=config.weight_decay)
        if (folder / "last.safetensors").exists():
            tensors, record = checkpoint.load(folder / "last.safetensors", "history")
            self.history = record["history"]
            self.encoder.load_state_dict(checkpoint.part("model", tensors))
            checkpoint.restore_optimiser(self.optimiser, tensors)

    def train(self, data, validate, every, loaders) -> None:
        """The steps that are missing, on `Pairs`; each validation writes the checkpoints."""
        n_done, n_steps = self.history[-1]["step"] if self.history else 0, self.config.steps
        how = {"num_workers": loaders, "prefetch_factor": 4, "pin_memory": self.device == "cuda"}
        missing = range(n_done, n_steps)
        loader = torch.utils.data.DataLoader(data, batch_size=None, sampler=missing, **how)
        bar = {"desc": "NT-Xent", "unit": "step", "total": n_steps, "initial": n_done}
        batches, losses, waited, began = iter(loader), [], 0.0, time.perf_counter()
        for step in progress.bar(range(n_done + 1, n_steps + 1), **bar):
            wanted = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - wanted
            losses.append(self._step(step, *batch))
            if step % every == 0 or step == n_steps:
                seconds = time.perf_counter() - began
                row = {"step": step, "loss": float(np.mean(losses))}
                row |= {"lr": learning_rate(step - 1, self.config), "seconds": seconds}
                self._validate(validate, {**row, "waiting": waited / seconds})
                losses, waited, began = [], 0.0, time.perf_counter()

    def _step(self, number, anchors, replicas):
        """Update `number` (from 1) on float32 (pairs, 8000) each; returns its loss."""
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + number)
        windows = torch.cat([anchors, replicas]).to(self.device)
        spectrograms = cut_out(self.encoder.log_mel(windows), generator)
        half = precision(self.device) == "bfloat16"
        with torch.autocast(self.device, torch.bfloat16, enabled=half):
            vectors = self.encoder.encode(spectrograms)
        loss = nt_xent(*vectors.float().chunk(2))
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(number - 1, self.config)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return loss.item()

    def _validate(self, validate, row):
        """Add figures to a row of the history, and write the weights that training continues from,
        and those that are kept."""
        figures = validate(self.encoder.eval())
        self.encoder.train()
        self.history.append({**row, "score": sum(figures.values()), **figures})
        if kept(self.history) is self.history[-1]:
            save(self.encoder, self.folder / "best.safetensors", self.config.size)
        tensors = self.encoder.state_dict(prefix="model.")
        tensors |= checkpoint.optimiser_tensors(self.optimiser)
        record = {"size": self.config.size, "history": self.history}
        checkpoint.save(self.folder / "last.safetensors", tensors, record)


def fit(
    config, music, sources, pools, name, validate, every=250, device="cpu", loaders=1
) -> Trained:
    """Train a fingerprinter under `data/models/<name>`, and whiten the weights that validated best.

    music: side (train, valid) -> list of int16 (n_samples,) at 8 kHz, at least 3 s each; sources:
    of each training track its package or composer; pools: side -> Pool. The side valid is what
    `validate` hears: called with the encoder every `every` steps, it returns a dict of figures, the
    more the better. device: cpu, cuda; loaders: processes that make batches. An interrupted
    training of just this is continued, a finished one is read.
    Raises InputError if another process is at it.
    """
    parameters = {**asdict(config), **asdict(nafp.CONFIGS[config.size]), "every": every}
    heard = {side: _digest(music[side], pools[side]) for side in music}
    heard["sources"] = files.digest(sources)
    computed = {"device": device, "precision": precision(device)}
    recipe = provenance.Recipe("fingerprinter", parameters, heard, computed, code.of(__name__))
    target = paths.resolve(f"data/models/{name}")
    with provenance.making(target, recipe, f"{config.steps}-steps") as place:
        trainer, final = Trainer(config, device, place.folder), place.folder / "final.safetensors"
        if not place.finished:
            data = Pairs(music["train"], sources, pools["train"], config)
            trainer.train(data, validate, every, loaders)
            encoder = nafp.load(place.folder / "best.safetensors")
            whiten(encoder, music["train"], seed=config.seed)
            save(encoder, final, config.size)
    return Trained(place.folder, place.record, nafp.load(final), trainer.history)


def kept(history) -> dict:
    """Row of the weights that are kept: the last one of those with the highest score."""
    return max(history, key=lambda row: (row["score"], row["step"]))


def _digest(tracks, pool):
    digest = hashlib.sha256(pool.digest.encode())
    for track in tracks:
        digest.update(np.ascontiguousarray(track))
    return digest.hexdigest()[:16]


def whiten(encoder, tracks, n_windows=20_000, seed=0) -> None:
    """Give a trained encoder its `nafp.Whitening`, from windows of the music as recorded.

    tracks: list of int16 (n_samples,) at 8 kHz; of little music less than `n_windows` are taken.
    """
    rng = np.random.default_rng(seed)
    lengths = np.array([len(track) for track in tracks], float)
    n_places = min(n_windows // 4, math.ceil(lengths.sum() / WINDOW))
    chosen = [tracks[i] for i in rng.choice(len(tracks), n_places, p=lengths / lengths.sum())]
    n = 5 * SAMPLE_RATE // 2  # four windows
    starts = [rng.integers(max(1, len(track) - n)) for track in chosen]
    cut = (track[start : start + n] for track, start in zip(chosen, starts))
    pieces = ([samples.astype(np.float32) / 32768] for samples in cut)
    vectors = np.concatenate(list(nafp.extract_all(encoder, pieces)))
    encoder.whitening = nafp.Whitening()
    encoder.whitening.fit(vectors)


def save(encoder, path, size) -> Path:
    """Write what `nafp.load` reads; returns `path`."""
    checkpoint.save(path, encoder.state_dict(prefix="model."), {"size": size})
    return path


def ship(encoder, card, name) -> Path:
    """Write half-precision weights and their model card to `amg/weights/`."""
    file = save(copy.deepcopy(encoder).half(), nafp.shipped(name), name)
    files.write_json(file.with_suffix(".json"), {"sha256": files.sha256(file), **card})
    return file


def add_to_card(key, result, name="lite") -> Path:
    """Put `result`, a JSON-able dict, into the model card of shipped weights; returns its path."""
    card = nafp.shipped(name).with_suffix(".json")
    files.write_json(card, {**(files.read_json(card) or {}), key: result})
    return card
