"""Who is a member of which model: one target's split, and the membership matrix of a fleet."""
