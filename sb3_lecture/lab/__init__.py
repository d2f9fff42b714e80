"""The lab: the demos of the lectures live in a browser. ``sb3-lecture lab`` starts it; a leaf, as the zoo is."""
