"""Contrastive training of the fingerprinter (NAFP, arXiv 2010.11910, sec. 2 and 4).

NT-Xent pulls the two windows of every pair (`pairs.py`) together and pushes all others of the batch
away. Training resumes anywhere and gives the same weights.
"""

import copy
import hashlib
import json
import math
import time
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch.nn import functional as F

from amg import check, checkpoint, files, paths, progress
from amg.fingerprint import nafp
from amg.sound.audio import SAMPLE_RATE
from amg.fingerprint.pairs import Pairs, cut_out

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
        check.integers(0, seed=self.seed)
        check.number("peak_lr", self.peak_lr, 1e-6, 1)


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


def learning_rate(step, config):
    """Linear rise over the first tenth of the steps (at most 1,000), then a cosine to zero."""
    rise = max(1, min(1000, config.steps // 10))
    if step < rise:
        return config.peak_lr * (step + 1) / rise
    return config.peak_lr * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, config.steps - rise)))


def half_precision(device):
    """Whether convolutions are trained in bfloat16: on a GPU, and on CPUs with instructions for it.

    Without them bfloat16 is far slower than float32, with them about twice as fast.
    """
    able = torch.cpu.get_capabilities()
    return device == "cuda" or any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


class Trainer:
    """The state of a training: weights and optimiser."""

    def __init__(self, config, device):
        torch.manual_seed(config.seed)
        self.config, self.half = config, half_precision(device)
        self.encoder = nafp.NAFP(nafp.CONFIGS[config.size]).to(device)
        self.optimiser = torch.optim.AdamW(self.encoder.parameters(),
                                           weight_decay=config.weight_decay)

    def step(self, number, anchors, replicas):
        """Update `number` (from 1); returns its loss."""
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + number)
        spectrograms = cut_out(self.encoder.log_mel(torch.cat([anchors, replicas])), generator)
        with torch.autocast(anchors.device.type, torch.bfloat16, enabled=self.half):
            vectors = self.encoder.encode(spectrograms)
        loss = nt_xent(*vectors.float().chunk(2))
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(number - 1, self.config)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return loss.item()

    def tensors(self):
        """All of the state, by name."""
        return (checkpoint.prefixed("model", self.encoder.state_dict())
                | checkpoint.prefixed("optimiser", checkpoint.optimiser_tensors(self.optimiser)))

    def restore(self, tensors):
        """Put back what `tensors` gave."""
        self.encoder.load_state_dict(checkpoint.part("model", tensors))
        checkpoint.restore_optimiser(self.optimiser, checkpoint.part("optimiser", tensors))


def fit(config, tracks, pool, path, validate, every=250, device="cpu", loaders=1):
    """Train a fingerprinter; returns (encoder, history), the encoder that validated best.

    tracks: list of int16 (n_samples,) at 8 kHz, at least 3 s each. path: checkpoint file,
    continued if it is there; the best weights lie beside it as `<name>-best`. validate: called
    with the encoder every `every` steps, returns a dict of figures, the more the better, for the
    history (a list of dicts: step, loss, lr, seconds, waiting, which is the share of the time
    spent waiting for data, and the figures). loaders: processes that make batches.
    """
    trainer = Trainer(config, device)
    made_of = {"config": asdict(config), "data": _digest(tracks, pool), "size": config.size,
               "bfloat16": trainer.half, "code": paths.code("degrade", "pairs", "nafp", "nafp_train"),
               "network": list(asdict(nafp.CONFIGS[config.size]).values())}
    made_of = json.loads(json.dumps(made_of))  # as it will be read again
    best = path.with_stem(f"{path.stem}-best")
    done, history = _resume(path, best, made_of, trainer)
    batches = iter(torch.utils.data.DataLoader(
        Pairs(tracks, pool, config), batch_size=None, num_workers=loaders, prefetch_factor=4,
        pin_memory=device == "cuda", sampler=range(done, config.steps)))
    losses, waited, began = [], 0.0, time.perf_counter()
    for step in progress.bar(range(done + 1, config.steps + 1), total=config.steps, initial=done,
                             desc="NT-Xent", unit="step"):
        asked = time.perf_counter()
        anchors, replicas = next(batches)
        waited += time.perf_counter() - asked
        losses.append(trainer.step(step, anchors.to(device), replicas.to(device)))
        if step % every == 0 or step == config.steps:
            seconds = time.perf_counter() - began
            figures = validate(trainer.encoder.eval())
            trainer.encoder.train()
            history.append({"step": step, "loss": float(np.mean(losses)),
                            "lr": learning_rate(step - 1, config), "seconds": seconds,
                            "waiting": waited / seconds, "score": sum(figures.values()), **figures})
            record = {**made_of, "step": step, "history": history}
            if history[-1]["score"] >= max(row["score"] for row in history):
                checkpoint.save(best, trainer.tensors(), record)
            checkpoint.save(path, trainer.tensors(), record)
            losses, waited, began = [], 0.0, time.perf_counter()
    trainer.restore(checkpoint.load(best)[0])
    return trainer.encoder.eval(), history


def _digest(tracks, pool):
    """Digest of what is trained on, so that a checkpoint of other data is not continued."""
    digest = hashlib.sha256(pool.digest.encode())
    for track in tracks:
        digest.update(np.ascontiguousarray(track))
    return digest.hexdigest()[:16]


def _resume(path, best, made_of, trainer):
    """Continue from `path` if it holds this very run: (steps done, history).

    Another run is put aside, its best weights, too.
    """
    tensors, record = checkpoint.load(path) if path.exists() else ({}, {})
    if best.exists() and {key: record.get(key) for key in made_of} == made_of:
        trainer.restore(tensors)
        return record["step"], record["history"]
    for file in (path, best):
        if file.exists():
            paths.put_aside(file)
    return 0, []


def whiten(encoder, tracks, n_windows=20_000, seed=0):
    """Give a trained encoder its `nafp.Whitening`, from windows of the tracks as recorded.

    tracks: as for `fit`, on the CPU.
    """
    rng = np.random.default_rng(seed)
    lengths = np.array([len(track) for track in tracks], float)
    chosen = rng.choice(len(tracks), n_windows // 4, p=lengths / lengths.sum())
    starts = [rng.integers(max(1, len(tracks[i]) - 5 * SAMPLE_RATE // 2)) for i in chosen]
    pieces = ([tracks[i][at : at + 5 * SAMPLE_RATE // 2].astype(np.float32) / 32768]
              for i, at in zip(chosen, starts))  # four windows each
    vectors = np.concatenate(list(nafp.extract_all(encoder, pieces)))
    encoder.whitening = nafp.Whitening()
    encoder.whitening.fit(vectors)


def save(encoder, path, size):
    """Write what `nafp.load` reads; returns `path`."""
    checkpoint.save(path, checkpoint.prefixed("model", encoder.state_dict()), {"size": size})
    return path


def ship(encoder, card, name):
    """Write half-precision weights and their model card to `amg/weights/`."""
    file = save(copy.deepcopy(encoder).half(), nafp.shipped(name), name)
    with files.atomic(file.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps({"sha256": files.sha256(file), **card}, indent=1) + "\n")
    return file


def add_to_card(key, result, name="lite"):
    """Put `result`, a JSON-able dict, into the model card of shipped weights; returns its path."""
    file = nafp.shipped(name).with_suffix(".json")
    card = json.loads(file.read_text()) | {key: result}
    with files.atomic(file) as temporary:
        temporary.write_text(json.dumps(card, indent=1) + "\n")
    return file
