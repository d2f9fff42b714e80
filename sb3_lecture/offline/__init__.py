"""Learning from data alone: data sets, and the learners that see nothing else."""
