"""The page of runs without a browser, on a folder written by hand: numbers lead to the runs' pictures and nowhere else."""

import numpy as np
import pytest
import yaml

from sb3_lecture.lab import log_folder, pages
from sb3_lecture.lab.log_folder import LogFolder, group
from sb3_lecture.lab.page import Refused, encode
from sb3_lecture.lab.pages import make_page
from sb3_lecture.zoo.plotting import mean_and_band, rolling_mean


def write_run(folder, algo, number, seed, returns, env="Lecture/Maze-v0", regrets=None):
    """A run's folder as ``train`` leaves it."""
    run = folder / algo / f"{env.replace('/', '-')}_{number}"
    (run / env.replace("/", "-")).mkdir(parents=True)
    args = {"algo": algo, "env": env, "seed": seed}
    (run / env.replace("/", "-") / "args.yml").write_text(yaml.safe_dump(args))
    (run / env.replace("/", "-") / "config.yml").write_text(yaml.safe_dump({"gamma": 0.9, "policy": "TabularPolicy"}))
    rows = "\n".join(f"{r},{10},{i}" for i, r in enumerate(returns))
    (run / "0.monitor.csv").write_text(f'#{{"t_start": 1.0, "env_id": "{env}"}}\nr,l,t\n{rows}\n')
    if regrets is not None:
        steps = np.arange(1, len(regrets) + 1) * 10
        np.savez(run / "exact.npz", timesteps=steps, values=1 - np.array(regrets), optimal_values=np.ones(len(regrets)),
                 regrets=regrets)  # fmt: skip
    return run


@pytest.fixture
def logs(tmp_path, monkeypatch):
    for seed in range(3):
        run = write_run(tmp_path, "sarsa", seed + 1, seed, np.arange(20.0) + seed, regrets=[1.0, 0.5, 0.25 * seed])
        (run / "value_map.png").write_bytes(b"picture %d" % seed)
    write_run(tmp_path, "dqn", 1, 7, [5.0] * 4)
    write_run(tmp_path, "dqn", 1, 8, [1.0], env="CartPole-v1")
    monkeypatch.setitem(pages.OPTIONS, "logs", str(tmp_path))
    log_folder._OPEN.pop(str(tmp_path), None)
    return tmp_path


def page_with(**changes):
    page = make_page("runs")
    page.set(changes)
    return page


def test_seeds_are_grouped_and_curves_are_the_plots(logs):
    state = page_with(world="Lecture/Maze-v0", window=5).state()
    assert [(g["algo"], g["n"]) for g in state["groups"]] == [("dqn", 1), ("sarsa", 3)]
    assert {(w["id"], w["runs"]) for w in state["worlds"]} == {("Lecture/Maze-v0", 4), ("CartPole-v1", 1)}
    sarsa, steps = state["groups"][1], np.arange(1, 21) * 10
    curves = [(steps.astype(float), rolling_mean(np.arange(20.0) + seed, 5)) for seed in range(3)]
    x, mean, half = mean_and_band(curves)
    assert sarsa["x"] == pytest.approx(x) and sarsa["mean"] == pytest.approx(mean)
    assert sarsa["high"] - sarsa["mean"] == pytest.approx(half)
    assert half[-1] == pytest.approx(4.3027 * 1.0 / np.sqrt(3), rel=1e-4)  # Student's t with two degrees of freedom
    assert [row["seed"] for row in sarsa["runs"]] == [0, 1, 2] and sarsa["runs"][0]["steps"] == 200


def test_exact_figures_stand_beside_the_optimum(logs):
    regret = page_with(world="Lecture/Maze-v0", figure="regret").state()["groups"]
    assert regret[1]["mean"].tolist() == pytest.approx([1.0, 0.5, 0.25]) and regret[1]["optimum"] == 0.0
    assert regret[0]["n"] == 0 and regret[0]["x"] == []  # no exact figures there
    value = page_with(world="Lecture/Maze-v0", figure="value").state()["groups"][1]
    assert value["optimum"] == 1.0 and value["mean"][-1] == pytest.approx(0.75)


def test_one_run_in_full(logs):
    page = page_with(world="Lecture/Maze-v0")
    number = page.state()["groups"][1]["runs"][2]["number"]
    page.set({"run": str(number)})
    detail = page.state()["detail"]
    assert detail["files"] == ["value_map.png"] and ["gamma", "0.9"] in detail["options"]
    assert detail["command"].endswith("--exp-id 3") and detail["seed"] == 2
    for text in ("", "99", "-1", "x", "1.5", "²"):
        assert page_with(run=text).state()["detail"] is None
    with pytest.raises(Refused):
        page.set({"run": "1" * 9})


def test_a_run_that_comes_later_moves_no_number(logs):
    page = page_with()
    before = {run.path: number for number, run in enumerate(log_folder.current().runs)}
    write_run(logs, "a2c", 1, 0, [1.0, 2.0])
    page.do("refresh")
    after = {run.path: number for number, run in enumerate(log_folder.current().runs)}
    assert len(after) == len(before) + 1 and all(after[path] == number for path, number in before.items())
    page.do("play")
    write_run(logs, "ppo", 1, 0, [1.0])
    assert [page.tick() for _ in range(30)].count(True) == 1 and len(log_folder.current().runs) == len(before) + 2


def test_curves_follow_their_files(logs):
    page = page_with(world="CartPole-v1", window=1)
    assert page.state()["groups"][0]["mean"].tolist() == [1.0]
    with open(logs / "dqn" / "CartPole-v1_1" / "0.monitor.csv", "a") as file:
        file.write("3.0,10,9\n")
    assert page.state()["groups"][0]["mean"].tolist() == [1.0, 3.0]
    (logs / "dqn" / "CartPole-v1_1" / "0.monitor.csv").write_text("nonsense")
    assert page.state()["groups"][0]["n"] == 0


def test_only_pictures_of_runs_are_found(logs, tmp_path):
    folder = log_folder.current()
    folder.scan()
    number = next(n for n, run in enumerate(folder.runs) if run.algo == "sarsa")
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    run = folder.runs[number].path
    (run / "link.png").symlink_to(secret)
    (run / "notes.txt").write_text("no picture")
    (run / "folder.png").mkdir()
    assert [path.name for path in folder.files(number)] == ["value_map.png"]
    for wrong in ((number, 1), (number, -1), (-1, 0), (99, 0)):
        with pytest.raises(IndexError):
            folder.file(*wrong)


def test_an_empty_folder_and_a_wrong_world_are_told(tmp_path, monkeypatch, logs):
    assert "no run on Nothing-v0" in page_with(world="Nothing-v0").state()["problem"]
    monkeypatch.setitem(pages.OPTIONS, "logs", str(tmp_path / "nothing"))
    state = page_with().state()
    assert "no run in" in state["problem"] and state["groups"] == [] and encode(state)


def test_damaged_runs_are_left_out(tmp_path):
    (tmp_path / "dqn" / "x_1" / "x").mkdir(parents=True)
    (tmp_path / "dqn" / "x_1" / "x" / "args.yml").write_text("no: env")
    folder = LogFolder(tmp_path)
    folder.scan()
    assert folder.runs == []
    assert group([], "episodes", 5)["n"] == 0
