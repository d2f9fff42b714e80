"""Learning from demonstrations, comparisons and rankings of people: SFT, reward models, RLHF, DPO, preference rewards."""
