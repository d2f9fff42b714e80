"""The KL penalty of RLHF as a VecEnvWrapper, for plain SB3 PPO or any other policy-gradient method of Stable-Baselines3.

    env = KLPenalty(make_vec_env("sb3_lecture_envs:Lecture/Text-v0", 32), reference=sft.policy, beta=0.5)
    model = PPO("MlpPolicy", env, gamma=1.0)
    env.charge(model.policy)
    model.learn(200_000)

Each token's reward is r − β (log π(a|s) − log π_SFT(a|s)) (Ouyang et al. 2022, eq. 2): the k1 estimate, whose gradient is that
of the KL.
"""

from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sb3_lecture.common.checks import Real

__all__ = ["KLPenalty"]


class KLPenalty(VecEnvWrapper):
    """Charge a policy for leaving a frozen one.

    ``infos[i]["log_ratio"]`` is what was charged for, ``infos[i]["env_reward"]`` the reward without it.

    :param venv: the envs
    :param reference: π_SFT, an SB3 policy with ``get_distribution``, such as an ``SFT`` model's
    :param beta: β, what a nat of KL costs
    :raises ValueError: if ``beta`` is below 0, NaN or infinite
    """

    def __init__(self, venv: VecEnv, reference: Any, beta: float) -> None:
        Real(0).check("beta", beta)
        super().__init__(venv)
        self.reference, self.beta = reference, beta
        self.policy: Any = None
        self._observations: Any = None
        self._log_ratio = np.zeros(venv.num_envs)

    def charge(self, policy: Any) -> None:
        """Say whose steps are charged for.

        :param policy: the policy that learns, with ``get_distribution``
        """
        self.policy = policy

    def reset(self) -> VecEnvObs:
        """Start every env."""
        self._observations = self.venv.reset()
        return self._observations

    @th.no_grad()
    def step_async(self, actions: np.ndarray) -> None:
        """Note log π(a|s) − log π_SFT(a|s), then step.

        :raises ValueError: if ``charge`` was not called
        """
        if self.policy is None:
            raise ValueError("KLPenalty does not know whose steps it charges for: call env.charge(model.policy) before learn")
        logs = []
        for policy in (self.policy, self.reference):
            tensor = policy.obs_to_tensor(self._observations)[0]
            chosen = th.as_tensor(actions, device=policy.device)
            logs.append(policy.get_distribution(tensor).log_prob(chosen).cpu().numpy())
        self._log_ratio = logs[0] - logs[1]  # [n_envs]
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Step, and charge."""
        self._observations, rewards, dones, infos = self.venv.step_wait()
        for info, ratio, reward in zip(infos, self._log_ratio, rewards, strict=True):
            info["log_ratio"], info["env_reward"] = float(ratio), float(reward)
        return self._observations, rewards - self.beta * self._log_ratio, dones, infos
