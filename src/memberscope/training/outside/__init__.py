"""Trainers from outside: a user's training function, or a class with scikit-learn's interface, from a file or an installed package."""
