"""The only package that uses MLflow: the store (`store`), a study's runs (`session`), and the `Tracker` that writes to them (`tracker`)."""
