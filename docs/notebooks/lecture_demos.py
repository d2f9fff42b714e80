# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # The demos of lecture 9
# Treasure line, maze and cart-pole, small enough for a laptop. `make notebooks` makes an executed .ipynb of this file.

# %%
import gymnasium as gym
import numpy as np
from stable_baselines3 import DQN

from sb3_lecture import REINFORCE, QLearning
from sb3_lecture.common.describe_callback import DescribeEpisodesCallback
from sb3_lecture.exact import exact_evaluation

# %% [markdown]
# ## Q-learning finds the treasure
# Steps an episode fall; the table tends to γ^(steps to go − 1).

# %%
line = QLearning("TabularPolicy", "Lecture/TreasureLine-v0", learning_rate=0.5, gamma=0.9, seed=0)
line.learn(500, callback=DescribeEpisodesCallback(every=10))
print(np.round(line.q_table, 2))

# %% [markdown]
# ## DQN on the maze
# Too few steps to solve it; the exact value says how far it got.

# %%
maze = gym.make("Lecture/Maze-v0")
model = DQN("MlpPolicy", maze, learning_starts=100, target_update_interval=100, gamma=0.9, seed=0, device="cpu")
print("before:", exact_evaluation(model, maze).regret)
model.learn(1_000)
print("after: ", exact_evaluation(model, maze).regret)

# %% [markdown]
# ## REINFORCE balances the pole

# %%
pole = REINFORCE("MlpPolicy", "CartPole-v1", learning_rate=5e-3, normalize_returns=True, seed=0, device="cpu")
pole.learn(2_000, callback=DescribeEpisodesCallback(every=20))
