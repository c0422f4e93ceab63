"""MLflow, and only here: the store (`store`), a study's runs (`session`), and the `Tracker` over them (`tracker`)."""
