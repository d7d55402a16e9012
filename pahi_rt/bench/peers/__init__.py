"""Other ways to draw one-step pictures, to compare with."""
