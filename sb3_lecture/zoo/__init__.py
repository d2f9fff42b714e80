"""The link to rl_zoo3: one table of algorithms, the commands, run folders and pictures. Imported by the scripts only."""
