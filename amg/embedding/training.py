"""Training of the AMG encoder (AMG paper, embedding stage).

Every song is a class; its samples are the original and its degraded versions. Step `i` follows
from (seed, i) alone, so that a run that was interrupted continues and ends with the same weights
as an undisturbed one.
"""

import json
import math
import time
from dataclasses import asdict

import numpy as np
import torch

from amg import check, checkpoint, files, paths, progress
from amg.embedding import batches, crops, encoders, losses

EPOCHS, VALIDATION = 1, 2  # second word of the seeds: their streams never coincide
MICRO_FRAMES = 4096  # frames that are computed together; decides speed, and which dropout is drawn
SAVE_S = 60.0  # seconds between checkpoints within an epoch


class Run:
    """Encoder, class centres, optimiser and history of one training, and their checkpoint."""

    def __init__(self, config, data, folder):
        self.config, self.data, self.folder = config, data, folder
        self.device = device = "cuda" if torch.cuda.is_available() else "cpu"
        n_songs = len(data.length)
        if config.n_valid >= n_songs - 1:
            raise check.InputError(f"n_valid is {config.n_valid}, but the training set has only "
                                   f"{n_songs} songs; keep at least 2 for training.")
        self.songs, self.held_out = np.split(np.arange(n_songs), [n_songs - config.n_valid])
        if config.paired and not data.length[self.songs, 1:].any():
            raise check.InputError(f"the loss {config.loss} compares originals with degraded "
                                   "versions, but the training set has none.")
        torch.manual_seed(config.seed)
        self.encoder = config.build().to(device)
        self.centres = None if config.paired else torch.nn.Parameter(self._first_centres().to(device))
        parameters = [*self.encoder.parameters(), *([] if config.paired else [self.centres])]
        self.optimiser = torch.optim.Adam(parameters, lr=config.lr, weight_decay=config.weight_decay)
        self.history = []
        self.progress = {"step": 0, "loss": 0.0}  # steps done; sum of losses of this epoch
        self.seconds = []  # per epoch; kept apart, for they differ from run to run
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
        """Train to the last epoch; returns the history (one dict per epoch, its seconds included).

        `on_epoch` is called with the history so far, for live curves. Checkpoints are written
        after every epoch, and every SAVE_S within one.
        """
        if self.history:
            print(f"{len(self.history)} of {self.config.epochs} epochs were trained earlier and "
                  "are kept.")
            on_epoch(self.history)
        with progress.bar(desc=self.config.name, unit="step") as bar:
            for epoch in range(len(self.history), self.config.epochs):
                self._train(epoch, bar)
                self._save()
                on_epoch(self.history)
        return [{**row, "seconds": seconds} for row, seconds in zip(self.history, self.seconds)]

    def _train(self, epoch, bar):
        """The rest of an epoch, and its row of the history."""
        config, done = self.config, self.progress
        of_epoch = batches.epoch(
            np.random.default_rng([config.seed, EPOCHS, epoch]), self.data.length[self.songs],
            config.batch_size, config.paired, config.duration_max, config.margin_max,
            config.margin_min)
        self.seconds = [*self.seconds, 0.0][: epoch + 1]
        began, saved = time.perf_counter() - self.seconds[epoch], time.perf_counter()
        bar.total = n_steps = config.epochs * len(of_epoch)
        for batch in of_epoch[done["step"] - epoch * len(of_epoch) :]:
            torch.manual_seed(config.seed * 1_000_003 + done["step"])  # dropout
            lr = self._learning_rate(done["step"] / n_steps)
            done["loss"] += self._update(batch, lr) * len(batch)
            done["step"] += 1
            bar.update(done["step"] - bar.n)
            self.seconds[epoch] = time.perf_counter() - began
            if time.perf_counter() - saved > SAVE_S:
                saved = time.perf_counter()
                self._save_last()
        self.history.append({"epoch": epoch + 1, "loss": done["loss"] / sum(map(len, of_epoch)),
                             "lr": self._learning_rate((done["step"] - 1) / n_steps),
                             **self._validate()})
        self.progress = {"step": done["step"], "loss": 0.0}

    def _learning_rate(self, progress):
        """Cosine from lr to final_lr over all steps."""
        low, high = self.config.final_lr, self.config.lr
        return low + (high - low) * 0.5 * (1 + math.cos(math.pi * progress))

    def _update(self, batch, lr):
        """One optimiser step on a `batches.Batch`; returns the loss.

        The batch is sorted by crop length and embedded in micro-batches, without padding. The loss
        is computed once, over the whole batch; its gradient then goes back through each
        micro-batch. So the update is that of the padded batch, and memory that of its crops.
        """
        self.encoder.train()
        self.optimiser.zero_grad(set_to_none=True)
        most = len(batch) * crops.PADDED_FRAMES[self.config.duration_max]
        groups = crops.micro_batches(batch.crop.length,
                                     most if self.encoder.whole_batch else MICRO_FRAMES)
        parts = [self._embed(batch, group) for group in groups]
        found = torch.cat([part.detach() for part in parts]).requires_grad_()
        place = torch.from_numpy(np.argsort(np.concatenate(groups))).to(self.device)
        loss = self._loss(found[place], batch)
        loss.backward()
        for part, gradient in zip(parts, found.grad.split([len(group) for group in groups])):
            part.backward(gradient)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        if not torch.isfinite(loss):
            raise check.InputError(f"the loss of {self.config.name} is no longer finite; train with a "
                                   "lower lr. The last checkpoint is kept.")
        self.optimiser.step()
        return loss.item()

    def _embed(self, batch, rows):
        """Vectors of some rows of a batch, float32 (n, 128)."""
        length = batch.crop.length[rows]
        first = self.data.first[batch.song[rows], batch.clip[rows]] + batch.crop.start[rows]
        frames = torch.from_numpy(self.data.frames[crops.rows_of(first, length)])
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            if self.device == "cuda":
                frames = frames.pin_memory()
            return self.encoder(frames.to(self.device, non_blocking=True), length).float()

    def _loss(self, vectors, batch):
        """The loss of a batch, vectors (B, 128) in its order: a scalar."""
        config = self.config
        if config.paired:
            original, degraded = vectors.chunk(2)
            if config.loss == "infonce":
                return losses.infonce(original, degraded, config.temperature)
            return losses.triplet(original, degraded, degraded.roll(1, 0), config.triplet_margin)
        label, margin, is_original = (torch.from_numpy(array).to(self.device) for array in
                                      (batch.song, batch.crop.margin, batch.clip == 0))
        if config.loss == "arcface":
            return losses.arcface(vectors, self.centres, label, margin, config.scale).mean()
        return losses.amg(vectors, self.centres, label, margin, is_original, config.scale)

    def _validate(self):
        """Top-1 and Top-10 (%) of held-out songs: half a segment of every degraded version is
        looked for among the centres of all originals. {} if nothing is held out."""
        padded = crops.PADDED_FRAMES[self.config.duration_max]
        rng = np.random.default_rng([self.config.seed, VALIDATION])
        stored, asked, truth = [], [], []
        for song, lengths in enumerate(self.data.length):
            mid, most = crops.centre(lengths[0], padded)
            stored.append(self.data.clip(song, 0)[mid : mid + most])
            for clip in np.flatnonzero(lengths[1:]) + 1 if song in self.held_out else ():
                mid, most = crops.centre(lengths[clip], padded)
                half = max(min(most, crops.segment_frames(self.config.duration_max)) // 2, 1)
                start = mid + rng.integers(most - half + 1)
                asked.append(self.data.clip(song, clip)[start : start + half])
                truth.append(song)
        if not asked:
            return {}
        scores = encoders.embed(self.encoder, asked) @ encoders.embed(self.encoder, stored).T
        true = scores[np.arange(len(truth)), truth]
        rank = scores.shape[1] - 1 - (scores < true[:, None]).sum(axis=1)  # ties count against it
        return {"top1": 100 * float((rank < 1).mean()), "top10": 100 * float((rank < 10).mean())}

    def _record(self):
        return {"config": asdict(self.config), "data": self.data.content,
                "code": paths.code("attention", "batches", "crops", "densenet", "encoders", "losses",
                                   "training"),
                "history": self.history, "progress": self.progress}

    def _save(self):
        """Replace the last checkpoint, and the best one if validation improved."""
        scores = [row.get("top1", row["epoch"]) for row in self.history]
        if scores[-1] > max(scores[:-1], default=-1):  # without validation, the last is the best
            tensors = checkpoint.prefixed("model", self.encoder.state_dict())
            checkpoint.save(self.folder / "best.safetensors", tensors, self._record())
        self._save_last()
        with files.atomic(self.folder / "params.json") as temporary:
            temporary.write_text(json.dumps(asdict(self.config), indent=1) + "\n")

    def _save_last(self):
        tensors = (checkpoint.prefixed("model", self.encoder.state_dict())
                   | checkpoint.prefixed("optimiser", checkpoint.optimiser_tensors(self.optimiser)))
        if self.centres is not None:
            tensors["centres"] = self.centres
        checkpoint.save(self.folder / "last.safetensors", tensors, self._record())
        with files.atomic(self.folder / "seconds.json") as temporary:
            temporary.write_text(json.dumps(self.seconds) + "\n")

    def _resume(self):
        """Continue a run of this very configuration; put one of another configuration aside."""
        last = self.folder / "last.safetensors"
        if not last.exists():
            return
        tensors, record = checkpoint.load(last)
        fresh = {"history": [], "progress": self.progress}
        if {**record, **fresh} != {**self._record(), **fresh}:
            paths.put_aside(self.folder)
            return
        self.encoder.load_state_dict(checkpoint.part("model", tensors))
        if self.centres is not None:
            with torch.no_grad():
                self.centres.copy_(tensors["centres"])
        checkpoint.restore_optimiser(self.optimiser, checkpoint.part("optimiser", tensors))
        self.history, self.progress = record["history"], record["progress"]
        timing = self.folder / "seconds.json"
        seconds = json.loads(timing.read_text()) if timing.exists() else []
        self.seconds = (seconds + [0.0] * len(self.history))[: len(self.history) + 1]
