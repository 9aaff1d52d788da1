"""Training of the AMG encoder (AMG paper, embedding stage).

Every song is a class; its samples are the original and its degraded versions. Epoch `e`
follows from (seed, e) alone and ends in a checkpoint, so that a run that was interrupted
continues and ends with the same weights as an undisturbed one.
"""

import json
import math
import time
from dataclasses import asdict, dataclass

import numpy as np
import torch

from amg import check, checkpoint, crops, encoders, losses, paths, progress

EPOCHS, VALIDATION = 1, 2  # second word of the seeds: their streams never coincide
MICRO_FRAMES = 2048  # frames per micro-batch, padding included; bounds memory, not the result


@dataclass(frozen=True)
class Config:
    """What decides the weights, given the training set. Defaults are the published ones."""

    duration_max: int = 10
    encoder: str = "mt"
    loss: str = "amg"
    layers: int = 10
    dropout: float = 0.1
    epochs: int = 50
    batch_size: int = 640
    lr: float = 1e-3
    final_lr: float = 1e-4
    weight_decay: float = 1e-5
    scale: float = losses.SCALE
    margin_max: float = crops.MARGIN_MAX
    margin_min: float = crops.MARGIN_MIN
    n_valid: int = 50
    seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "loss", losses.canonical(self.loss))
        crops.segment_frames(self.duration_max)
        check.one_of("encoder", self.encoder, encoders.TRAINABLE)
        for name in ("layers", "epochs", "batch_size"):
            check.integer(name, getattr(self, name), 1)
        for name in ("n_valid", "seed"):
            check.integer(name, getattr(self, name), 0)
        for name, high in (("lr", 1), ("final_lr", 1), ("weight_decay", 1), ("dropout", 0.9),
                           ("scale", 1000), ("margin_max", 1.5), ("margin_min", 1.5)):
            check.number(name, getattr(self, name), 0, high)

    @property
    def name(self):
        """Name of the run: encoder, loss and duration, as `mt-amg-10s`."""
        return f"{self.encoder}-{self.loss}-{self.duration_max}s"

    def build(self):
        """A fresh encoder of this configuration."""
        return encoders.TRAINABLE[self.encoder](layers=self.layers, dropout=self.dropout)


