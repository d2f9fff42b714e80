"""Games of chance and hidden information."""
