"""Learners that differentiate log π: REINFORCE, the actor-critic and PPO with a KL penalty."""