class Run:
    """Encoder, class centres, optimiser and history of one training, and their checkpoint."""

    def __init__(self, config, data, folder, device="cpu"):
        self.config, self.data, self.folder, self.device = config, data, folder, device
        n_songs = len(data.length)
        if config.n_valid >= n_songs - 1:
            raise check.InputError(f"n_valid is {config.n_valid}, but the training set has only "
                                   f"{n_songs} songs; keep at least 2 for training.")
        self.songs, self.held_out = np.split(np.arange(n_songs), [n_songs - config.n_valid])
        torch.manual_seed(config.seed)
        self.encoder = config.build().to(device)
        self.centres = torch.nn.Parameter(self._first_centres().to(device))
        self.optimiser = torch.optim.Adam([*self.encoder.parameters(), self.centres],
                                          lr=config.lr, weight_decay=config.weight_decay)
        self.history = []
        self._resume()

    def _first_centres(self):
        """Class centres start as the mean of each original's centre frames, (n_songs, 128)."""
        padded = crops.PADDED_FRAMES[self.config.duration_max]
        rows = []
        for song in self.songs:
            clip = self.data.clip(song, 0)
            mid, most = crops.centre(len(clip), padded)
            rows.append(clip[mid : mid + most].mean(axis=0))
        return torch.from_numpy(np.stack(rows).astype(np.float32))

    def fit(self, on_epoch=lambda history: None):
        """Train to the last epoch, a checkpoint each; returns the history (one dict per epoch).

        `on_epoch` is called with the history so far, for live curves.
        """
        config = self.config
        n_samples = len(self.songs) * self.data.length.shape[1]
        n_batches = math.ceil(n_samples / config.batch_size)
        if self.history:
            print(f"{len(self.history)} of {config.epochs} epochs were trained earlier and are kept.")
            on_epoch(self.history)
        bar = progress.bar(desc=config.name, unit="step", total=config.epochs * n_batches,
                           initial=len(self.history) * n_batches)
        for epoch in range(len(self.history), config.epochs):
            torch.manual_seed(config.seed * 1_000_003 + epoch)
            rng = np.random.default_rng([config.seed, EPOCHS, epoch])
            began, total = time.perf_counter(), 0.0
            order = rng.permutation(n_samples)
            for b, batch in enumerate(np.array_split(order, n_batches)):
                lr = self._learning_rate((epoch * n_batches + b) / (config.epochs * n_batches))
                total += self._update(batch, rng, lr) * len(batch)
                bar.update()
            self.history.append({"epoch": epoch + 1, "loss": total / n_samples, "lr": lr,
                                 **self._validate(), "seconds": time.perf_counter() - began})
            self._save()
            on_epoch(self.history)
        bar.close()
        return self.history

    def _learning_rate(self, progress):
        """Cosine from lr to final_lr over all steps."""
        low, high = self.config.final_lr, self.config.lr
        return low + (high - low) * 0.5 * (1 + math.cos(math.pi * progress))

    def _update(self, batch, rng, lr):
        """One optimiser step on the sample numbers `batch`; returns the loss.

        The batch is sorted by crop length and cut in micro-batches whose gradients add up to
        those of the whole batch.
        """
        song, clip = np.divmod(batch, self.data.length.shape[1])
        original = clip == 0
        crop = crops.draw(rng, self.data.length[song, clip], original, self.config.duration_max,
                          self.config.margin_max, self.config.margin_min)
        first = self.data.first[song, clip] + crop.start
        self.encoder.train()
        self.optimiser.zero_grad(set_to_none=True)
        total = 0.0
        for group in crops.micro_batches(crop.length, MICRO_FRAMES):
            frames, mask = crops.pad(self.data.frames, first[group], crop.length[group])
            vectors = self.encoder(frames.to(self.device), mask.to(self.device))
            label, margin, is_original = (torch.from_numpy(a[group]).to(self.device)
                                          for a in (song, crop.margin, original))
            loss = self._loss(vectors, label, margin, is_original, len(batch), original.sum())
            loss.backward()
            total += loss.item()
        for param_group in self.optimiser.param_groups:
            param_group["lr"] = lr
        self.optimiser.step()
        return total

    def _loss(self, vectors, label, margin, is_original, n, n_originals):
        """This micro-batch's share of the batch loss."""
        if self.config.loss == "arcface":
            return losses.arcface(vectors, self.centres, label, margin, self.config.scale).sum() / n
        return losses.amg(vectors, self.centres, label, margin, is_original,
                          n, int(n_originals), self.config.scale)

    def _validate(self):
        """Top-1 and Top-10 (%) of held-out songs: half a segment of every degraded version is
        looked for among the centres of all originals. {} if nothing is held out."""
        padded = crops.PADDED_FRAMES[self.config.duration_max]
        rng = np.random.default_rng([self.config.seed, VALIDATION])
        stored, asked, truth = [], [], []
        for song, lengths in enumerate(self.data.length):
            mid, most = crops.centre(lengths[0], padded)
            stored.append(self.data.clip(song, 0)[mid : mid + most])
            for clip in range(1, len(lengths)) if song in self.held_out else ():
                mid, most = crops.centre(lengths[clip], padded)
                half = max(min(most, crops.segment_frames(self.config.duration_max)) // 2, 1)
                start = mid + rng.integers(most - half + 1)
                asked.append(self.data.clip(song, clip)[start : start + half])
                truth.append(song)
        if not asked:
            return {}
        scores = encoders.embed(self.encoder, asked) @ encoders.embed(self.encoder, stored).T
        true = scores[np.arange(len(truth)), truth]
        rank = (scores > true[:, None]).sum(axis=1)
        return {"top1": 100 * float((rank < 1).mean()), "top10": 100 * float((rank < 10).mean())}

    def _record(self):
        return {"config": asdict(self.config), "data": self.data.content, "history": self.history,
                "code": paths.code("crops", "encoders", "losses", "train")}

    def _save(self):
        """Replace the last checkpoint, and the best one if validation improved."""
        tensors = checkpoint.prefixed("model", self.encoder.state_dict())
        scores = [row.get("top1", row["epoch"]) for row in self.history]
        if scores[-1] > max(scores[:-1], default=-1):  # without validation, the last is the best
            checkpoint.save(self.folder / "best.safetensors", tensors, self._record())
        tensors["centres"] = self.centres
        tensors |= checkpoint.prefixed("optimiser", checkpoint.optimiser_tensors(self.optimiser))
        checkpoint.save(self.folder / "last.safetensors", tensors, self._record())
        with paths.atomic(self.folder / "params.json") as temporary:
            temporary.write_text(json.dumps(asdict(self.config), indent=1) + "\n")

    def _resume(self):
        """Continue a run of this very configuration; put one of another configuration aside."""
        last = self.folder / "last.safetensors"
        if not last.exists():
            return
        tensors, record = checkpoint.load(last)
        if {**record, "history": []} != self._record():
            paths.put_aside(self.folder)
            return
        self.encoder.load_state_dict(checkpoint.part("model", tensors))
        with torch.no_grad():
            self.centres.copy_(tensors["centres"])
        checkpoint.restore_optimiser(self.optimiser, checkpoint.part("optimiser", tensors))
        self.history = record["history"]


def best(train_set, encoder, loss, duration_max):
    """Path of the best checkpoint of a run; InputError if one of the names is not allowed."""
    name = Config(duration_max=duration_max, encoder=encoder, loss=loss).name
    return paths.resolve(f"data/models/{train_set}/{name}/best.safetensors")


def load_encoder(path):
    """Load a trained encoder: returns (encoder, Config, history). InputError if it is missing."""
    if not path.is_file():
        raise check.InputError(f"{paths.relative(path)} is missing; run notebook 03_train with "
                               "its duration_max, encoder and loss first.")
    tensors, record = checkpoint.load(path)
    config = Config(**record["config"])
    encoder = config.build()
    encoder.load_state_dict(checkpoint.part("model", tensors))
    return encoder.eval(), config, record["history"]
