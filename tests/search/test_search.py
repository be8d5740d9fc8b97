"""`python -m convpose.search` in this process: messages, folders, records, continuation."""

import json
import re
import shlex
from pathlib import Path
from wsgiref.util import setup_testing_defaults

import optuna
import optuna_dashboard
import pytest
from omegaconf import OmegaConf
from optuna.trial import TrialState
from tiny import composed, history

from convpose.config.application import USER_ERRORS, explain
from convpose.errors import ConfigError, ModelError
from convpose.plot.tables import percent
from convpose.search.storage import open_storage

pytestmark = pytest.mark.slow
JOURNAL = "storage=journal:///runs/s/study.journal"  # opens faster than sqlite


def study(url: str = JOURNAL) -> optuna.Study:
    return optuna.load_study(study_name="s", storage=open_storage(url.partition("=")[2], 30, 2))


def states() -> list[str]:
    return [trial.state.name for trial in study().trials]


LRR = "{_target_:optuna.distributions.FloatDistribution,low:0.1,high:1}"
REFUSED = {
    "search=optimiser": "search=optimiser: no such option; did you mean optimizer?",
    "storage=mysql://host/db": "storage=mysql://host/db: unknown storage; type sqlite:///FILE, jou",
    "ckpt_path=last": "ckpt_path=last: trials start anew; leave it out",
    "trainer.devices=2": "trainer.devices=2 trainer.strategy=auto: each worker of a search has one",
    "optimizer.lr=0.1": "optimizer.lr=0.1: the search chooses optimizer.lr; leave it out, or type "
    "~search.parameters.optimizer.lr",
    "search.parameters.optimizer.lr.low=2": "search.parameters.optimizer.lr: `low <= high` must",
    f"+search.parameters.optimizer.lrr={LRR}": "search.parameters: unknown key optimizer.lrr; did "
    "you mean optimizer.lr?\nkeys there: lr, momentum",
    "search.parameters.data.batch_size.choices=[4,4.5]": "search.parameters: data.batch_size=4.5: "
    "expected a whole number",
    "sampler=grid": "search.parameters.optimizer.lr: a grid needs values; give the range a step",
    "sampler.n_startup_trials=x": "sampler.n_startup_trials=x: expected a whole number",
    "pruner.n_warmup_steps=-1": "pruner: Number of warmup steps cannot be negative",
}


@pytest.mark.parametrize("override", REFUSED)
def test_refused_in_one_message_and_nothing_left(override, set_up):
    with pytest.raises(USER_ERRORS) as error:
        set_up(override)
    message = explain(error.value)
    assert REFUSED[override] in message
    assert len(message.splitlines()) <= 4, message
    assert not list(Path.cwd().rglob("*")), "no study and no file is left"


def test_data_that_are_not_there_are_missed_before_the_first_trial(search):
    ended = search("data.source=/nope.zip", "model.width=0.0625", "trainer=cpu", base=())
    assert ended.code == 2
    assert ended.err.startswith("error: data.source=/nope.zip: no such file or folder")
    assert not list(Path.cwd().rglob("*"))


@pytest.mark.parametrize("package", ["optuna", "sklearn"])
def test_the_packages_are_an_extra(package, search, monkeypatch):
    monkeypatch.setattr("convpose.errors.find_spec", lambda name: None if name == package else 1)
    ended = search()
    message = f"error: {package} is not installed; type pip install 'convpose[search]'\n"
    assert (ended.code, ended.err) == (2, message)


def test_every_trial_is_an_ordinary_run(search):
    ended = search(JOURNAL, "trials=2", "trainer.max_epochs=1", "callbacks.preview=null")
    assert ended.code == 0, ended.err
    first, second = (Path("runs/s") / t.user_attrs["run"] for t in study().trials)
    assert re.fullmatch(r"000_lr-[\d.e-]+\+bs-\d\+dropout-[\d.]+", first.name)
    assert second.name != first.name
    for trial, folder in zip(study().trials, (first, second), strict=True):
        assert trial.state == TrialState.COMPLETE
        assert trial.value == max(row["val/pck@0.2"] for row in history(folder))
        cfg = OmegaConf.load(folder / "config.yaml")
        assert cfg.optimizer.lr == pytest.approx(trial.params["optimizer.lr"], rel=1e-10)
        assert cfg.data.batch_size == trial.params["data.batch_size"]
        assert "search" not in cfg
        assert "${" not in (folder / "config.yaml").read_text()
        assert cfg.study == "s"
        run = json.loads((folder / "run.json").read_text())
        assert (run["search"], run["trial"], run["state"]) == ("s", trial.number, "complete")
        assert run["choices"]["optimizer"] == "sgd"
        assert {"metrics.csv", "metrics.json", "layers.md", "splits.json"} <= {
            path.name for path in folder.iterdir()
        }
        assert list(folder.glob("events.out.tfevents.*"))
    assert (
        f"trial 1  complete  PCK@0.2 {percent(study().trials[1].value)} %  optimizer.lr="
        in ended.out
    )


def test_the_command_of_the_best_trains_the_same(search, trainings):
    ended = search(JOURNAL, "trials=4")
    assert ended.code == 0
    best = max(trainings.configs, key=lambda cfg: cfg.optimizer.lr)
    (line,) = re.findall(r"^  python -m convpose\.train (.*)$", ended.out, re.MULTILINE)
    overrides = shlex.split(line)
    again = composed("train", *overrides)
    assert again.study == "s_best"
    again.study = best.study
    assert OmegaConf.to_yaml(again) == OmegaConf.to_yaml(best)
    assert "s: the best 4 of 4 completed trials" in ended.out
    assert "importance (fANOVA)" in ended.out
    assert "optimizer.lr" in ended.out.partition("importance (fANOVA)")[2]


