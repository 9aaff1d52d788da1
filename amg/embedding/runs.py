"""Training runs as files: what decides one, where it lies, how it is read again.

`data/models/<train_set>/<encoder>-<loss>-<duration_max>s` points to the run that was last asked for
under that name (see `amg.provenance`). Inside lie `best.safetensors`, the weights of the best
epoch, and `last.safetensors`, all that is needed to continue. `amg/weights/` holds encoders that
come with the kit, as if of a training set named `shipped`.
"""

import copy
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from torch import nn

from amg import check, checkpoint, code, files, paths, provenance
from amg.check import InputError
from amg.embedding import batches, crops, encoders, losses, registry
from amg.embedding.fast import products
from amg.embedding.variations import Variation

SHIPPED = "shipped"  # in place of a training set's name


def known_settings() -> set:
    """Names of all settings: of encoders, of losses, and of what may vary."""
    classes = *encoders.registry.values(), *losses.registry.values(), Variation
    return {setting for each in classes for setting in registry.defaults(each)}


@dataclass
class Config:
    """What decides the weights, given the training set; defaults as published, but for `n_valid`.

    settings: those of the encoder's and the loss's class, by name. Each takes its own, what is not
    given keeps the class's default, and what only others know is dropped. So are those of a
    `variations.Variation` that are as published.
    """

    duration_max: int = 10  # seconds that one vector stands for
    encoder: str = "mt"
    loss: str = "amg"
    epochs: int = 50
    batch_size: int = 640  # rows
    lr: float = 1e-3  # falls to final_lr along a cosine
    final_lr: float = 1e-4
    weight_decay: float = 1e-5
    n_valid: int = 50  # the last songs
    seed: int = 0  # of weights, batches, crops and dropout
    settings: dict = field(default_factory=dict)

    def __post_init__(self):
        crops.segment_frames(self.duration_max)
        given, self.settings = self.settings, {}
        for classes in (encoders.registry, losses.registry):
            setattr(self, classes.kind, classes.canonical(getattr(self, classes.kind)))
            self.settings |= registry.settings(classes[getattr(self, classes.kind)], given)
        varied, usual = registry.settings(Variation, given), registry.defaults(Variation)
        self.settings |= {name: varied[name] for name in varied if varied[name] != usual[name]}
        known = sorted(known_settings())
        for setting in given:
            check.one_of("a setting", setting, known)
        for name in ("lr", "final_lr", "weight_decay"):
            setattr(self, name, float(check.number(name, getattr(self, name), 0, 1)))
        check.integers(1, epochs=self.epochs)
        check.integers(0, n_valid=self.n_valid)
        check.seed(self.seed)
        n_parts = batches.PARTS[self.batches]
        check.integer("batch_size", self.batch_size, 2 * n_parts if n_parts > 1 else 1)

    @property
    def variation(self) -> Variation:
        """The settings that belong to no class."""
        usual = registry.defaults(Variation)
        return Variation(**{name: self.settings.get(name, usual[name]) for name in usual})

    @property
    def batches(self) -> str:
        """What the loss's batches hold, a key of `batches.PARTS`."""
        held = getattr(losses.registry[self.loss], "batches", None)
        return check.one_of(f"the attribute batches of {self.loss}", held, batches.PARTS)

    @property
    def name(self) -> str:
        """Encoder, loss and duration, as `mt-amg-10s`."""
        return f"{self.encoder}-{self.loss}-{self.duration_max}s"

    @property
    def differs(self) -> str:
        """What is not as published, for people: `epochs12-layers2`."""
        published = Config(self.duration_max, self.encoder, self.loss)
        own, usual = ({**asdict(config), **config.settings} for config in (self, published))
        words = [
            f"{name}{value}"
            for name, value in own.items()
            if name != "settings" and value != usual.get(name)
        ]
        return re.sub(r"[^\w.+-]", "", "-".join(words))


def start(config, fingerprinter) -> Path | None:
    """The checkpoint that a training continues, None if it begins anew. InputError if it is
    missing, or of another fingerprinter; fingerprinter: its digest, None if not known."""
    name = config.variation.start
    if name == "":
        return None
    check.texts(start=name)
    file = paths.resolve(f"data/models/{name}") / "best.safetensors"
    if not file.is_file():
        raise InputError(
            f"start is {name!r}, but {paths.relative(file)} is missing; give a training set and a "
            "run of it, as open_music/mt-amg-10s, or train it first."
        )
    record = files.read_json(provenance.record_of(file.parent.resolve())) or {}
    if record.get("inputs", {}).get("fingerprinter", fingerprinter) != fingerprinter:
        raise InputError(
            f"start is {name!r}, which learnt the fingerprints of another fingerprinter; continue "
            "a run of this one's."
        )
    return file


