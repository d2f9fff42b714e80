"""Two-player board games: batched pure rules, a Gymnasium env over any of them, and exact players that grade the learners."""