def test_the_same_command_continues_and_the_dashboard_reads_the_study(search, trainings):
    assert search("trials=1").code == 0
    assert len(trainings.configs) == 1
    url = f"storage=sqlite:///{Path.cwd()}/runs/s/study.db"  # the default's
    assert search("trials=2", url).code == 0
    assert len(trainings.configs) == 2, "the first trial is not repeated"
    values = [trial.value for trial in study(url).trials]
    assert values == pytest.approx([cfg.optimizer.lr for cfg in trainings.configs])
    assert len(set(values)) == 2

    other = search("trials=2", url, "trainer.max_epochs=9")
    assert other.code == 2
    assert "study=s was begun with trainer.max_epochs=2, not 9; type study=ANOTHER" in other.err

    app = optuna_dashboard.wsgi("sqlite:///runs/s/study.db")
    request: dict[str, object] = {"PATH_INFO": "/api/studies"}
    setup_testing_defaults(request)
    status = []
    body = b"".join(app(request, lambda code, headers, error: status.append(code)))
    assert status == ["200 OK"]
    (summary,) = json.loads(body)["study_summaries"]
    assert summary["study_name"] == "s"


def test_a_failed_trial_is_recorded_and_the_search_goes_on(search, trainings):
    errors = [ModelError("out of memory\nhalve it"), RuntimeError("a defect"), None]

    def fail(cfg):
        if error := errors.pop(0):
            raise error

    trainings.then = fail
    ended = search(JOURNAL, "trials=3")
    assert ended.code == 0
    assert states() == ["FAIL", "FAIL", "COMPLETE"]
    assert [t.user_attrs.get("error") for t in study().trials] == [
        "out of memory",
        "a defect",
        None,
    ]
    folder = Path("runs/s") / study().trials[1].user_attrs["run"]
    assert (folder / "error.txt").read_text().startswith("a defect\n\nTraceback")
    assert json.loads((folder / "run.json").read_text())["state"] == "failed"
    assert "trial 0  fail  optimizer.lr=" in ended.out
    assert "(out of memory)" in ended.out
    assert "study s: 1 complete, 2 fail" in ended.out


def test_no_trial_is_completed(search, trainings):
    def fail(cfg):
        raise ConfigError("model: too wide")

    trainings.then = fail
    ended = search(JOURNAL, "trials=2")
    assert ended.code == 2
    last = "error: study=s: no trial was completed; the last error: model: too wide"
    assert ended.err.splitlines()[-1] == last


def test_an_interrupted_trial_goes_on_in_its_folder(search, trainings):
    ends = [None, SystemExit(143)]

    def interrupt(cfg):
        if ends and (error := ends.pop(0)):
            raise error

    trainings.then = interrupt
    assert search(JOURNAL, "trials=3").code == 143
    assert states() == ["COMPLETE", "FAIL", "WAITING", "WAITING"]
    ended = search(JOURNAL, "trials=3")
    assert ended.code == 0
    assert states() == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    lost, again = study().trials[1], study().trials[3]
    assert again.params == lost.params
    assert again.user_attrs["run"] == lost.user_attrs["run"]
    assert [cfg.ckpt_path for cfg in trainings.configs] == [None, None, "last", None]
    assert "study s: 3 complete; interrupted or lost, and taken up again: 1" in ended.out


def test_no_trial_begins_after_the_timeout(search, trainings):
    ended = search(JOURNAL, "trials=3", "timeout_s=1e-9")
    assert trainings.configs == []
    assert ended.code == 2
    assert states() == ["WAITING"] * 3


def test_a_group_can_be_searched(search, trainings):
    optimizers = "{_target_:optuna.distributions.CategoricalDistribution,choices:[sgd,adamw]}"
    ended = search(
        *(JOURNAL, "trials=9", "sampler=grid", "~search.parameters.model"),
        *("~search.parameters.optimizer", f"+search.parameters.optimizer={optimizers}"),
    )
    assert ended.code == 0, ended.err
    targets = [cfg.optimizer._target_ for cfg in trainings.configs]
    assert sorted(targets) == ["torch.optim.AdamW"] * 2 + ["torch.optim.SGD"] * 2
    points = {(cfg.optimizer._target_, cfg.data.batch_size) for cfg in trainings.configs}
    assert len(points) == 4, "every point once, however many trials"


@pytest.mark.parametrize(
    ("script", "printed"),
    [
        ("exit 3", "worker 1 ended with 3, see runs/s/worker-1.log\n"),
        (
            "kill -9 $$",
            "worker 1 was killed by SIGKILL, see runs/s/worker-1.log; started again\n"
            "worker 1 was killed by SIGKILL, see runs/s/worker-1.log\n",
        ),
    ],
    ids=["failed", "killed"],
)
def test_workers_that_end_early(script, printed, search, trainings, monkeypatch):
    stub = Path("worker.sh")
    stub.write_text(f'#!/bin/sh\necho "$@"\n{script}\n')
    stub.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(stub.resolve()))
    monkeypatch.setattr("convpose.search.command.POLL_S", 0.01)
    ended = search(JOURNAL, "trials=3", "workers=2", "retries=1")
    assert ended.code == 2
    assert printed in "".join(line for line in ended.out.splitlines(True) if "worker 1" in line)
    assert ended.err == (
        "error: the workers ended with 3 trials left; see runs/s/worker-1.log, "
        "runs/s/worker-2.log\n"
    )
    started = Path("runs/s/worker-2.log").read_text().splitlines()[0]
    assert started.startswith("-m convpose.search data=synthetic")
    assert started.endswith("trials=3 workers=2 retries=1 workers=1 worker=2")