def recipe(config, content, fingerprinter, device, own=(), continued=None) -> provenance.Recipe:
    """All that decides a run. content, fingerprinter: as the `TrainingSet` has them; own: the
    functions that `training.Run` is given, by name; continued: file of the weights that it begins
    with, if they are not drawn."""
    inputs = {
        "training set": content,
        "fingerprinter": fingerprinter,
        **encoders.registry.source(config.encoder),
        **losses.registry.source(config.loss),
    }
    inputs |= {"start": files.sha256(continued)} if continued else {}
    on_cpu = "bfloat16 products" if products.rounded_here() else "float32"
    precision = "bfloat16 autocast" if device == "cuda" else on_cpu
    classes = encoders.registry[config.encoder], losses.registry[config.loss]
    modules = [base.__module__ for cls in classes for base in cls.__mro__]
    made_by = code.of(
        "amg.embedding.training", *(name for name in modules if name.split(".")[0] == "amg")
    )
    made_by |= {name: code.of_own(function) for name, function in dict(own).items()}
    computed = {"device": device, "precision": precision}
    return provenance.Recipe("run", asdict(config), inputs, computed, made_by)


def path(train_set, config) -> Path:
    """The name under which such runs lie; InputError if that of the training set is not allowed."""
    check.texts(train_set=train_set)
    return paths.resolve(f"data/models/{train_set}/{config.name}")


@dataclass(frozen=True)
class Trained:
    """A trained encoder and the run that it comes from."""

    encoder: nn.Module  # in eval mode, with the weights of the best epoch
    config: Config
    history: list  # a dict per epoch, up to that one
    name: str  # of the run's folder
    finished: bool
    fingerprinter: str | None = None  # digest of the one it was trained on; None: not known

    @property
    def described(self) -> str:
        """Its name, epochs and layers, for people."""
        return describe(self.name, vars(self.config)) if self.config else self.name


def describe(name, config) -> str:
    """A run by its name, and by fields of its Config: epochs and layers, for people."""
    layers = config["settings"].get("layers")
    return f"{name} ({config['epochs']} epochs{f', layers: {layers}' if layers else ''})"


def find(
    train_set, encoder="mt", loss="amg", duration_max=10, unfinished=False, folder=None
) -> Trained:
    """The run that these names stand for, or that in a `folder`; of the training set `shipped`, the
    kit's.

    They stand for the one that was last asked for, or, if there is any, the last that was no try.
    Raises InputError if there is none, if its checkpoint is damaged or of something else, or if it
    is unfinished (unless that is asked for).
    """
    wanted = Config(duration_max, encoder, loss)
    if train_set == SHIPPED:
        file, name, finished, inputs = shipped(wanted.name), f"shipped {wanted.name}", True, {}
    else:
        run = provenance.find(folder or path(train_set, wanted), "03_train", unfinished)
        file, name, finished = run.folder / "best.safetensors", run.folder.name, run.finished
        inputs = run.record.get("inputs", {})
    if not file.is_file():
        raise InputError(f"{paths.relative(file)} is missing; run notebook 03_train first.")
    weights, record = checkpoint.load(file, "config", "history")
    inputs = record.get("inputs", inputs)
    try:
        config = Config(**record["config"])
    except TypeError:  # of another program, or an older version of this one
        config = None
    if config is None or config.name != wanted.name:
        raise InputError(
            f"{paths.relative(file)} holds another run than {wanted.name}; move it "
            "away and run notebook 03_train."
        )
    of_data = inputs.get("training set"), inputs.get("fingerprinter")
    of_classes = {name: digest for name, digest in inputs.items() if name != "start"}
    if inputs and of_classes != recipe(config, *of_data, "").inputs:
        raise InputError(
            f"{name} was trained with another class of the name {encoder} "
            f"or {loss} than the one registered now; train it again, or give notebook "
            "04_evaluate the run that it shall take."
        )
    model = load_weights(encoders.build(config), checkpoint.part("model", weights), file)
    return Trained(
        model.eval(), config, record["history"], name, finished, inputs.get("fingerprinter")
    )


def shipped(name) -> Path:
    """Where weights lie that come with the kit, by the `name` of their Config."""
    return Path(__file__).parents[1] / "weights" / f"{name}.safetensors"


def ship(run, data, card) -> Path:
    """Write a `Trained`'s half-precision weights and their model card to `amg/weights/`.

    data: the `TrainingSet` it was trained on; card: a JSON-able dict.
    """
    file, model = shipped(run.config.name), copy.deepcopy(run.encoder).half()
    inputs = recipe(run.config, data.content, data.fingerprinter, "").inputs
    checkpoint.save(
        file,
        model.state_dict(prefix="model."),
        {"config": asdict(run.config), "history": run.history, "inputs": inputs},
    )
    files.write_json(file.with_suffix(".json"), {"sha256": files.sha256(file), **card})
    return file


def load_weights(module, weights, file) -> nn.Module:
    """Put `weights` (name -> tensor) of a file into a module; InputError if they do not fit."""
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(
            f"the weights of {paths.relative(file)} do not fit "
            f"({' '.join(str(error).split())[:200]}); train it again."
        ) from None
    return module
