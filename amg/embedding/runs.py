"""Encoders as files: what a training run is called, where it lies, how it is read again."""

from dataclasses import asdict, dataclass, replace

import torch

from amg import check, checkpoint, paths
from amg.embedding import crops, encoders, losses


@dataclass(frozen=True)
class Config:
    """What decides the weights, given the training set. Defaults are the published Transformer's;
    held-out songs (`n_valid`) are ours."""

    duration_max: int = 10
    encoder: str = "mt"
    loss: str = "amg"
    layers: int = 10  # mt and mlstm; published: 10 and 8
    dropout: float = 0.1  # mt and mlstm
    epochs: int = 50
    batch_size: int = 640
    lr: float = 1e-3
    final_lr: float = 1e-4
    weight_decay: float = 1e-5
    scale: float = losses.SCALE  # amg and arcface
    margin_max: float = crops.MARGIN_MAX
    margin_min: float = crops.MARGIN_MIN
    temperature: float = losses.TEMPERATURE  # infonce
    triplet_margin: float = losses.TRIPLET_MARGIN
    n_valid: int = 50
    seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "loss", losses.canonical(self.loss))
        crops.segment_frames(self.duration_max)
        check.one_of("encoder", self.encoder, encoders.TRAINABLE)
        check.integers(1, layers=self.layers, epochs=self.epochs)
        check.integers(0, n_valid=self.n_valid, seed=self.seed)
        check.integer("batch_size", self.batch_size, 4 if self.paired else 1)
        for name, low, high in (
                ("lr", 0, 1), ("final_lr", 0, 1), ("weight_decay", 0, 1), ("dropout", 0, 0.9),
                ("scale", 0, 1000), ("margin_max", 0, 1.5), ("margin_min", 0, 1.5),
                ("temperature", 1e-3, 10), ("triplet_margin", 0, 2)):
            check.number(name, getattr(self, name), low, high)

    @property
    def name(self):
        """Name of the run: encoder, loss and duration, as `mt-amg-10s`."""
        return f"{self.encoder}-{self.loss}-{self.duration_max}s"

    @property
    def paired(self):
        """Whether the loss compares originals with degraded versions, and knows no classes."""
        return self.loss in losses.CONTRASTING

    def build(self):
        """A fresh encoder of this configuration."""
        return encoders.build(self.encoder, self.duration_max, self.layers, self.dropout)


def best(train_set, encoder, loss, duration_max):
    """Path of the best checkpoint of a run; InputError if one of the names is not allowed."""
    name = Config(duration_max=duration_max, encoder=encoder, loss=loss).name
    return paths.resolve(f"data/models/{train_set}/{name}/best.safetensors")


def load(path):
    """Load an encoder that notebook 03 trained: returns (encoder, Config, history).

    Raises InputError if it is missing or damaged.
    """
    if not path.is_file():
        raise check.InputError(f"{paths.relative(path)} is missing; run notebook 03_train with "
                               "its duration_max, encoder and loss first.")
    tensors, record = checkpoint.load(path)
    config = Config(**record["config"])
    encoder = config.build()
    encoder.load_state_dict(checkpoint.part("model", tensors))
    return encoder.eval(), config, record["history"]


def variants(config, losses_, encoders_):
    """`config` with each of the other losses, and with each of the other encoders, a list.

    losses_: names; encoders_: name -> settings that are that encoder's own, a dict. Raises
    InputError for what is not known.
    """
    others = tuple(name for name in losses.TRAINABLE if name != config.loss)
    check.each("losses", losses_, check.one_of, others)
    named = isinstance(encoders_, dict) and encoders_
    if not named or not all(isinstance(own, dict) for own in encoders_.values()):
        raise check.InputError(f"encoders is {encoders_!r}, but must name at least one encoder with "
                               "settings of its own, or {}, as {mlstm: {}, mcnn: {batch_size: 64}}.")
    others = tuple(name for name in encoders.TRAINABLE if name != config.encoder)
    check.each("encoders", list(encoders_), check.one_of, others)
    settings = tuple(name for name in asdict(config) if name not in ("duration_max", "encoder", "loss"))
    for encoder, own in encoders_.items():
        for name in own:
            check.one_of(f"a setting of {encoder}", name, settings)
    return [*(replace(config, loss=loss) for loss in losses_),
            *(replace(config, encoder=encoder, **own) for encoder, own in encoders_.items())]


def load_published(path, encoder="mt"):
    """Load a checkpoint of the published code, a `.pth` of an encoder `mt` or `mlstm`.

    Layers and widths follow from the shapes of its weights. The published Transformer carries an
    `encoder_layer` that it never uses; it is left out. Reads numbers only, executes nothing.
    Raises InputError if it is missing, or something else.
    """
    check.one_of("encoder", encoder, ("mt", "mlstm"), ", if a published checkpoint is given")
    if not path.is_file():
        raise check.InputError(f"{path} is missing; give the path of a published checkpoint, from "
                               "the workspace's root or absolute.")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)["model"]
        weights = {name: w for name, w in weights.items() if not name.startswith("encoder_layer.")}
        model = _of_shape(weights, encoder)
        model.load_state_dict(weights)
    except Exception as error:  # whatever a foreign file makes of torch.load
        reason = " ".join(str(error).split())[:200]
        raise check.InputError(f"{paths.relative(path)} is no published checkpoint of {encoder}, a "
                               f"dict with its weights under 'model' ({reason}).") from None
    return model.eval()


def _of_shape(weights, encoder):
    """A fresh encoder of the size that the names and shapes tell."""
    def layers(prefix):
        return len({name.split(prefix)[1].split(".")[0] for name in weights if prefix in name})

    if encoder == "mlstm":
        return encoders.LSTM(layers("lstm.weight_hh_l") // 2, weights["lstm.weight_hh_l0"].shape[1])
    return encoders.Transformer(layers("encoder.layers."), len(weights["linear1.weight"]),
                                feedforward=len(weights["encoder.layers.0.linear1.weight"]))
