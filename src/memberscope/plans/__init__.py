"""Plans of membership: the split of one target, and the membership matrix of a fleet."""
