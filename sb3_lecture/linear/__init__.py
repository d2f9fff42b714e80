"""Linear function approximation: weights on fixed features, tiles above all."""
