"""One audit: attacks on slices, their metrics, the controls, and everything that is logged about them."""
