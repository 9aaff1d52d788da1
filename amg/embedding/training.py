"""Training of the AMG encoder (AMG paper, embedding stage).

Every song is a class; its samples are the original and its degraded versions. Step `i` follows
from (seed, i) alone, so that an interrupted run ends with the weights of an undisturbed one.
"""

import math
import time
from dataclasses import asdict
from functools import partial

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from amg import check, checkpoint, files, machine, paths, progress, provenance
from amg.check import InputError
from amg.embedding import batches, crops, encoders, losses, runs, songs, validation
from amg.embedding.fast import products
from amg.fingerprint.nafp import DIM

EPOCHS = 1  # second word of the seeds; validation has others
MICRO_FRAMES = 4096  # frames that are computed together; decides speed, and which dropout is drawn
# mean cosine of different songs, above that of an encoder as it is drawn; of so many at most
COLLAPSED, SAMPLE = 0.999, 50
SAVE_S = 60.0  # seconds between checkpoints within an epoch


def cosine(done, lr, final_lr) -> float:
    """The schedule: from lr to final_lr along a cosine; done: share of all steps, 0 to 1."""
    return final_lr + (lr - final_lr) * 0.5 * (1 + math.cos(math.pi * done))


class Run:
    """Encoder, loss, optimiser and history of one training.

    data: the `features.TrainingSet` of the name `train_set`; device: auto, cpu or cuda. The other
    arguments are functions that a notebook's cell may replace: the laws of crops and of margins and
    the schedule, called as the defaults are, and the optimiser, (parameters, lr=, weight_decay=) ->
    one of torch's. A run made with other functions is another run.
    """

    def __init__(
        self,
        config,
        data,
        train_set,
        device="auto",
        *,
        crop=crops.draw,
        margin=crops.margin,
        schedule=cosine,
        optimiser=torch.optim.Adam,
    ):
        self.variation = config.variation
        if crop is crops.draw:
            crop = partial(crop, power=self.variation.crop_power)
        elif self.variation.crop_power != crops.POWER:
            raise InputError(
                f"crop_power is {self.variation.crop_power}, but the training has a crop law of "
                "its own, which would not see it; give one of the two."
            )
        self.crop, self.margin, self.schedule = crop, margin, schedule
        self.own = {"crop": crop, "margin": margin, "schedule": schedule, "optimiser": optimiser}
        self.config, self.data, self.device = config, data, machine.device(device)
        self.path = runs.path(train_set, config)
        if not encoders.needs_training(config.encoder):
            raise InputError(
                f"the encoder {config.encoder} has nothing to train; notebook "
                "04_evaluate takes it as it is."
            )
        check.one_of(
            f"the number of values in a fingerprint of {train_set}", data.frames.shape[1], (DIM,)
        )
        if margin is not crops.margin and "margin" not in losses.registry.arguments(config.loss):
            raise InputError(
                f"the loss {config.loss} has no margin law; give none, or take arcface or amg."
            )
        own, self.held_out = songs.split(config, data, train_set)
        self.learnt = songs.learnt(config, data)  # frames, songs x clips
        self.songs = own[: len(self.learnt)]
        self.classes = songs.classes(config, train_set, len(self.songs))
        torch.manual_seed(config.seed)
        self.start = runs.start(config, data.fingerprinter)
        self.encoder = encoders.build(config).to(self.device)
        if self.start:
            weights = checkpoint.part("model", checkpoint.load(self.start)[0])
            runs.load_weights(self.encoder, weights, self.start)
        centres = partial(songs.first_centres, config, self.encoder, data, self.classes)
        given = {"centres": centres, "margin": lambda: margin}
        self.loss = losses.registry.build(config.loss, config.settings, **given).to(self.device)
        parameters = [*self.encoder.parameters(), *self.loss.parameters()]
        self.optimiser = optimiser(parameters, lr=config.lr, weight_decay=config.weight_decay)
        self.history, self.told = [], False  # told: that it has collapsed
        self.progress = {"step": 0, "loss": 0.0}  # steps done; sum of losses of this epoch
        self.seconds = [0.0] * config.epochs  # kept apart, for they differ from run to run

    def fit(self, on_epoch=lambda history: None, tried=False) -> list:
        """Train from the last checkpoint to the last epoch; returns the history, a dict per epoch.

        `on_epoch` is called with the history so far. Checkpoints are written after every epoch,
        and every SAVE_S within one. tried: as for `provenance.making`; notebook 04 goes on taking
        what was more than a try. Raises InputError if another process is training this run.
        """
        of_data = self.data.content, self.data.fingerprinter
        recipe = runs.recipe(self.config, *of_data, self.device, self.own, self.start)
        with provenance.making(self.path, recipe, self.config.differs, tried) as place:
            self.folder = place.folder
            self._resume()
            if self.history:
                print(
                    f"{paths.relative(self.folder)}: {len(self.history)} of {self.config.epochs} "
                    "epochs were trained earlier and are kept."
                )
                on_epoch(self.history)
            try:
                with progress.bar(desc=self.config.name, unit="step") as bar:
                    for epoch in range(len(self.history), self.config.epochs):
                        if self.variation.ended(self.history):
                            break
                        self._train(epoch, bar)
                        self._save(is_whole=True)
                        on_epoch(self.history)
            except KeyboardInterrupt:
                kept = f"{len(self.history)} of {self.config.epochs} epochs are kept"
                raise KeyboardInterrupt(kept) from None
        return [{**row, "seconds": seconds} for row, seconds in zip(self.history, self.seconds)]

    def _train(self, epoch, bar):
        """The rest of an epoch, and its row of the history."""
        config, done = self.config, self.progress
        rng = np.random.default_rng([config.seed, EPOCHS, epoch])
        how = config.batch_size, config.batches, config.duration_max, self.crop
        of_epoch = batches.epoch(rng, self.learnt, *how)
        began, saved = time.perf_counter() - self.seconds[epoch], time.perf_counter()
        bar.total = n_steps = config.epochs * len(of_epoch)
        for batch in of_epoch[done["step"] - epoch * len(of_epoch) :]:
            torch.manual_seed(config.seed * 1_000_003 + done["step"])  # dropout
            lr = self._learning_rate(done["step"] / n_steps)
            done["loss"] += self._update(batch, lr) * len(batch.song)
            done["step"] += 1
            bar.update(done["step"] - bar.n)
            self.seconds[epoch] = time.perf_counter() - began
            if time.perf_counter() - saved > SAVE_S:
                saved = time.perf_counter()
                self._save()
        n_rows = sum(len(batch.song) for batch in of_epoch)
        lr = self._learning_rate((done["step"] - 1) / n_steps)
        row = {"epoch": epoch + 1, "loss": done["loss"] / n_rows, "lr": lr}
        some = self.held_out if len(self.held_out) > 1 else self.songs[:SAMPLE]
        alike = validation.between(self.encoder, self.data, some, config.duration_max)
        self.history.append(row | self._validate() | {"alike": alike})
        self.progress = {"step": done["step"], "loss": 0.0}
        self._tell_collapse(alike)

    def _tell_collapse(self, alike):
        """Say, once, if vectors of different songs have become all alike, by their mean cosine."""
        if alike > COLLAPSED and not self.told:
            print(
                f"{self.config.name} has collapsed after epoch {len(self.history)}: vectors of "
                f"different songs are all alike (mean cosine {alike:.3f}); train with a lower lr, "
                f"{self.config.lr / 3:.1g} say, or with fewer layers."
            )
        self.told |= alike > COLLAPSED

    def _learning_rate(self, done):
        return self.variation.rate(done) * self.schedule(done, self.config.lr, self.config.final_lr)

    @products.by_onednn(rounded=True)
    def _update(self, batch, lr):
        """One optimiser step on a `batches.Batch`; returns the loss.

        The batch is sorted by crop length and embedded in micro-batches, nearly without padding.
        The loss is taken once, over the whole batch; its gradient then goes back through each
        micro-batch. So the update is that of the padded batch, and memory that of its crops.
        """
        self.encoder.train()
        self.optimiser.zero_grad(set_to_none=True)
        # batch normalisation cannot be computed in parts
        whole = any(isinstance(module, _BatchNorm) for module in self.encoder.modules())
        most = batch.crop.length.sum() if whole else MICRO_FRAMES
        groups = crops.micro_batches(batch.crop.length, most)
        parts = [self._embed(batch, group) for group in groups]
        vectors = torch.cat([part.detach() for part in parts]).requires_grad_()
        place = torch.from_numpy(np.argsort(np.concatenate(groups))).to(self.device)
        loss = self.loss(vectors[place], batch.rows(self.device, self.classes))
        loss.backward()
        for part, gradient in zip(parts, vectors.grad.split([len(group) for group in groups])):
            part.backward(gradient)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        if not torch.isfinite(loss):
            raise InputError(
                f"the loss of {self.config.name} is no longer finite; train with a "
                "lower lr. The last checkpoint is kept."
            )
        self.optimiser.step()
        return loss.item()

    def _embed(self, batch, rows):
        """Vectors of some rows of a batch, float32 (n, 128)."""
        length = batch.crop.length[rows]
        first = self.data.first[batch.song[rows], batch.clip[rows]] + batch.crop.start[rows]
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            vectors = encoders.forward(self.encoder, self.data.frames, first, length, self.device)
        return vectors.float()

    @products.by_onednn()
    def _validate(self):
        """Top-1 and Top-10 (%) of the held-out songs; {} if none has a degraded version."""
        rank = validation.ranks(
            self.encoder, self.data, self.held_out, self.config.duration_max, self.config.seed
        )["rank"]
        return {f"top{n}": 100 * float((rank < n).mean()) for n in (1, 10) if len(rank)}

    def _save(self, is_whole=False):
        """Write the checkpoint `last`; after a whole epoch `best`, too, if validation improved."""
        record = {"config": asdict(self.config), "history": self.history, "progress": self.progress}
        tensors = self.encoder.state_dict(prefix="model.")
        # without validation, the last is the best
        scores = [row.get("top1", row["epoch"]) for row in self.history]
        if is_whole and scores[-1] > max(scores[:-1], default=-1):
            checkpoint.save(self.folder / "best.safetensors", tensors, record)
        tensors |= self.loss.state_dict(prefix="loss.")
        tensors |= checkpoint.optimiser_tensors(self.optimiser)
        checkpoint.save(self.folder / "last.safetensors", tensors, record)
        files.write_json(self.folder / "seconds.json", {"seconds": self.seconds})

    def _resume(self):
        """Take up the last checkpoint of this run, if there is one."""
        last = self.folder / "last.safetensors"
        if not last.exists():
            return
        tensors, record = checkpoint.load(last, "history", "progress")
        runs.load_weights(self.encoder, checkpoint.part("model", tensors), last)
        runs.load_weights(self.loss, checkpoint.part("loss", tensors), last)
        checkpoint.restore_optimiser(self.optimiser, tensors)
        self.history, self.progress = record["history"], record["progress"]
        seconds = (files.read_json(self.folder / "seconds.json") or {}).get("seconds", [])
        self.seconds[: len(seconds)] = seconds
