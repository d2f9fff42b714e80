"""Card games in the terminal, and the line that train ends with."""

import numpy as np
import pytest

from sb3_lecture import CFRPlus
from sb3_lecture.zoo import cli
from sb3_lecture.zoo.errors import UserError
from sb3_lecture.zoo.human_play import play


def talk(env_id, answers, **kwargs):
    """What was printed, and the result, when the human gives these answers."""
    said, given = [], iter(answers)
    result = play(env_id, read=lambda prompt: next(given), write=said.append, **kwargs)
    return said, result


def test_a_human_plays_and_sees_the_other_card_at_the_end_only():
    said, result = talk("Lecture/KuhnPoker-v0", ["nonsense", "b", "b"], opponent="equilibrium", seed=3)
    assert said[0].startswith("You are the first player.") and "second [?]" in said[1]
    assert any("'nonsense' is no move" in line for line in said)
    assert "second [?]" not in said[-2] and said[-1] in (f"You win {result:g}.", f"You lose {-result:g}.")
    said, result = talk("Lecture/LeducPoker-v0", ["quit"], side="second", seed=1)
    assert result == 0.0 and said[-1] == "Goodbye."


def test_a_saved_strategy_is_an_opponent(tmp_path):
    CFRPlus(env="Lecture/KuhnPoker-v0", seed=0).learn(200).save(tmp_path / "kuhn")
    wins = [
        talk("Lecture/KuhnPoker-v0", ["b", "b"], opponent=str(tmp_path / "kuhn.zip"), algo="cfr_plus", seed=seed)[1]
        for seed in range(40)
    ]
    assert set(wins) <= {-2.0, 1.0, 2.0} and np.mean(wins) < 0.5
    with pytest.raises(UserError, match="plays another game"):
        talk("Lecture/LeducPoker-v0", [], opponent=str(tmp_path / "kuhn.zip"), algo="cfr_plus")
    with pytest.raises(UserError, match="no equilibrium of LeducPoker is known"):
        talk("Lecture/LeducPoker-v0", [], opponent="perfect")
    with pytest.raises(UserError, match="no such model"):
        talk("Lecture/LeducPoker-v0", [], opponent="nobody")


def test_train_ends_with_the_exploitability(tmp_path, capsys):
    assert cli.main(["train", "--algo", "cfr", "--env", "Lecture/LeducPoker-v0", "-n", "100", "-f", str(tmp_path)]) == 0
    assert "Exploitability: 0.0957 (NashConv / 2)\n" in capsys.readouterr().out
    run = tmp_path / "cfr" / "Lecture-LeducPoker-v0_1"
    assert (run / "learning_curve.png").is_file()
    assert np.load(run / "exact.npz")["exploitability"][-1] == pytest.approx(0.095716, rel=1e-4)
