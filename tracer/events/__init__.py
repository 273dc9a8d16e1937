"""Records: what sources yield and the model takes in."""
