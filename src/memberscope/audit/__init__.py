"""One audit: attacks on slices, their metrics, the controls, the gate, and all that is logged of it."""
