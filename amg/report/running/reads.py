"""What each notebook reads and makes: functions of its parameters, each a list of paths."""

import yaml

from amg import files, paths, provenance
from amg.embedding import chosen, encoders, losses, runs
from amg.fingerprint import nafp
from amg.retrieval import databases


def _folder(p):
    beside = [f"{p['folder']}/../fma_metadata"] if p["corpus"] == "fma" else []
    return [p["folder"], *beside] if p["corpus"] in ("folder", "fma") else []


def _weights(p):
    return [p["fingerprinter"] or str(nafp.shipped())]  # absolute, wherever the workspace is


def _train_set(p):
    return [f"data/train/{p['train_set']}"]


def _own(p):
    own = p["own_module"]
    return [str(paths.checkout() / "notebooks" / f"{own}.py")] if own else []


def _start(p):
    start = p["settings"].get("start")
    return [f"data/models/{start}"] if start else []


def _songs(p):
    """A database of notebook 01 is one thing. Of one from elsewhere the songs count, since notebook
    02 writes beside them."""
    root = paths.resolve(p["database"])
    if provenance.is_ours(root) or not root.exists():
        return [p["database"]]
    return [
        f"{p['database']}/{part}" for part in (databases.DUMMY, databases.TEST, databases.QUERY)
    ]


def _trials(p):
    return [f"{p['database']}/trials.csv"]


def _split(p):
    """What notebook 02 makes: segments and trials."""
    root, whole = paths.Path(p["database"]), (databases.DUMMY, databases.TEST)
    durations = p["durations"] if "durations" in p else [p["duration_max"]]
    segments = [databases.split_folder(root / part, d) for d in durations for part in whole]
    return [*map(str, segments), *_trials(p)]


def _run(p, **change):
    p = {"loss": "amg", **p, **change}
    name = f"{p['encoder']}-{losses.registry.canonical(p['loss'])}-{p['duration_max']}s"
    if p["train_set"] == runs.SHIPPED:
        return [str(runs.shipped(name))]
    return [f"data/models/{p['train_set']}/{name}"]


def _runs(p):
    """One for each duration, or a checkpoint from elsewhere, those beside it, and the songs that it
    is tested by."""
    named = p["train_set"], p["run"], p["encoder"], p["loss"], p["durations"]
    own = chosen.named(*named) if p["run"] else {}
    usual = [] if p["checkpoint"] else [(p["encoder"], d) for d in p["durations"] if d not in own]
    usual += [(e, d) for e in p["others"] for d in p["durations"]]
    of_kit = [
        path
        for e, d in usual
        if encoders.needs_training(e)
        for path in _run(p, encoder=e, duration_max=d)
    ]
    paths_of_own = [str(paths.relative(folder)) for folder in own.values()]
    return [*paths_of_own, *of_kit, *filter(None, [p["checkpoint"], p["test_ids"]])]


def _run_of_another(p):
    return _run(p, train_set=p["encoder_of"] or p["train_set"])


def _trained(p):
    trained = filter(encoders.needs_training, p["encoders"])
    return [path for name in trained for path in _run(p, encoder=name)]


def _said(file):
    """The mapping in a YAML file; {} if it holds none, of which the notebook tells."""
    try:
        return _mapping(yaml.safe_load(file.read_text()))
    except (OSError, yaml.YAMLError):
        return {}


def _mapping(said):
    return said if isinstance(said, dict) else {}


def _sweep(p):
    """Its file, that of its profile, their data, own modules and runs that they continue, and the
    records of the cells that failed, of which each try writes another."""
    notebooks = paths.checkout() / "notebooks"
    file = notebooks / paths.Path(p["sweep"]).expanduser()
    sweep = _said(file)
    profile = notebooks / "profiles" / f"{p['profile'] or sweep.get('profile')}.yaml"
    sections = _said(profile)
    given = {"train_set": profile.stem, "database": f"database/{profile.stem}"}
    for part in (*map(sections.get, ("all", "03_train", "04_evaluate")), sweep.get("all")):
        given |= _mapping(part)
    cells, grid = (_mapping(sweep.get(name)) for name in ("cells", "grid"))
    own = [*map(_mapping, cells.values())]
    own += [{name: each} for name, of in grid.items() if isinstance(of, list) for each in of]
    cells = [given, *(given | cell for cell in own)]
    used = []
    for cell in cells:
        settings = cell.get("settings") or {}
        used += _train_set(cell) + _own({"own_module": "", **cell})
        used += _start({"settings": {**settings, **cell}})
    records = paths.resolve(f"reports/{p['report']}/cells").glob("*.json")
    failed = [path for path in records if (files.read_json(path) or {}).get("failed")]
    data = [*_songs(given), *_trials(given)]
    failed = [str(paths.relative(path)) for path in failed]
    return [str(file), str(profile), *data, *dict.fromkeys(used), *failed]


READS = {
    "00_fingerprinter": [_folder],
    "01_data_prep": [_weights, _folder],
    "02_split": [_songs],
    "03_train": [_train_set, _own, _start],
    "04_evaluate": [_songs, _split, _runs, _own],
    "05_ablations": [_sweep],
    "06_robustness": [_weights, _songs, _trials, _trained],
    "07_unknown_songs": [_songs, _split, _train_set, _run_of_another],
    "08_scale": [_songs, _split, _trained],
    "10_explore": [_songs, lambda p: [p["own"], p["catalogue"]] if p["own"] else []],
    "11_rivals": [_songs, _trials, _train_set],
    "12_lift": [_songs, _split, _train_set, _run],
}
MAKES = {  # besides tables and figures
    "00_fingerprinter": [lambda p: [f"data/models/{p['name']}"]],
    "01_data_prep": [lambda p: [*(_train_set(p) if p["n_train"] > 0 else []), p["database"]]],
    "02_split": [_split],
    "03_train": [lambda p: [] if chosen.tried(p["report"]) else _run(p)],
}
RUNS = {"05_ablations": ("03_train", "04_evaluate")}  # notebooks that one runs
NOTEBOOKS = tuple(READS)
